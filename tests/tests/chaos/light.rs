//! A provider that is light enough for thousands of streams: it does what the request's `user` says, and remembers
//! nothing but who is waited for.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tests::http1::Connection;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// The provider, until it is dropped.
pub(super) struct Light {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// Those who want to know when a request is there, and when its caller has gone.
    visits: Mutex<HashMap<u64, LookOut>>,
    connections: AtomicUsize,
    answered: AtomicUsize,
}

/// Whom to tell that a request is there, and that its caller has gone.
type LookOut = (oneshot::Sender<()>, oneshot::Sender<Instant>);

/// A request that will come.
pub(super) struct Visit {
    pub(super) arrived: oneshot::Receiver<()>,
    /// When the connection was closed from the other side.
    pub(super) gone: oneshot::Receiver<Instant>,
}

/// What the provider does with a request.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    /// Never answers.
    Hang,
    /// Answers at once.
    Answer,
    /// Streams so many events, one every so many milliseconds.
    Tick(u64, u64),
}

impl Deed {
    /// As the request's `user`, with a number to know the request by.
    pub(super) fn user(self, number: u64) -> String {
        match self {
            Self::Hang => format!("hang 0 0 {number}"),
            Self::Answer => format!("answer 0 0 {number}"),
            Self::Tick(millis, count) => format!("tick {millis} {count} {number}"),
        }
    }

    /// What is asked for in a request's body, and the request's number.
    fn read(body: &[u8]) -> Option<(Self, u64)> {
        let at = memchr::memmem::find(body, br#""user":""#)? + 8;
        let end = at + memchr::memchr(b'"', body.get(at..)?)?;
        let mut words = std::str::from_utf8(body.get(at..end)?).ok()?.split(' ');
        let word = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (millis, count, number) = (number()?, number()?, number()?);
        let deed = match word {
            "hang" => Self::Hang,
            "answer" => Self::Answer,
            _ => Self::Tick(millis, count),
        };
        Some((deed, number))
    }
}

/// One event of the stream `number`.
pub(super) fn event(number: u64, step: u64) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
         \"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Grüße {step} 🦀\"}},\
         \"finish_reason\":null}}]}}\n\n"
    )
}

/// What ends the stream `number`.
pub(super) fn end(number: u64) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
         \"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: [DONE]\n\n"
    )
}

/// The whole answer `number`.
pub(super) fn answer(number: u64) -> String {
    format!(
        "{{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"Grüße {number} 🦀\"}},\
         \"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":5,\"total_tokens\":14}}}}"
    )
}

impl Light {
    pub(super) fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Thousands may come at once.
        let listener = socket.listen(4096).unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let state = shared.clone();
                tokio::spawn(async move {
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    // What goes wrong on one connection is the other side's doing.
                    let _ = serve(stream, &state).await;
                    state.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, state, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many answers were finished.
    pub(super) fn answered(&self) -> usize {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// Looks out for the request `number`.
    pub(super) fn expect(&self, number: u64) -> Visit {
        let ((arrived, has_arrived), (gone, has_gone)) = (oneshot::channel(), oneshot::channel());
        self.state.visits.lock().unwrap().insert(number, (arrived, gone));
        Visit { arrived: has_arrived, gone: has_gone }
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(head) = connection.head().await? {
        let mut body = Vec::new();
        connection.body(&head, false, &mut body).await?;
        let (deed, number) = Deed::read(&body).unwrap_or((Deed::Answer, 0));
        let visit = state.visits.lock().unwrap().remove(&number);
        let gone = visit.map(|(arrived, gone)| {
            let _ = arrived.send(());
            gone
        });
        let finished = match deed {
            Deed::Hang => {
                connection.closed().await;
                false
            }
            Deed::Answer => {
                let body = answer(number);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                connection.write(&[head.as_bytes(), body.as_bytes()].concat()).await.is_ok()
            }
            Deed::Tick(millis, count) => tick(&mut connection, number, millis, count).await,
        };
        if !finished {
            // Whoever looked out for it may not wait any more.
            let _ = gone.map(|gone| gone.send(Instant::now()));
            return Ok(());
        }
        state.answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Streams; says whether to the end.
async fn tick(connection: &mut Connection, number: u64, millis: u64, count: u64) -> bool {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut clock = interval(Duration::from_millis(millis.max(1)));
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut out = HEAD.to_owned();
    for step in 0..=count {
        if step < count {
            let event = event(number, step);
            out.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
        } else {
            let end = end(number);
            out.push_str(&format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()));
        }
        tokio::select! {
            biased;
            () = connection.closed() => return false,
            _ = clock.tick() => {}
        }
        if connection.write(out.as_bytes()).await.is_err() {
            return false;
        }
        out.clear();
    }
    true
}
