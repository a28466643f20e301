//! A thread for every core, each with a runtime and provider connections of its own.
//!
//! A request and its provider's answer then live on one thread: nothing is locked, and no other thread has to be
//! woken to pass bytes on, which is most of what a proxy costs.

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

use mcpctl_core::{Error, Result};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    App, Listener,
    connection::{ConnectionLimits, Server},
    listen::ConnectionPlace,
};

/// A thread that answers on connections.
struct Core {
    inbox: mpsc::UnboundedSender<Connection>,
    /// Every connection has one: how many there are is how busy the core is.
    load: Arc<()>,
    thread: JoinHandle<()>,
}

/// A connection on its way to a core.
struct Connection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    load: Arc<()>,
    place: ConnectionPlace,
}

/// Serves like [`serve`](crate::serve), on as many threads as there are cores.
///
/// # Errors
///
/// Internal, when a thread cannot be had.
pub async fn serve_on_cores(listener: Listener, app: &App, stop: impl Future<Output = ()>) -> Result<()> {
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores =
        (0..count).map(|number| Core::start(number, app, listener.limits())).collect::<Result<Vec<_>>>()?;
    listener.accept_until(stop, |stream, peer, place| give(&cores, stream, peer, place)).await;
    let threads: Vec<_> = cores.into_iter().map(|core| core.thread).collect();
    // Their inboxes are closed now; they end when their requests have.
    let ended = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join)).await;
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Error::internal("a thread that answers requests ended early")),
    }
}

/// Gives a connection to the core that has the fewest.
fn give(cores: &[Core], stream: TcpStream, peer: SocketAddr, place: ConnectionPlace) {
    let Some(core) = cores.iter().min_by_key(|core| Arc::strong_count(&core.load)) else { return };
    match stream.into_std() {
        Ok(stream) => {
            let connection = Connection { stream, peer, load: core.load.clone(), place };
            if core.inbox.send(connection).is_err() {
                tracing::error!("a thread that answers requests ended early");
            }
        }
        Err(fault) => tracing::debug!(%fault, "a connection was gone at once"),
    }
}

impl Core {
    fn start(number: usize, app: &App, limits: ConnectionLimits) -> Result<Self> {
        let (inbox, connections) = mpsc::unbounded_channel();
        let app = Arc::new(app.with_own_connections());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::internal)?;
        let thread = thread::Builder::new()
            .name(format!("core-{number}"))
            .spawn(move || run(&runtime, app, limits, connections))
            .map_err(Error::internal)?;
        Ok(Self { inbox, load: Arc::default(), thread })
    }
}

fn run(
    runtime: &Runtime,
    app: Arc<App>,
    limits: ConnectionLimits,
    mut inbox: mpsc::UnboundedReceiver<Connection>,
) {
    runtime.block_on(async {
        let server = Server::new(app, limits);
        while let Some(Connection { stream, peer, load, place }) = inbox.recv().await {
            match TcpStream::from_std(stream) {
                Ok(stream) => server.take(stream, peer, (load, place)),
                Err(fault) => tracing::warn!(%fault, "a connection could not be taken"),
            }
        }
        server.finish().await;
    });
}
