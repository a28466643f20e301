//! Counting connections to providers.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

/// The connections to providers of the whole process.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Connections {
    pub(in crate::gateway) plain: Counts,
    pub(in crate::gateway) tls: Counts,
    /// Plain connections that wait for a request. Those with TLS are kept by a library that does not say.
    pub(in crate::gateway) idle: AtomicI64,
}

/// Connections of one sort.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Counts {
    pub(in crate::gateway) open: AtomicI64,
    pub(in crate::gateway) connects: AtomicU64,
    pub(in crate::gateway) failures: AtomicU64,
}

/// Counts a connection as open for as long as this lives.
struct Open {
    connections: Arc<Connections>,
    which: Which,
}

/// The counts of one sort of connection.
type Which = fn(&Connections) -> &Counts;

impl Connections {
    /// Counts a try to connect to a plain provider.
    pub(super) fn plain<T, E>(self: &Arc<Self>, tried: Result<T, E>) -> Result<CountedStream<T>, E> {
        self.tried(|connections| &connections.plain, tried)
    }

    fn tried<T, E>(self: &Arc<Self>, which: Which, tried: Result<T, E>) -> Result<CountedStream<T>, E> {
        let counts = which(self);
        match tried {
            Ok(stream) => {
                counts.connects.fetch_add(1, Relaxed);
                counts.open.fetch_add(1, Relaxed);
                Ok(CountedStream { stream, _open: Open { connections: self.clone(), which } })
            }
            Err(fault) => {
                counts.failures.fetch_add(1, Relaxed);
                Err(fault)
            }
        }
    }

    /// So many more connections lie idle than before, or fewer.
    pub(super) fn idle_changed(&self, before: usize, now: usize) {
        self.idle.fetch_add(now as i64 - before as i64, Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.which)(&self.connections).open.fetch_sub(1, Relaxed);
    }
}

/// Makes connections with TLS, and counts them.
#[derive(Clone)]
pub(in crate::gateway) struct CountedConnector<C> {
    connector: C,
    connections: Arc<Connections>,
}

impl<C> CountedConnector<C> {
    pub(super) fn new(connector: C, connections: Arc<Connections>) -> Self {
        Self { connector, connections }
    }
}

impl<C> Service<Uri> for CountedConnector<C>
where
    C: Service<Uri, Future: Send + 'static>,
{
    type Response = CountedStream<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, connections) = (self.connector.call(uri), self.connections.clone());
        Box::pin(async move { connections.tried(|connections| &connections.tls, connecting.await) })
    }
}

/// A connection that counts as open until it is dropped.
pub(in crate::gateway) struct CountedStream<T> {
    stream: T,
    _open: Open,
}

impl<T: Connection> Connection for CountedStream<T> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<T: Read + Unpin> Read for CountedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for CountedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
