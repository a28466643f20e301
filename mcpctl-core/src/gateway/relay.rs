//! A streamed answer on its way: polled by the caller's own task, so the provider is read only as fast as the
//! caller reads, and is dropped when the caller is.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{
    account::Account,
    destination::Destination,
    transport::{ProviderBody, describe},
};
use crate::{adapter::StreamDecoder, audit::Receipt, error::Result};

/// A stream from a provider to a caller.
pub(super) struct Relay {
    /// The provider's side; `None` once nothing more is wanted of it.
    provider: Option<ProviderBody>,
    decoder: StreamDecoder,
    /// What is ready to be sent.
    ready: VecDeque<Bytes>,
    /// Scratch space of the decoder.
    decoded: Vec<Bytes>,
    account: Account,
    /// In strict mode, at the end: whether the event is kept.
    kept: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    /// Fires when the provider has been silent for too long. It is set anew when it fires, not at every read.
    idle: Pin<Box<Sleep>>,
    last_read: Instant,
    destination: Arc<Destination>,
    _in_flight: OwnedSemaphorePermit,
}

impl Relay {
    pub(super) fn new(
        provider: ProviderBody,
        decoder: StreamDecoder,
        account: Account,
        destination: Arc<Destination>,
        in_flight: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            provider: Some(provider),
            decoder,
            ready: VecDeque::new(),
            decoded: Vec::new(),
            account,
            kept: None,
            idle: Box::pin(tokio::time::sleep(destination.timeout)),
            last_read: Instant::now(),
            destination,
            _in_flight: in_flight,
        }
    }

    /// Waits for something to send, so that a failure before the first byte can still be a status. Once this
    /// returns `Ok`, the answer has begun, or is whole.
    pub(super) async fn first(&mut self) -> Result<(), String> {
        loop {
            if !self.ready.is_empty() {
                return Ok(());
            }
            let read = std::future::poll_fn(|cx| self.poll_read(cx)).await;
            match read {
                Read::Bytes(bytes) => self.take(bytes),
                Read::End => {
                    return Err("the provider closed the connection before its answer began".to_owned());
                }
                Read::Broken(why) => return Err(why),
            }
        }
    }

    /// The answer never began.
    pub(super) fn fail(mut self, status: StatusCode, why: &str) -> Receipt {
        self.provider = None;
        self.account.fail(status, why)
    }

    /// The next bytes for the caller; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.provider.is_none() && self.ready.len() <= 1 {
                ready!(self.poll_kept(cx));
            }
            if let Some(bytes) = self.ready.pop_front() {
                self.account.sent(bytes.len());
                return Poll::Ready(Some(bytes));
            }
            if self.provider.is_none() {
                drop(self.account.finish(StatusCode::OK));
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                Read::Bytes(bytes) => self.take(bytes),
                Read::End => {
                    self.decoder.finish(&mut self.decoded);
                    self.end();
                }
                Read::Broken(why) => {
                    let message = format!("llm `{}`: {why}", self.destination.llm.name);
                    self.decoder.fail(&message, "provider_error", &mut self.decoded);
                    self.end();
                }
            }
        }
    }

    /// In strict mode, writes the event before the last piece leaves, and waits until it is kept. The caller gets
    /// an error in place of that piece when it is not.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.account.is_strict() {
            if let Some(last) = self.ready.front() {
                self.account.sent(last.len());
            }
            self.kept = Some(Box::pin(self.account.finish(StatusCode::OK).kept()));
        }
        let Some(kept) = &mut self.kept else { return Poll::Ready(()) };
        let outcome = ready!(kept.as_mut().poll(cx));
        self.kept = None;
        if let Err(error) = outcome {
            self.ready.clear();
            self.ready.push_back(self.decoder.error_for_end(error.message(), "server_error"));
        }
        Poll::Ready(())
    }

    fn take(&mut self, bytes: Bytes) {
        self.decoder.push(bytes, &mut self.decoded);
        self.release();
        if self.decoder.is_done() {
            self.end();
        }
    }

    /// What was decoded may go. Each piece holds whole events, so a key in one of them is whole, too.
    fn release(&mut self) {
        let pieces = self.decoded.drain(..).filter(|bytes| !bytes.is_empty());
        self.ready.extend(pieces.map(|bytes| self.destination.redact(bytes)));
    }

    /// Nothing more is wanted of the provider: its connection is dropped before the caller has read the rest.
    fn end(&mut self) {
        self.release();
        self.account.summary(self.decoder.summary(), &self.destination);
        self.provider = None;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let Some(provider) = &mut self.provider else { return Poll::Ready(Read::End) };
        loop {
            match Pin::new(&mut *provider).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.last_read = Instant::now();
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Read::Bytes(bytes));
                    }
                }
                Poll::Ready(Some(Err(fault))) => {
                    return Poll::Ready(Read::Broken(format!(
                        "the provider broke off: {}",
                        describe(&fault)
                    )));
                }
                Poll::Ready(None) => return Poll::Ready(Read::End),
                Poll::Pending => break,
            }
        }
        // The caller may have read nothing for long, and the provider with it: only silence counts.
        while self.idle.as_mut().poll(cx).is_ready() {
            let deadline = self.last_read + self.destination.timeout;
            if Instant::now() >= deadline {
                let seconds = self.destination.timeout.as_secs_f64();
                return Poll::Ready(Read::Broken(format!("the provider was silent for {seconds} seconds")));
            }
            self.idle.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.provider.is_some() {
            // The caller went away: what is known so far is kept.
            self.account.summary(self.decoder.summary(), &self.destination);
        }
    }
}

/// What a read of the provider brought.
enum Read {
    Bytes(Bytes),
    End,
    Broken(String),
}
