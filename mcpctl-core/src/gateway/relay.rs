//! A streamed answer on its way: polled by the caller's own task, so the provider is read only as fast as the
//! caller reads, and is dropped when the caller is.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::{
    account::Account,
    admission::Places,
    destination::{Destination, provider_error},
    revocation::Watched,
    transport::ProviderBody,
};
use crate::{
    adapter::{StreamDecoder, anthropic_error_type},
    audit::Receipt,
    error::{Error, Result},
    net::describe,
};

/// Pieces that are there already are joined up to this many bytes: decoding and sending cost by the piece.
const JOINED: usize = 16 * 1024;

/// A stream from a provider to a caller.
pub(super) struct Relay {
    /// The provider's side; `None` once nothing more is wanted of it.
    provider: Option<ProviderBody>,
    decoder: StreamDecoder,
    /// The end of the provider's answer, when it was met while pieces before it were joined.
    met: Option<Read>,
    /// What is ready to be sent.
    ready: VecDeque<Bytes>,
    /// Scratch space of the decoder.
    decoded: Vec<Bytes>,
    account: Account,
    /// In strict mode, at the end: whether the event is kept.
    kept: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    /// Fires when the provider has been silent for too long, and when it is time to look at the caller. It is set
    /// anew when it fires, not at every read.
    idle: Pin<Box<Sleep>>,
    last_read: Instant,
    destination: Arc<Destination>,
    caller: Watched,
    /// How the audit trail is told that this ended: an answer that began was a success, but for a revocation.
    status: StatusCode,
    _places: Places,
}

impl Relay {
    pub(super) fn new(
        provider: ProviderBody,
        decoder: StreamDecoder,
        account: Account,
        destination: Arc<Destination>,
        places: Places,
        caller: Watched,
    ) -> Self {
        let last_read = Instant::now();
        let first_look = caller.due().min(last_read + destination.timeout);
        Self {
            provider: Some(provider),
            met: None,
            decoder,
            ready: VecDeque::new(),
            decoded: Vec::new(),
            account,
            kept: None,
            idle: Box::pin(tokio::time::sleep_until(first_look)),
            last_read,
            destination,
            caller,
            status: StatusCode::OK,
            _places: places,
        }
    }

    /// Waits for something to send, so that a failure before the first byte can still be a status. Once this
    /// returns `Ok`, the answer has begun, or is whole.
    pub(super) async fn first(&mut self) -> Result<()> {
        loop {
            if !self.ready.is_empty() {
                return Ok(());
            }
            let read = std::future::poll_fn(|cx| self.poll_read(cx)).await;
            match read {
                Read::Bytes(bytes) => self.take(bytes),
                Read::End => {
                    let why = "the provider closed the connection before its answer began";
                    return Err(provider_error(&self.destination, why));
                }
                Read::Broken(why) => return Err(provider_error(&self.destination, &why)),
                Read::Revoked(error) => return Err(error),
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
                self.account.streamed(&bytes);
                return Poll::Ready(Some(bytes));
            }
            if self.provider.is_none() {
                drop(self.account.finish(self.status));
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
                Read::Revoked(error) => {
                    // Whatever the provider has said since is not waited for.
                    self.provider = None;
                    let status = error.kind().status();
                    self.status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                    self.decoder.fail(error.message(), anthropic_error_type(status), &mut self.decoded);
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
            self.kept = Some(Box::pin(self.account.finish(self.status).kept()));
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

    /// Nothing more is wanted of the provider: its connection is free before the caller has read the rest.
    fn end(&mut self) {
        self.release();
        self.account.summary(self.decoder.summary(), &self.destination);
        if let Some(provider) = self.provider.take() {
            provider.leave();
        }
    }

    /// Everything that the provider has sent by now, as far as it fits into one piece.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if let Some(met) = self.met.take() {
            return Poll::Ready(met);
        }
        let first = match ready!(self.poll_piece(cx)) {
            Read::Bytes(first) => first,
            end => return Poll::Ready(end),
        };
        // A provider that is never silent gives the timer no chance.
        if let Some(error) = self.caller.revoked(self.last_read) {
            return Poll::Ready(Read::Revoked(error));
        }
        let mut joined = BytesMut::new();
        while first.len().max(joined.len()) < JOINED {
            match self.poll_piece(cx) {
                Poll::Ready(Read::Bytes(next)) => {
                    if joined.is_empty() {
                        joined.reserve(JOINED);
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&next);
                }
                Poll::Ready(end) => {
                    self.met = Some(end);
                    break;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Read::Bytes(if joined.is_empty() { first } else { joined.freeze() }))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let Some(provider) = &mut self.provider else { return Poll::Ready(Read::End) };
        loop {
            match Pin::new(&mut *provider).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.last_read = Instant::now();
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
        self.poll_silence(cx)
    }

    /// The caller may have read nothing for long, and the provider with it: only silence counts.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        while self.idle.as_mut().poll(cx).is_ready() {
            let (now, deadline) = (Instant::now(), self.last_read + self.destination.timeout);
            if let Some(error) = self.caller.revoked(now) {
                return Poll::Ready(Read::Revoked(error));
            }
            if now >= deadline {
                let seconds = self.destination.timeout.as_secs_f64();
                return Poll::Ready(Read::Broken(format!("the provider was silent for {seconds} seconds")));
            }
            self.idle.as_mut().reset(deadline.min(self.caller.due()));
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
    /// The caller may not go on.
    Revoked(Error),
}
