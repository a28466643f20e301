//! Accepting connections, and letting them go.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::App;

/// A bound address.
pub struct Listener(TcpListener);

/// As many connections may wait to be accepted: a thousand clients that come in the same moment are not sent
/// into a retry of a second.
const BACKLOG: u32 = 4096;
/// How long a client may take to send its headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(15);
/// The longest headers, in bytes.
const MAX_HEADERS: usize = 64 * 1024;
/// How long running requests get once the server is told to stop.
const GRACE: Duration = Duration::from_secs(30);

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
        Ok(Self(socket.listen(BACKLOG)?))
    }

    /// The address that was bound.
    ///
    /// # Errors
    ///
    /// When the system does not know it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `stop` is done; then takes no new connections, and gives those that are busy 30 seconds.
pub async fn serve(listener: Listener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let server = Server::new(app);
    listener.accept_until(stop, |stream, peer| server.take(stream, peer, ())).await;
    server.finish().await;
}

impl Listener {
    /// Gives connections to `take` until `stop` is done, and then closes the port.
    pub(crate) async fn accept_until(
        self,
        stop: impl Future<Output = ()>,
        mut take: impl FnMut(TcpStream, SocketAddr),
    ) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.0.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(fault) => {
                        // Out of file descriptors, most likely: those in use will be given back.
                        tracing::warn!(%fault, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut stop => return,
            };
            match stream.set_nodelay(true) {
                Ok(()) => take(stream, peer),
                Err(fault) => tracing::debug!(%fault, "a connection was gone at once"),
            }
        }
    }
}

/// Answers on connections, each a task of the current runtime.
pub(crate) struct Server {
    app: Arc<App>,
    builder: auto::Builder<TokioExecutor>,
    connections: GracefulShutdown,
}

impl Server {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(MAX_HEADERS);
        builder.http2().timer(TokioTimer::new()).max_header_list_size(64 * 1024).max_concurrent_streams(1024);
        Self { app, builder, connections: GracefulShutdown::new() }
    }

    /// Answers on a connection. `held` is dropped at its end.
    pub(crate) fn take<T: Send + 'static>(&self, stream: TcpStream, peer: SocketAddr, held: T) {
        let app = self.app.clone();
        let service = service_fn(move |request| app.clone().handle(request, peer.ip()));
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.connections.watch(connection);
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                tracing::debug!(%fault, "a connection ended early");
            }
            drop(held);
        });
    }

    /// Waits for requests that are running, for a while.
    pub(crate) async fn finish(self) {
        if tokio::time::timeout(GRACE, self.connections.shutdown()).await.is_err() {
            tracing::warn!("some requests were still running after {} seconds", GRACE.as_secs());
        }
    }
}
