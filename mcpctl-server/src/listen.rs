//! Accepting connections, and turning those away that are too many.

use std::{
    convert::Infallible,
    future::Future,
    io::ErrorKind as IoErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, EXPECT, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    App,
    connection::{ConnectionLimits, Server},
    request::{finish_body, request_id},
    respond::{Body, Dialect, Refusal, X_REQUEST_ID},
};

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    limits: ConnectionLimits,
}

/// A connection's place among as many as there may be.
pub(crate) type ConnectionPlace = OwnedSemaphorePermit;

/// As many connections may wait to be accepted: a thousand clients that come in the same moment are not sent
/// into a retry of a second.
const BACKLOG: u32 = 4096;
/// How many connections are being turned away at once, and how long each may take. While there are more, none is
/// accepted.
const MAX_TURNED_AWAY: usize = 64;
const TURN_AWAY: Duration = Duration::from_secs(2);
/// How often the log is told.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { socket: socket.listen(BACKLOG)?, limits: ConnectionLimits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// The address that was bound.
    ///
    /// # Errors
    ///
    /// When the system does not know it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn limits(&self) -> ConnectionLimits {
        self.limits
    }
}

/// Serves until `stop` is done; then takes no new connections, and gives those that are busy 30 seconds.
pub async fn serve(listener: Listener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let server = Server::new(app, listener.limits());
    listener.accept_until(stop, |stream, peer, place| server.take(stream, peer, place)).await;
    server.finish().await;
}

impl Listener {
    /// Gives connections to `take` until `stop` is done, and then closes the port.
    pub(crate) async fn accept_until(
        self,
        stop: impl Future<Output = ()>,
        mut take: impl FnMut(TcpStream, SocketAddr, ConnectionPlace),
    ) {
        let most = self.limits.max_connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        tokio::select! {
            () = self.accept(&places, &mut take) => {}
            () = stop => {}
        }
        if let Err(fault) = self.accept_rest(&places, take) {
            tracing::warn!(%fault, "the last connections could not be accepted");
        }
    }

    /// Accepts those who have connected and still wait for it: closing the port would cut them off, and they may
    /// have asked already.
    fn accept_rest(
        self,
        places: &Arc<Semaphore>,
        mut take: impl FnMut(TcpStream, SocketAddr, ConnectionPlace),
    ) -> std::io::Result<()> {
        // It does not block.
        let socket = self.socket.into_std()?;
        while let Ok(place) = places.clone().try_acquire_owned() {
            let (stream, peer) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(fault) if fault.kind() == IoErrorKind::ConnectionAborted => continue,
                Err(fault) if fault.kind() == IoErrorKind::WouldBlock => break,
                Err(fault) => return Err(fault),
            };
            stream.set_nonblocking(true)?;
            let stream = TcpStream::from_std(stream)?;
            // One that is gone already is no reason to leave the others.
            if stream.set_nodelay(true).is_ok() {
                take(stream, peer, place);
            }
        }
        Ok(())
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
        take: &mut impl FnMut(TcpStream, SocketAddr, ConnectionPlace),
    ) {
        let most = places.available_permits();
        let turns = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
        let mut warned: Option<Instant> = None;
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(fault) if fault.kind() == IoErrorKind::ConnectionAborted => continue,
                Err(fault) => {
                    // Out of file descriptors, most likely: those in use will be given back.
                    tracing::warn!(%fault, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if let Err(fault) = stream.set_nodelay(true) {
                tracing::debug!(%fault, "a connection was gone at once");
                continue;
            }
            if let Ok(place) = places.clone().try_acquire_owned() {
                take(stream, peer, place);
                continue;
            }
            if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                tracing::warn!(most, "all connections are taken; more are turned away");
                warned = Some(Instant::now());
            }
            if let Ok(turn) = turns.clone().acquire_owned().await {
                tokio::spawn(async move {
                    turn_away(stream).await;
                    drop(turn);
                });
            }
        }
    }
}

/// Answers one request with a 503, whatever it is, so that a load balancer takes it elsewhere at once.
async fn turn_away(stream: TcpStream) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(refuse));
    if !matches!(timeout(TURN_AWAY, connection).await, Ok(Ok(()))) {
        tracing::debug!("a connection that was one too many did not wait for its answer");
    }
}

async fn refuse(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let id = request_id(request.headers());
    let dialect = Dialect::of_path(request.uri().path());
    let waits = request.headers().contains_key(EXPECT);
    // Closing on what was not read would take the answer away from the client.
    finish_body(&mut request.into_body(), waits).await;
    let mut refusal =
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many connections; try again shortly");
    refusal.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
    refusal.headers.push((CONNECTION, HeaderValue::from_static("close")));
    let mut response = refusal.into_response(dialect);
    response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    Ok(response)
}
