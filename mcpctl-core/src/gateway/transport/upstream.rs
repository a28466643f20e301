//! Plain HTTP/1.1 connections to providers, driven by the task that waits for the answer.
//!
//! The pooled client of hyper-util gives each connection a task of its own and hands every chunk over to the
//! caller's, which costs a wake-up for each. Here hyper's connection is polled where its answer is read.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::{
    counted::{Connections, CountedStream},
    resolver::Resolver,
};

/// Makes connections.
pub(super) type Connector = HttpConnector<Resolver>;

/// Why there is no answer.
pub(super) enum Fault {
    /// There was no connection.
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke, or what came was no answer.
    Exchange(hyper::Error),
}

/// The way to one provider.
pub(in crate::gateway) struct Upstream {
    connector: Connector,
    pool: Arc<Pool>,
    /// `scheme://host:port`, for connecting.
    origin: Uri,
    host: HeaderValue,
}

/// Connections that lie idle.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<(Instant, Connection)>>,
    counts: Arc<Connections>,
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Moves bytes; `None` once the connection is over.
    driver: Option<Driver>,
}

type Driver = Pin<Box<http1::Connection<CountedStream<TokioIo<TcpStream>>, Full<Bytes>>>>;

/// How long a connection may lie idle.
const IDLE: Duration = Duration::from_secs(60);
/// How many may lie idle, for one provider and thread.
const MOST_IDLE: usize = 128;

impl Upstream {
    /// The way to the host of `uri`; `None` when that names no host.
    pub(super) fn new(uri: &Uri, connector: Connector) -> Option<Self> {
        let authority = uri.authority()?;
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        let (pool, origin) = (Arc::default(), uri.clone());
        Some(Self { connector, pool, origin, host })
    }

    /// The same, counted.
    #[must_use]
    pub(super) fn counted(self, counts: Arc<Connections>) -> Self {
        let pool = Arc::new(Pool { idle: Mutex::default(), counts });
        Self { pool, ..self }
    }

    /// Sends a request, and returns its answer as soon as the head is there.
    ///
    /// A connection that the provider had closed while it lay idle is replaced, as long as nothing was sent on it.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<UpstreamBody>, Fault> {
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
        loop {
            let (mut connection, is_new) = match self.pool.take() {
                Some(connection) => (connection, false),
                None => (self.open().await?, true),
            };
            match connection.exchange(request).await {
                Ok(response) => {
                    let pool = self.pool.clone();
                    let connection = Some(connection);
                    return Ok(response.map(|body| UpstreamBody { body, connection, pool }));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(Fault::Exchange(failed.into_error())),
                },
            }
        }
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(|fault| Fault::Connect(fault.into()))?;
        let tried = connector.call(self.origin.clone()).await.map_err(|fault| Fault::Connect(fault.into()));
        let stream = self.pool.counts.plain(tried)?;
        let (sender, driver) = http1::handshake(stream).await.map_err(Fault::Exchange)?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)) })
    }
}

impl Connection {
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let Self { sender, driver } = self;
        let mut answer = pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            drive(driver, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request can be sent: the last answer is over, and the provider has not said goodbye.
    fn is_free(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Lets a connection read and write what it can.
fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    // What went wrong is told to whoever waits for the answer.
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

impl Pool {
    fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().pop()?;
            self.counts.idle_changed(1, 0);
            if since.elapsed() < IDLE && connection.is_free() {
                return Some(connection);
            }
        }
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() >= MOST_IDLE {
            return;
        }
        let (before, now) = (idle.len(), Instant::now());
        // The last one in is the first one out, so those at the front have been idle for longest.
        let overdue = idle.iter().take_while(|(since, _)| now.duration_since(*since) >= IDLE).count();
        idle.drain(..overdue);
        idle.push((now, connection));
        self.counts.idle_changed(before, idle.len());
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let left = self.idle().len();
        self.counts.idle_changed(left, 0);
    }
}

/// The body of an answer. Dropping it before its end closes the connection.
pub(in crate::gateway) struct UpstreamBody {
    body: Incoming,
    /// `None` once the body is over.
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl UpstreamBody {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(connection) = &mut self.connection {
            drive(&mut connection.driver, cx);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = this.poll_body(cx);
        if let Poll::Ready(None) = polled
            && let Some(mut connection) = this.connection.take()
            && connection.is_free()
        {
            this.pool.put(connection);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Only a poll gives the connection back.
        self.connection.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
