//! A local provider's answer on its way to the caller, read only as fast as the caller reads.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, Sleep};

use super::managed::InUse;
use crate::{
    adapter::StreamDecoder,
    client::RawBody,
    error::{Error, ErrorKind, Result},
};

/// The body of a local provider's answer. Dropping it ends the request.
pub struct LocalBody(Source);

enum Source {
    Whole(Option<Bytes>),
    Stream(Box<Relay>),
}

impl LocalBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(Some(bytes)))
    }

    pub(super) fn stream(relay: Relay) -> Self {
        Self(Source::Stream(Box::new(relay)))
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    ///
    /// None today: a stream that fails says so in the caller's format.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for LocalBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Source::Stream(relay) => relay.poll_next(context).map(|next| next.map(Ok)),
        }
    }
}

impl fmt::Debug for LocalBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::Whole(_) => "LocalBody(whole)",
            Source::Stream(_) => "LocalBody(stream)",
        })
    }
}

/// A stream from a local provider to a caller.
pub(super) struct Relay {
    name: String,
    /// The provider's side; `None` once nothing more is wanted of it.
    provider: Option<RawBody>,
    decoder: StreamDecoder,
    /// What is ready to be handed out.
    ready: VecDeque<Bytes>,
    /// Scratch space of the decoder.
    decoded: Vec<Bytes>,
    silence: Duration,
    idle: Pin<Box<Sleep>>,
    /// Keeps the provider up until the stream is at its end.
    in_use: Option<InUse>,
}

impl Relay {
    pub(super) fn new(
        name: &str,
        provider: RawBody,
        decoder: StreamDecoder,
        silence: Duration,
        in_use: Option<InUse>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            provider: Some(provider),
            decoder,
            ready: VecDeque::new(),
            decoded: Vec::new(),
            silence,
            idle: Box::pin(tokio::time::sleep(silence)),
            in_use,
        }
    }

    /// Waits for something to hand out, so that a failure before it is still an error.
    pub(super) async fn first(&mut self) -> Result<()> {
        while self.ready.is_empty() {
            match std::future::poll_fn(|context| self.poll_read(context)).await {
                Some(Ok(bytes)) => self.take(bytes),
                Some(Err(error)) => return Err(error),
                None => {
                    let message = "it closed the connection before its answer began";
                    return Err(Error::new(ErrorKind::Provider, message));
                }
            }
        }
        Ok(())
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(bytes));
            }
            if self.provider.is_none() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(context)) {
                Some(Ok(bytes)) => self.take(bytes),
                Some(Err(error)) => {
                    let message = format!("local provider `{}`: {}", self.name, error.message());
                    self.decoder.fail(&message, "provider_error", &mut self.decoded);
                    self.end();
                }
                None => {
                    self.decoder.finish(&mut self.decoded);
                    self.end();
                }
            }
        }
    }

    fn take(&mut self, bytes: Bytes) {
        self.decoder.push(bytes, &mut self.decoded);
        if self.decoder.is_done() {
            self.end();
        } else {
            self.release();
        }
    }

    fn release(&mut self) {
        self.ready.extend(self.decoded.drain(..).filter(|bytes| !bytes.is_empty()));
    }

    fn end(&mut self) {
        self.release();
        self.provider = None;
        self.in_use = None;
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let Some(provider) = &mut self.provider else { return Poll::Ready(None) };
        if let Poll::Ready(read) = Pin::new(provider).poll_next(context) {
            self.idle.as_mut().reset(Instant::now() + self.silence);
            return Poll::Ready(read);
        }
        ready!(self.idle.as_mut().poll(context));
        let message = format!("silent for {} seconds", self.silence.as_secs_f64());
        Poll::Ready(Some(Err(Error::new(ErrorKind::ProviderTimeout, message))))
    }
}
