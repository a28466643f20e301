//! Answering on a connection, and the limits that each of them has.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::{
    Request, Version,
    body::Incoming,
    rt::{Sleep as SleepOfHyper, Timer},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::Sleep,
};
use tokio_io_timeout::TimeoutWriter;

use crate::App;

/// How many connections there may be, and how long a client may leave one without use.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections at once; more are told so, and closed.
    pub max_connections: usize,
    /// How long a client may take to send its headers, from their first byte on.
    pub header_timeout: Duration,
    /// How long a connection may wait for its first, or its next, request.
    pub keep_alive: Duration,
    /// How long a client may take in nothing of an answer that it has asked for.
    pub stall_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            header_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(90),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// The longest headers, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;
/// How much of an answer waits for a client that is slower than its provider, in bytes.
const MAX_UNSENT: usize = 64 * 1024;
/// Requests at once on one connection.
const MAX_STREAMS: u32 = 256;
/// How often the other side of an HTTP/2 connection must give a sign of life, and how long it may take.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How long running requests get once the server is told to stop.
const GRACE: Duration = Duration::from_secs(30);
/// How long connections that look idle may still bring what was asked before the server was told to stop.
const LAST_CALL: Duration = Duration::from_millis(100);
/// The first words of a client that speaks HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Answers on connections, each a task of the current runtime.
pub(crate) struct Server {
    app: Arc<App>,
    builder: auto::Builder<TokioExecutor>,
    limits: ConnectionLimits,
    connections: GracefulShutdown,
    /// Ends connections that have not said a word.
    stop: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn new(app: Arc<App>, limits: ConnectionLimits) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            // The longer one; the timer of each connection knows when it is the shorter one that counts.
            .header_read_timeout(limits.keep_alive)
            .max_buf_size(MAX_HEADERS as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_UNSENT);
        let (connections, stop) = (GracefulShutdown::new(), watch::Sender::new(false));
        Self { app, builder, limits, connections, stop }
    }

    /// Answers on a connection. `held` is dropped at its end.
    pub(crate) fn take<T: Send + 'static>(&self, stream: TcpStream, peer: std::net::SocketAddr, held: T) {
        let app = self.app.clone();
        let patience = self.limits.stall_timeout;
        let service = service_fn(move |request: Request<Incoming>| {
            let (app, is_shared) = (app.clone(), request.version() == Version::HTTP_2);
            async move {
                // Boxed: hyper keeps room for this future as long as the connection is there, and the answer may be
                // a long stream.
                let response = Box::pin(app.handle(request, peer.ip())).await?;
                Ok::<_, Infallible>(if is_shared {
                    response.map(|body| body.watched(patience))
                } else {
                    response
                })
            }
        });
        let timer = HeadTimer { progress: Arc::default(), header_timeout: self.limits.header_timeout };
        let mut stream = ClientStream::new(stream, &timer, &self.limits);
        let mut builder = self.builder.clone();
        builder.http1().timer(timer);
        let (connections, mut stop) = (self.connections.watcher(), self.stop.subscribe());
        tokio::spawn(async move {
            let speaks_http1 = tokio::select! {
                speaks_http1 = poll_fn(|cx| stream.poll_first_words(cx)) => speaks_http1,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            drop(stop);
            match speaks_http1 {
                // Had the library to find that out, it would read the first words alone, and make room for as much
                // as fits into its buffer behind them, which is twice the buffer.
                Ok(true) => builder = builder.http1_only(),
                Ok(false) => {}
                Err(fault) => return tracing::debug!(%fault, "a connection did not begin"),
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(fault) = connections.watch(connection).await {
                tracing::debug!(%fault, "a connection ended early");
            }
            drop(held);
        });
    }

    /// Waits for requests that are running, for a while.
    pub(crate) async fn finish(self) {
        self.app.stopping.send_replace(true);
        // A request may have arrived that nobody has read: closing its connection would be its failure. As a task
        // of its own, this waits in line behind the connections that have something to read.
        if tokio::spawn(tokio::time::sleep(LAST_CALL)).await.is_err() {
            tracing::debug!("the last call was cut short");
        }
        self.stop.send_replace(true);
        if tokio::time::timeout(GRACE, self.connections.shutdown()).await.is_err() {
            tracing::warn!("some requests were still running after {} seconds", GRACE.as_secs());
        }
    }
}

/// What is known of what a client has sent.
#[derive(Default)]
struct Progress {
    /// In bytes. Written by the connection's own task alone.
    read: AtomicU64,
    /// Whether hyper speaks HTTP/1 and minds the headers' time, by [`HeadTimer`].
    is_http1: AtomicBool,
}

/// A client's connection, which fails when the client takes nothing in for too long, or does not begin.
struct ClientStream {
    /// Its timer is only set while a write waits.
    stream: Pin<Box<TimeoutWriter<TcpStream>>>,
    progress: Arc<Progress>,
    /// Until it is known which HTTP is spoken, nobody else minds the time.
    opening: Option<Pin<Box<HeadDeadline>>>,
}

impl ClientStream {
    fn new(stream: TcpStream, timer: &HeadTimer, limits: &ConnectionLimits) -> Self {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(limits.stall_timeout));
        let opening = HeadDeadline::new(timer, Instant::now() + limits.keep_alive, 0);
        Self { stream: Box::pin(stream), progress: timer.progress.clone(), opening: Some(Box::pin(opening)) }
    }

    /// Waits for a client's first words, and leaves them where they are: whether they can only be HTTP/1.
    fn poll_first_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut words = [0; PREFACE.len()];
        let mut words = ReadBuf::new(&mut words);
        if self.stream.get_ref().poll_peek(cx, &mut words)?.is_ready() {
            return Poll::Ready(Ok(!PREFACE.starts_with(words.filled())));
        }
        match &mut self.opening {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.stream.as_mut().poll_read(cx, buf);
        let progress = &self.progress;
        match read {
            Poll::Ready(_) => {
                let bytes = buf.filled().len().saturating_sub(before) as u64;
                progress.read.store(progress.read.load(Relaxed).wrapping_add(bytes), Relaxed);
            }
            Poll::Pending if self.opening.is_some() => {
                if progress.is_http1.load(Relaxed) || progress.read.load(Relaxed) >= PREFACE.len() as u64 {
                    self.opening = None;
                } else if let Some(deadline) = &mut self.opening
                    && deadline.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Tells hyper when a request's headers are overdue. hyper has one limit for a connection that is idle and for one
/// whose headers have begun; this has two.
struct HeadTimer {
    progress: Arc<Progress>,
    header_timeout: Duration,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn SleepOfHyper>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn SleepOfHyper>> {
        // What was read before the first request's headers were waited for is their beginning.
        let is_first = !self.progress.is_http1.swap(true, SeqCst);
        let known = if is_first { 0 } else { self.progress.read.load(Relaxed) };
        Box::pin(HeadDeadline::new(self, deadline, known))
    }
}

pin_project! {
    /// Done when a client has sent nothing until the deadline, or has begun and not gone on for too long.
    struct HeadDeadline {
        progress: Arc<Progress>,
        header_timeout: Duration,
        // The bytes that were read before.
        known: u64,
        has_begun: bool,
        #[pin]
        sleep: Sleep,
    }
}

impl HeadDeadline {
    fn new(timer: &HeadTimer, deadline: Instant, known: u64) -> Self {
        let (progress, header_timeout) = (timer.progress.clone(), timer.header_timeout);
        let sleep = tokio::time::sleep_until(deadline.into());
        Self { progress, header_timeout, known, has_begun: false, sleep }
    }
}

impl Future for HeadDeadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if !*this.has_begun && this.progress.read.load(Relaxed) != *this.known {
            *this.has_begun = true;
            this.sleep.as_mut().reset(tokio::time::Instant::now() + *this.header_timeout);
        }
        this.sleep.poll(cx)
    }
}

impl SleepOfHyper for HeadDeadline {}
