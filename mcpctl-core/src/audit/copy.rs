//! A second place for events, which follows the first and never holds it up.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{AuditMeters, AuditSink};
use crate::resource::AuditEvent;

/// Gives events that are kept to a sink of its own, in batches as they come.
///
/// Nobody waits for that sink. While it is away, events wait for it in memory, and what is more than that holds is left
/// out of the copy, and said: the first place has it.
#[derive(Clone)]
pub(crate) struct Copier {
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

struct Shared {
    sink: Arc<dyn AuditSink>,
    meters: Arc<AuditMeters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Events on their way to the sink.
    waiting: usize,
    left_out: Option<LeftOut>,
}

/// Events for which there was no room.
struct LeftOut {
    events: usize,
    first: String,
    last: String,
}

enum Message {
    Events(Arc<[AuditEvent]>),
    Flush(oneshot::Sender<()>),
}

/// Events that wait for the sink at most.
const CAPACITY: usize = 65_536;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Copier {
    /// Starts writing on the current tokio runtime. It ends once every clone is dropped.
    pub(crate) fn start(sink: Arc<dyn AuditSink>, meters: Arc<AuditMeters>) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { sink, meters, state: Mutex::default() });
        tokio::spawn(copy(Arc::clone(&shared), inbox));
        Self { messages, shared }
    }

    /// Takes events that the first place has. Never waits.
    pub(crate) fn tell(&self, events: Arc<[AuditEvent]>) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.saturating_add(events.len()) > CAPACITY {
            self.shared.meters.left_out(events.len());
            let left_out = state.left_out.get_or_insert_with(|| {
                tracing::error!("the copy of the audit trail cannot keep up: events are left out of it");
                LeftOut { events: 0, first: first.id.clone(), last: String::new() }
            });
            left_out.events = left_out.events.saturating_add(events.len());
            left_out.last.clone_from(&last.id);
            return;
        }
        state.waiting += events.len();
        // Inside the lock, so that events of two callers come in the order in which there was room for them. The
        // writer is there for as long as this is.
        let _ = self.messages.send(Message::Events(events));
    }

    /// Waits until the sink has what was told before; false when that takes longer than `patience`.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        self.messages.send(Message::Flush(done)).is_ok()
            && matches!(timeout(patience, flushed).await, Ok(Ok(())))
    }
}

async fn copy(shared: Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<Message>) {
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Events(events) => shared.append_until_kept(events).await,
            Message::Flush(done) => {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }
}

impl Shared {
    async fn append_until_kept(&self, events: Arc<[AuditEvent]>) {
        let mut pause = Duration::from_millis(50);
        let mut is_away = false;
        while let Err(error) = self.sink.append(events.clone()).await {
            if !is_away {
                let error = error.chain();
                tracing::error!(error, "the copy of the audit trail cannot be written; its events wait");
            }
            is_away = true;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if is_away {
            tracing::info!("the copy of the audit trail is written again");
        }
        let left_out = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting = state.waiting.saturating_sub(events.len());
            state.left_out.take()
        };
        if let Some(LeftOut { events, first, last }) = left_out {
            tracing::error!(events, first, last, "events were left out of the copy of the audit trail");
        }
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
