//! The stub's HTTP/2: whole answers, and streams without pauses.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::{
    Result,
    answers::{Shape, WRITES, events},
};

/// Answers on a connection until its end.
///
/// # Errors
///
/// When the connection breaks.
pub async fn answer(acceptor: TlsAcceptor, socket: TcpStream) -> Result<()> {
    let socket = acceptor.accept(socket).await?;
    let (plain, joined) = (vec![Bytes::from(Shape::Plain.body())], joined());
    let service = service_fn(move |request: Request<Incoming>| {
        let (status, kind, pieces) = match Shape::of_path(request.uri().path()) {
            Some(Shape::Plain) => (200, "application/json", plain.clone()),
            Some(Shape::Joined) => (200, "text/event-stream; charset=utf-8", joined.clone()),
            _ => (404, "text/plain", Vec::new()),
        };
        async move {
            // The request is read to its end, as a provider does.
            request.into_body().collect().await?;
            let response = Response::builder().status(status).header("content-type", kind);
            Ok::<_, crate::Fault>(response.body(Pieces(pieces.into()))?)
        }
    });
    let mut builder = http2::Builder::new(Here);
    // Far more than a scenario opens: what is measured must not wait for the stub.
    builder.max_concurrent_streams(10_000).initial_connection_window_size(16 << 20);
    Ok(builder.serve_connection(TokioIo::new(socket), service).await?)
}

fn joined() -> Vec<Bytes> {
    let events = events();
    events.chunks(events.len().div_ceil(WRITES)).map(|events| Bytes::from(events.concat())).collect()
}

/// Runs what a connection needs on the stub's only thread.
#[derive(Clone)]
struct Here;

impl<F> Executor<F> for Here
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, work: F) {
        tokio::task::spawn_local(work);
    }
}

/// A body that is there already.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}
