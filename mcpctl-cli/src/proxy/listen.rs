//! Connections: accepted, limited, and ended.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutWriter;

use super::Proxy;
use crate::failure::Failure;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send a request's headers, or leave its connection idle.
const HEADERS_TIME: Duration = Duration::from_secs(90);
/// The longest headers, in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// How long a client may take in nothing of its answer.
const STALL_TIME: Duration = Duration::from_secs(60);
/// How long running requests get once the proxy is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Binds an address; port 0 takes a free one.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(format!("listening on {address}: {error}"));
        match error.kind() {
            io::ErrorKind::AddrInUse => failure.hint("--listen chooses another port"),
            _ => failure,
        }
    })
}

/// Answers until `stop` is done; then takes no new connections, and gives those that are busy some time.
pub(crate) async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            // Never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => take(stream, &proxy, &connections, place),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of file descriptors, most likely: those in use will be given back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
}

fn take(stream: TcpStream, proxy: &Arc<Proxy>, connections: &GracefulShutdown, place: OwnedSemaphorePermit) {
    // One that is gone already needs no answer.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(STALL_TIME));
    let proxy = proxy.clone();
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // How it ends is the client's affair.
        let _ = connection.await;
        drop(place);
    });
}
