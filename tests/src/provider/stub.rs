//! The stub's socket, and what it remembers.

use std::{
    io::Result,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Fault,
    script::{REST, Step, script},
};
use crate::{http1::Connection, wait::eventually};

/// A provider on a free port of loopback, until it is dropped.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    fault: Mutex<Option<Fault>>,
    redirect: Mutex<String>,
    received: Mutex<Vec<Received>>,
    hung_up: Mutex<Vec<Instant>>,
    flooded: AtomicUsize,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it was there in full.
    pub at: Instant,
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// As it is shown to test programs in other languages.
    fn shown(&self) -> Value {
        let headers: Map<String, Value> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let body = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        json!({"method": self.method, "path": self.path, "headers": headers, "body": body})
    }

    /// Everything in it as one text, to search in.
    pub fn text(&self) -> String {
        format!("{} {} {:?} {}", self.method, self.path, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Provider {
    /// A provider that answers well, except where a model's name asks for a fault.
    pub async fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
    }

    /// The same at a place of one's choice.
    ///
    /// # Errors
    ///
    /// When it cannot listen there.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state, task })
    }

    /// Serves for ever.
    pub async fn serve(mut self) {
        (&mut self.task).await.unwrap_or_default();
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every answer is `fault`, or good again for `None`.
    pub fn misbehave(&self, fault: impl Into<Option<Fault>>) {
        *self.state.fault.lock().unwrap() = fault.into();
    }

    /// Where [`Fault::Redirect`] sends callers.
    pub fn redirect_to(&self, url: impl Into<String>) {
        *self.state.redirect.lock().unwrap() = url.into();
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Received {
        self.received().pop().expect("the provider was asked nothing")
    }

    /// The next request after the first `seen`, once it is there.
    pub async fn next_after(&self, seen: usize) -> Received {
        eventually("a request at the provider", async || self.received().into_iter().nth(seen)).await
    }

    /// How many bytes [`Fault::Flood`] got rid of.
    pub fn flooded(&self) -> usize {
        self.state.flooded.load(Ordering::Relaxed)
    }

    /// The instant at which the first caller hung up while the stub was not done with it.
    pub async fn hung_up(&self) -> Instant {
        let first = async || self.state.hung_up.lock().unwrap().first().copied();
        eventually("the caller hangs up on the provider", first).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The URL of a port of loopback where nobody listens.
pub fn refusing_url() -> String {
    let listener = StdTcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A port of loopback where connections are neither accepted nor refused, until it is dropped.
#[derive(Debug)]
pub struct BlackHole {
    listener: TcpListener,
    /// They fill the queue, so that the system drops whatever else knocks.
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one.
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        Self { listener, _queue: queue }
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let state = state.clone();
            // What goes wrong on one connection is the test's wish, or shows in what the test asserts.
            tokio::spawn(async move { serve(stream, &state).await.ok() });
        }
    }
}

async fn serve(stream: TcpStream, state: &State) -> Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(head) = connection.head().await? {
        let mut body = Vec::new();
        connection.body(&head, false, &mut body).await?;
        let mut words = head.start.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let request = Received { at: Instant::now(), method, path, headers: head.headers, body };
        if let Some(seen) = state.shown(&request.path) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seen.len());
            connection.write(format!("{head}{seen}").as_bytes()).await?;
            continue;
        }
        let seen = state.remember(&request);
        let fault = *state.fault.lock().unwrap();
        let redirect = state.redirect.lock().unwrap().clone();
        for step in script(&request, seen, fault, &redirect) {
            match step {
                Step::Close => return Ok(()),
                Step::Reset => {
                    connection.reset();
                    return Ok(());
                }
                Step::Hang => {
                    connection.closed().await;
                    return state.hung_up();
                }
                Step::Flood(bytes) => {
                    while connection.write(&bytes).await.is_ok() {
                        state.flooded.fetch_add(bytes.len(), Ordering::Relaxed);
                    }
                    return state.hung_up();
                }
                Step::Repeat(bytes) => return repeat(&mut connection, &bytes, state).await,
                Step::Send(bytes) => {
                    if connection.write(&bytes).await.is_err() {
                        return state.hung_up();
                    }
                    // Lets the other side read before the next write, so that writes stay apart.
                    if bytes.len() < 64 { tokio::task::yield_now().await } else { sleep(REST / 20).await }
                }
            }
        }
    }
    Ok(())
}

async fn repeat(connection: &mut Connection, bytes: &[u8], state: &State) -> Result<()> {
    loop {
        if connection.write(bytes).await.is_err() {
            return state.hung_up();
        }
        tokio::select! {
            () = connection.closed() => return state.hung_up(),
            () = sleep(REST) => {}
        }
    }
}

impl State {
    /// How often a request with this body came before.
    fn remember(&self, request: &Received) -> usize {
        let mut received = self.received.lock().unwrap();
        received.push(request.clone());
        received.iter().filter(|known| known.body == request.body).count() - 1
    }

    /// What test programs in other languages want to know.
    fn shown(&self, path: &str) -> Option<String> {
        match path {
            "/stub/received" => {
                let received = self.received.lock().unwrap();
                Some(received.iter().map(Received::shown).collect::<Value>().to_string())
            }
            "/stub/hung-up" => Some(self.hung_up.lock().unwrap().len().to_string()),
            _ => None,
        }
    }

    fn hung_up(&self) -> Result<()> {
        self.hung_up.lock().unwrap().push(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http1, provider::answer, sse::Chat};

    async fn ask(provider: &Provider, path: &str, body: &str) -> http1::RawReply {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: stub\r\nauthorization: Bearer k\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        http1::exchange(provider.address, request.as_bytes()).await.expect("an answer")
    }

    #[tokio::test]
    async fn it_answers_streams_and_remembers() {
        let provider = Provider::start().await;
        let plain = ask(&provider, "/v1/chat/completions", r#"{"model":"m"}"#).await.json();
        assert_eq!(plain["choices"][0]["message"]["content"], answer::text());
        let body = r#"{"model":"m","stream":true}"#;
        let stream = Chat::read(&ask(&provider, "/v1/chat/completions", body).await.text());
        stream.assert_finished();
        assert_eq!(stream.text(), answer::text());
        assert_eq!(provider.received().len(), 2);
        assert_eq!(provider.last().header("authorization"), Some("Bearer k"));
    }

    #[tokio::test]
    async fn every_way_of_writing_a_good_stream_is_the_same_stream() {
        let provider = Provider::start().await;
        for fault in ["half-code-points", "byte-by-byte"] {
            let body = format!(r#"{{"model":"fault-{fault}","stream":true}}"#);
            let stream = Chat::read(&ask(&provider, "/v1/chat/completions", &body).await.text());
            assert_eq!(stream.text(), answer::text(), "{fault}");
        }
    }

    #[tokio::test]
    async fn errors_reflect_the_key_and_streams_break_off() {
        let provider = Provider::start().await;
        let refusal = ask(&provider, "/v1/messages", r#"{"model":"fault-status-429"}"#).await;
        assert_eq!((refusal.status, refusal.head.header("retry-after")), (429, Some("7")));
        assert!(refusal.text().contains("Bearer k"));
        let cut = ask(&provider, "/v1/messages", r#"{"model":"fault-truncated","stream":true}"#).await;
        assert!(cut.text().contains("text_delta") && !cut.text().contains("message_stop"));
    }
}
