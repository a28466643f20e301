//! The queue between requests and the sink: it slows when it is full, and it never drops.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::AuditSink;
use crate::{
    error::{Error, Result},
    resource::AuditEvent,
};

/// Takes events and writes them in batches. Clones share one queue.
///
/// At most 50 milliseconds of events are in memory alone; when the sink is away they wait, and once
/// the queue is full, [`reserve`](Self::reserve) waits too, and then refuses.
#[derive(Clone)]
pub struct AuditQueue {
    messages: mpsc::Sender<Message>,
}

/// The right to put one event into the queue, without waiting.
pub struct AuditPermit(mpsc::OwnedPermit<Message>);

enum Message {
    Event(Box<AuditEvent>),
    Flush(oneshot::Sender<()>),
}

/// How long an event may wait for others to be written with.
const LINGER: Duration = Duration::from_millis(50);
/// What one write carries at most: what its transaction costs is shared by so many.
const BATCH: usize = 4096;
/// Events and reservations at most; a request holds one reservation from its start to its end.
const CAPACITY: usize = 65_536;
/// How long a request waits for a place before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl AuditQueue {
    /// Starts the writer on the current tokio runtime. It ends once every clone is dropped and all is written.
    pub fn start(sink: Arc<dyn AuditSink>) -> Self {
        let (messages, inbox) = mpsc::channel(CAPACITY);
        tokio::spawn(write_batches(sink, inbox));
        Self { messages }
    }

    /// A place in the queue for an event that is to come.
    ///
    /// # Errors
    ///
    /// Unavailable, when there is none for too long: what cannot be audited is not done.
    pub async fn reserve(&self) -> Result<AuditPermit> {
        match self.messages.clone().try_reserve_owned() {
            Ok(permit) => Ok(AuditPermit(permit)),
            Err(_) => match timeout(PATIENCE, self.messages.clone().reserve_owned()).await {
                Ok(Ok(permit)) => Ok(AuditPermit(permit)),
                Ok(Err(_)) | Err(_) => {
                    Err(Error::unavailable("the audit trail cannot keep up; try again later", RETRY_AFTER))
                }
            },
        }
    }

    /// Puts an event into the queue.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Self::reserve).
    pub async fn record(&self, event: AuditEvent) -> Result<()> {
        self.reserve().await?.send(event);
        Ok(())
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
            Ok(None) | Err(_) => {
                Err(Error::unavailable("the audit trail could not be written in time", RETRY_AFTER))
            }
        }
    }
}

impl AuditPermit {
    /// Puts the event into the place that was reserved. Never waits, never fails.
    pub fn send(self, event: AuditEvent) {
        self.0.send(Message::Event(Box::new(event)));
    }
}

async fn write_batches(sink: Arc<dyn AuditSink>, mut inbox: mpsc::Receiver<Message>) {
    let mut received = Vec::new();
    loop {
        received.clear();
        if inbox.recv_many(&mut received, BATCH).await == 0 {
            return;
        }
        let wants_flush = received.iter().any(|message| matches!(message, Message::Flush(_)));
        if received.len() < BATCH && !wants_flush {
            // Company for the first event: one write for many.
            tokio::time::sleep(LINGER).await;
            while received.len() < BATCH
                && let Ok(message) = inbox.try_recv()
            {
                received.push(message);
            }
        }
        let (mut events, mut flushed) = (Vec::with_capacity(received.len()), Vec::new());
        for message in received.drain(..) {
            match message {
                Message::Event(event) => events.push(*event),
                Message::Flush(done) => flushed.push(done),
            }
        }
        append_until_kept(&*sink, events.into()).await;
        for done in flushed {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }
}

async fn append_until_kept(sink: &dyn AuditSink, events: Arc<[AuditEvent]>) {
    if events.is_empty() {
        return;
    }
    let mut pause = Duration::from_millis(50);
    while let Err(error) = sink.append(events.clone()).await {
        tracing::error!(
            events = events.len(),
            error = error.chain(),
            "audit events are waiting to be written"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
