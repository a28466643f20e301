//! Something in the place of mcpctl-server that does one thing.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tests::http1::Connection;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// What it does with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    /// Answers well.
    Good,
    /// Answers with this status and an error of the server's form.
    Status(u16),
    /// Nobody listens.
    Refuses,
    /// Takes the request and never answers.
    Silent,
    /// Closes before anything of the answer's body is out.
    CutBefore,
    /// Closes in the middle of the answer's body.
    CutAfter,
}

/// A stub until it is dropped.
pub(super) struct StubServer {
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
    /// Keeps the port where nobody listens from being given to somebody else.
    _taken: Option<TcpSocket>,
}

impl StubServer {
    pub(super) async fn start(conduct: Conduct) -> Self {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if conduct == Conduct::Refuses {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(here).unwrap();
            return Self { address: socket.local_addr().unwrap(), task: None, _taken: Some(socket) };
        }
        let listener = TcpListener::bind(here).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, conduct));
                }
            }
        });
        Self { address, task: Some(task), _taken: None }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StubServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(stream: TcpStream, conduct: Conduct) -> Option<()> {
    let mut connection = Connection::new(stream);
    let head = connection.head().await.ok()??;
    let mut body = Vec::new();
    connection.body(&head, false, &mut body).await.ok()?;
    let streams = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["stream"] == true);
    let (head, body) = answer(conduct, streams);
    match conduct {
        Conduct::Silent => connection.closed().await,
        // A stream has its headers out when it breaks, a whole answer nothing at all.
        Conduct::CutBefore if streams => connection.write(head.as_bytes()).await.ok()?,
        Conduct::CutBefore | Conduct::Refuses => {}
        Conduct::CutAfter => {
            let middle = if streams { body.find("\n\n").map_or(0, |end| end + 2) } else { body.len() / 2 };
            connection.write(format!("{head}{}", &body[..middle]).as_bytes()).await.ok()?;
        }
        Conduct::Good | Conduct::Status(_) => {
            connection.write(format!("{head}{body}").as_bytes()).await.ok()?
        }
    }
    Some(())
}

fn answer(conduct: Conduct, streams: bool) -> (String, String) {
    let (status, kind, body) = match conduct {
        // `HEAD` is answered like this too, where a body would be read as the next answer: none is read.
        Conduct::Status(status @ (200 | 204)) => (status, "application/json", String::new()),
        Conduct::Status(status) => {
            (status, "application/json", json!({"error": format!("the server says {status}")}).to_string())
        }
        _ if streams => {
            let chunk =
                |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
            (200, "text/event-stream", format!("{}{}data: [DONE]\n\n", chunk("pri"), chunk("mary")))
        }
        _ => {
            let answer = json!({"choices": [{"message": {"role": "assistant", "content": "primary"}}]});
            (200, "application/json", answer.to_string())
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    (head, body)
}
