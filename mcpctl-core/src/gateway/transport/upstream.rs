//! Connections to a provider. Those of HTTP/1.1 are driven by the task that waits for the answer.
//!
//! A pooled client gives each connection a task of its own and hands every chunk over to the caller's, which costs a
//! wake-up for each. Here hyper's connection is polled where its answer is read, with TLS as without. A connection of
//! HTTP/2 carries many answers at once, so it does have its own task.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::{Read, Write},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use rustls::ClientConfig;
use tokio::time::timeout;
use tower_service::Service as _;

use super::{
    counted::{Connections, CountedStream, Sort},
    resolver::Resolver,
};

/// Why there is no answer.
pub(super) enum Fault {
    /// There was no connection.
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke, or what came was no answer.
    Exchange(hyper::Error),
}

/// The way to one provider.
pub(in crate::gateway) struct Upstream {
    connector: HttpsConnector<HttpConnector<Resolver>>,
    connect_timeout: Duration,
    pool: Arc<Pool>,
    /// `scheme://host:port/`, for connecting.
    origin: Uri,
    host: HeaderValue,
}

/// Connections that can take a request.
struct Pool {
    free: Mutex<Free>,
    sort: Sort,
    counts: Arc<Connections>,
}

#[derive(Default)]
struct Free {
    /// Those of HTTP/1.1, which have nothing to do.
    idle: Vec<(Instant, Driven)>,
    /// The latest of HTTP/2, and when it got its last request.
    shared: Option<(Instant, Shared)>,
}

/// A connection of either protocol: which one, the provider says as it is made.
enum Connection {
    Driven(Driven),
    Shared(Shared),
}

/// A connection of HTTP/1.1, for one request at a time.
struct Driven {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Moves bytes; `None` once the connection is over.
    driver: Option<Driver>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection of HTTP/2, for many requests at once.
type Shared = http2::SendRequest<Full<Bytes>>;

/// What a provider that speaks HTTP/2 answers in the TLS handshake.
pub(super) const HTTP2: &[u8] = b"h2";
/// How long a connection may lie idle.
const IDLE: Duration = Duration::from_secs(60);
/// How many may lie idle, for one provider and thread.
const MOST_IDLE: usize = 128;

impl Upstream {
    /// The way to the host of `uri`; `None` when that names no host. Connections must be there, with TLS, within
    /// `connect_timeout`.
    pub(super) fn new(
        uri: &Uri,
        connect_timeout: Duration,
        tls: Arc<ClientConfig>,
        counts: Arc<Connections>,
    ) -> Option<Self> {
        let host = HeaderValue::from_str(uri.authority()?.as_str()).ok()?;
        let connector = HttpsConnector::from((tcp(connect_timeout), tls));
        let sort = if uri.scheme() == Some(&Scheme::HTTPS) { Sort::Tls } else { Sort::Plain };
        let pool = Arc::new(Pool { free: Mutex::default(), sort, counts });
        Some(Self { connector, connect_timeout, pool, origin: uri.clone(), host })
    }

    /// Sends a request, and returns its answer as soon as the head is there.
    ///
    /// A connection that the provider had closed while it lay idle is replaced, as long as nothing was sent on it.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<UpstreamBody>, Fault> {
        loop {
            let (connection, is_new) = match self.pool.take() {
                Some(connection) => (connection, false),
                // Rare, and large: it must not make every call's future as large.
                None => (Box::pin(self.open()).await?, true),
            };
            let tried = match connection {
                Connection::Driven(mut driven) => {
                    self.address(&mut request);
                    let answer = driven.exchange(request).await;
                    answer.map(|response| (response, Some(driven)))
                }
                Connection::Shared(mut shared) => {
                    self.address_in_full(&mut request);
                    shared.try_send_request(request).await.map(|response| (response, None))
                }
            };
            match tried {
                Ok((response, connection)) => {
                    let pool = self.pool.clone();
                    return Ok(response.map(|body| UpstreamBody { body, connection, pool }));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(Fault::Exchange(failed.into_error())),
                },
            }
        }
    }

    /// The address as HTTP/1.1 has it: a path, and the host in a header.
    fn address(&self, request: &mut Request<Full<Bytes>>) {
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
    }

    /// The address as HTTP/2 has it, which is as it came, unless a connection of HTTP/1.1 was tried first.
    fn address_in_full(&self, request: &mut Request<Full<Bytes>>) {
        if request.headers_mut().remove(HOST).is_some() {
            let mut parts = self.origin.clone().into_parts();
            parts.path_and_query = request.uri().path_and_query().cloned();
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let mut connector = self.connector.clone();
        let connect = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.origin.clone()).await
        };
        let tried = timeout(self.connect_timeout, connect).await;
        let tried = tried.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let (stream, open) = self.pool.counts.tried(self.pool.sort, tried).map_err(Fault::Connect)?;
        match stream {
            MaybeHttpsStream::Http(stream) => Driven::over(CountedStream::new(stream, open)).await,
            // Larger by far, so that it would make the futures of plain connections large, too.
            MaybeHttpsStream::Https(stream) => {
                let speaks_http2 = stream.inner().get_ref().1.alpn_protocol() == Some(HTTP2);
                let stream = CountedStream::new(Box::new(stream), open);
                match speaks_http2 {
                    true => Box::pin(self.pool.share(stream)).await,
                    false => Driven::over(stream).await,
                }
            }
        }
    }
}

/// Makes connections without TLS.
fn tcp(connect_timeout: Duration) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp
}

impl Driven {
    async fn over<T: Read + Write + Send + Unpin + 'static>(stream: T) -> Result<Connection, Fault> {
        let (sender, driver) = http1::handshake(stream).await.map_err(Fault::Exchange)?;
        Ok(Connection::Driven(Self { sender, driver: Some(Box::pin(driver)) }))
    }

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
        let mut free = self.free();
        while let Some((since, mut driven)) = free.idle.pop() {
            self.idle_changed(1, 0);
            if since.elapsed() < IDLE && driven.is_free() {
                return Some(Connection::Driven(driven));
            }
        }
        free.share().map(Connection::Shared)
    }

    fn put(&self, driven: Driven) {
        let idle = &mut self.free().idle;
        if idle.len() >= MOST_IDLE {
            return;
        }
        let (before, now) = (idle.len(), Instant::now());
        // The last one in is the first one out, so those at the front have been idle for longest.
        let overdue = idle.iter().take_while(|(since, _)| now.duration_since(*since) >= IDLE).count();
        idle.drain(..overdue);
        idle.push((now, driven));
        self.idle_changed(before, idle.len());
    }

    /// A connection of HTTP/2 over `stream`, unless another request has made one meanwhile.
    async fn share<T: Read + Write + Send + Unpin + 'static>(&self, stream: T) -> Result<Connection, Fault> {
        if let Some(shared) = self.free().share() {
            return Ok(Connection::Shared(shared));
        }
        let handshake = http2::handshake(TokioExecutor::new(), stream).await;
        let (shared, driver) = handshake.map_err(Fault::Exchange)?;
        tokio::spawn(async move {
            // What went wrong is told to those that wait for answers.
            drop(driver.await);
        });
        self.free().shared = Some((Instant::now(), shared.clone()));
        Ok(Connection::Shared(shared))
    }

    fn idle_changed(&self, before: usize, now: usize) {
        self.counts.idle_changed(self.sort, before, now);
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    /// The connection of HTTP/2, when there is one that lives and was not idle for too long.
    fn share(&mut self) -> Option<Shared> {
        let (used, shared) = self.shared.as_mut()?;
        if used.elapsed() < IDLE && shared.is_ready() {
            *used = Instant::now();
            return Some(shared.clone());
        }
        // What still runs on it goes on.
        self.shared = None;
        None
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let left = self.free().idle.len();
        self.idle_changed(left, 0);
    }
}

/// The body of an answer. Dropping it before its end closes the connection, or with HTTP/2 the one stream.
pub(in crate::gateway) struct UpstreamBody {
    body: Incoming,
    /// What brings it; `None` once the body is over, and with HTTP/2.
    connection: Option<Driven>,
    pool: Arc<Pool>,
}

impl UpstreamBody {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some(connection) = &mut self.connection else { return Poll::Pending };
        drive(&mut connection.driver, cx);
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

#[cfg(test)]
#[path = "upstream_tls_tests.rs"]
mod tls_tests;
