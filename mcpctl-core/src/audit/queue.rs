//! The queue between requests and the sink: it slows when it is full, and it never drops.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::AuditSink;
use crate::{
    error::{Error, Result},
    resource::AuditEvent,
};

/// Whether answers wait for their events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditMode {
    /// They do not: events are written a moment later, many at once. At most 100 milliseconds of events are lost
    /// when the process is killed.
    #[default]
    Buffered,
    /// They do: an answer is complete once its event is kept. While events are being written, the next ones
    /// gather, and are then written at once.
    Strict,
}

/// Takes events and writes them in batches. Clones share one queue.
///
/// When the sink is away events wait, and once the queue is full, [`reserve`](Self::reserve) waits too, and then
/// refuses. In strict mode it does so as soon as the sink is away.
#[derive(Clone)]
pub struct AuditQueue {
    messages: mpsc::Sender<Message>,
    mode: AuditMode,
    /// Whether the sink refused what it was last given.
    away: watch::Receiver<bool>,
}

/// The right to put one event into the queue, without waiting.
pub struct AuditPermit {
    place: mpsc::OwnedPermit<Message>,
    mode: AuditMode,
}

/// Tells when an event is kept. In buffered mode there is nothing to wait for.
#[derive(Default)]
#[must_use = "in strict mode the answer has to wait for `kept`"]
pub struct Receipt(Option<oneshot::Receiver<()>>);

enum Message {
    Event(Box<AuditEvent>, Option<oneshot::Sender<()>>),
    Flush(oneshot::Sender<()>),
}

/// How long an event may wait for others to be written with. With a write before its own that is no slower than
/// this, and its own, it is kept within twice this time.
const LINGER: Duration = Duration::from_millis(50);
/// What one write carries at most: what its transaction costs is shared by so many.
const BATCH: usize = 4096;
/// Events and reservations at most; a request holds one reservation from its start to its end.
const CAPACITY: usize = 65_536;
/// How long a request waits for a place, and in strict mode an answer for its event, before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl AuditQueue {
    /// Starts the writer on the current tokio runtime. It ends once every clone is dropped and all is written.
    pub fn start(sink: Arc<dyn AuditSink>, mode: AuditMode) -> Self {
        let (messages, inbox) = mpsc::channel(CAPACITY);
        let (told, away) = watch::channel(false);
        tokio::spawn(Writer { sink, mode, away: told }.run(inbox));
        Self { messages, mode, away }
    }

    /// A place in the queue for an event that is to come.
    ///
    /// # Errors
    ///
    /// Unavailable, when there is none for too long: what cannot be audited is not done.
    pub async fn reserve(&self) -> Result<AuditPermit> {
        if self.mode == AuditMode::Strict && *self.away.borrow() {
            // The answer would wait in vain, after the provider was paid for it.
            let mut away = self.away.clone();
            let back = timeout(PATIENCE, away.wait_for(|away| !away)).await;
            if !matches!(back, Ok(Ok(_))) {
                return Err(too_slow());
            }
        }
        let mode = self.mode;
        match self.messages.clone().try_reserve_owned() {
            Ok(place) => Ok(AuditPermit { place, mode }),
            Err(_) => match timeout(PATIENCE, self.messages.clone().reserve_owned()).await {
                Ok(Ok(place)) => Ok(AuditPermit { place, mode }),
                Ok(Err(_)) | Err(_) => Err(too_slow()),
            },
        }
    }

    /// Puts an event into the queue; in strict mode, waits until it is kept.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Self::reserve) and [`Receipt::kept`].
    pub async fn record(&self, event: AuditEvent) -> Result<()> {
        self.reserve().await?.send(event).kept().await
    }

    /// How many places are taken, by events that wait to be written and by calls that are running.
    pub fn waiting(&self) -> usize {
        CAPACITY.saturating_sub(self.messages.capacity())
    }

    /// Waits until all that was put into the queue before is in the sink.
    ///
    /// # Errors
    ///
    /// Unavailable, when that takes longer than `patience`.
    pub async fn flush(&self, patience: Duration) -> Result<()> {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            self.messages.send(Message::Flush(done)).await.ok()?;
            flushed.await.ok()
        };
        match timeout(patience, flush).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => Err(unwritten()),
        }
    }
}

impl AuditPermit {
    /// Puts the event into the place that was reserved. Never waits, never fails.
    pub fn send(self, event: AuditEvent) -> Receipt {
        let (told, receipt) = match self.mode {
            AuditMode::Buffered => (None, Receipt(None)),
            AuditMode::Strict => {
                let (told, kept) = oneshot::channel();
                (Some(told), Receipt(Some(kept)))
            }
        };
        self.place.send(Message::Event(Box::new(event), told));
        receipt
    }

    /// Whether the event's [`Receipt`] is worth waiting for.
    pub fn is_strict(&self) -> bool {
        self.mode == AuditMode::Strict
    }
}

impl Receipt {
    /// Waits until the event is kept.
    ///
    /// # Errors
    ///
    /// Unavailable, when that takes too long. The event is not given up, and is written when the sink is back.
    pub async fn kept(self) -> Result<()> {
        let Some(kept) = self.0 else { return Ok(()) };
        match timeout(PATIENCE, kept).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unwritten()),
        }
    }
}

fn too_slow() -> Error {
    Error::unavailable("the audit trail cannot keep up; try again later", RETRY_AFTER)
}

fn unwritten() -> Error {
    Error::unavailable("the audit trail could not be written in time", RETRY_AFTER)
}

/// What empties the queue.
struct Writer {
    sink: Arc<dyn AuditSink>,
    mode: AuditMode,
    away: watch::Sender<bool>,
}

impl Writer {
    async fn run(self, mut inbox: mpsc::Receiver<Message>) {
        let mut received = Vec::new();
        let mut closed_at = Instant::now();
        loop {
            if inbox.recv_many(&mut received, BATCH).await == 0 {
                return;
            }
            let wants_flush = received.iter().any(|message| matches!(message, Message::Flush(_)));
            if self.mode == AuditMode::Buffered && received.len() < BATCH && !wants_flush {
                // Company for the first event: one write for many. Those that came during a long write have
                // waited already.
                sleep_until(closed_at + LINGER).await;
                while received.len() < BATCH
                    && let Ok(message) = inbox.try_recv()
                {
                    received.push(message);
                }
            }
            closed_at = Instant::now();
            let (mut events, mut waiting) = (Vec::with_capacity(received.len()), Vec::new());
            for message in received.drain(..) {
                match message {
                    Message::Event(event, told) => {
                        events.push(*event);
                        waiting.extend(told);
                    }
                    Message::Flush(done) => waiting.push(done),
                }
            }
            self.append_until_kept(events.into()).await;
            for told in waiting {
                // Whoever waited may have given up.
                let _ = told.send(());
            }
        }
    }

    async fn append_until_kept(&self, events: Arc<[AuditEvent]>) {
        if events.is_empty() {
            return;
        }
        tracing::trace!(events = events.len(), "writing audit events");
        let began = Instant::now();
        let mut pause = Duration::from_millis(50);
        while let Err(error) = self.sink.append(events.clone()).await {
            tracing::error!(
                events = events.len(),
                error = error.chain(),
                "audit events are waiting to be written"
            );
            self.away.send_replace(true);
            sleep(pause).await;
            pause = (pause * 2).min(self.longest_pause());
        }
        self.away.send_if_modified(std::mem::take);
        let write_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(events = events.len(), write_ms, "audit events written");
    }

    fn longest_pause(&self) -> Duration {
        match self.mode {
            AuditMode::Buffered => Duration::from_secs(5),
            // Nothing is answered until then.
            AuditMode::Strict => Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
