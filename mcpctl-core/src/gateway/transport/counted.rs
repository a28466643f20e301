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

use hyper::rt::{Read, ReadBufCursor, Write};

/// The connections to providers of the whole process.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Connections {
    pub(in crate::gateway) plain: Counts,
    pub(in crate::gateway) tls: Counts,
}

/// Connections of one sort.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Counts {
    pub(in crate::gateway) open: AtomicI64,
    /// Those of HTTP/1.1 that wait for a request.
    pub(in crate::gateway) idle: AtomicI64,
    pub(in crate::gateway) connects: AtomicU64,
    pub(in crate::gateway) failures: AtomicU64,
}

/// What sorts of connections there are.
#[derive(Clone, Copy)]
pub(super) enum Sort {
    Plain,
    Tls,
}

/// Counts a connection as open for as long as this lives.
pub(super) struct Open {
    connections: Arc<Connections>,
    sort: Sort,
}

impl Connections {
    /// Counts a try to connect to a provider.
    pub(super) fn tried<T, E>(self: &Arc<Self>, sort: Sort, tried: Result<T, E>) -> Result<(T, Open), E> {
        let counts = self.of(sort);
        match tried {
            Ok(stream) => {
                counts.connects.fetch_add(1, Relaxed);
                counts.open.fetch_add(1, Relaxed);
                Ok((stream, Open { connections: self.clone(), sort }))
            }
            Err(fault) => {
                counts.failures.fetch_add(1, Relaxed);
                Err(fault)
            }
        }
    }

    /// So many more connections lie idle than before, or fewer.
    pub(super) fn idle_changed(&self, sort: Sort, before: usize, now: usize) {
        self.of(sort).idle.fetch_add(now as i64 - before as i64, Relaxed);
    }

    fn of(&self, sort: Sort) -> &Counts {
        match sort {
            Sort::Plain => &self.plain,
            Sort::Tls => &self.tls,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.of(self.sort).open.fetch_sub(1, Relaxed);
    }
}

/// A connection that counts as open until it is dropped.
pub(super) struct CountedStream<T> {
    stream: T,
    _open: Open,
}

impl<T> CountedStream<T> {
    pub(super) fn new(stream: T, open: Open) -> Self {
        Self { stream, _open: open }
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
