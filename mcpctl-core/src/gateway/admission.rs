//! Which calls may go on, which wait in line, and which are sent away.
//!
//! A call needs a place at its Llm, when that one has a limit, and then a place in the server. Whoever waits for an
//! Llm holds no place of the server's, so a slow Llm that fills its own limit takes nothing from the others.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{meters::LlmMeters, pipeline::GatewaySettings};
use crate::{
    error::{Error, Result},
    registry::{LlmEntry, Registry},
    resource::{Id, LlmType},
};

/// The limits of a gateway, one for all its threads.
pub(super) struct Admission {
    server: Arc<Gate>,
    /// Runs of the `gemini` program; `None` without that program.
    processes: Option<Arc<Gate>>,
    /// Those of Llms that have a limit, from their first call under it until the Llm is gone. Read without a lock.
    llms: ArcSwap<HashMap<Id, Arc<Gate>>>,
    max_queue: Option<usize>,
    patience: Duration,
}

/// What a call holds from its admission to the last byte of its answer.
pub(super) struct Places {
    _llm: Option<Place>,
    process: Option<Arc<Place>>,
    _server: Place,
}

impl Places {
    /// The place of a process, which the process keeps: it may end after its call.
    pub(super) fn process(&self) -> Option<Arc<Place>> {
        self.process.clone()
    }
}

/// The longest line when nothing else is said.
const LINE: usize = 1000;
/// More places than this nobody means; the semaphore counts a few more.
const MOST: usize = Semaphore::MAX_PERMITS / 2;
/// When to try again: places come free all the time, so it is not worth to wait for long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whose limit a call has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Its Llm's.
    Llm,
    /// That of processes of the `gemini` program.
    Processes,
    /// The server's.
    Server,
}

/// Why a call was sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shed {
    /// The line was as long as it may be.
    LineFull,
    /// It waited as long as it may.
    Timeout,
}

impl Admission {
    pub(super) fn new(settings: &GatewaySettings) -> Self {
        let processes = settings.gemini.as_ref().map(|gemini| Arc::new(Gate::new(gemini.max_processes)));
        Self {
            server: Arc::new(Gate::new(settings.max_in_flight)),
            processes,
            llms: ArcSwap::default(),
            max_queue: settings.max_queue,
            patience: settings.queue_timeout,
        }
    }

    /// The places that a call needs. It waits in line for those that are taken, and gives way when it is dropped.
    ///
    /// # Errors
    ///
    /// Rate limited, at the Llm's limit; unavailable, at that of processes and at the server's.
    pub(super) async fn admit(
        &self,
        registry: &Registry,
        llm: &LlmEntry,
        meters: &LlmMeters,
    ) -> Result<Places> {
        let mut call = Call { admission: self, llm, meters, deadline: None };
        let at_llm = match llm.spec.max_in_flight() {
            None => None,
            Some(limit) => {
                let gate = self.gate(registry, llm, limit);
                gate.resize(limit);
                Some(call.enter(&gate, Limit::Llm).await?)
            }
        };
        let process = match &self.processes {
            Some(gate) if llm.spec.ty == LlmType::GeminiCli => {
                Some(Arc::new(call.enter(gate, Limit::Processes).await?))
            }
            _ => None,
        };
        let at_server = call.enter(&self.server, Limit::Server).await?;
        Ok(Places { _llm: at_llm, process, _server: at_server })
    }

    /// The gate of an Llm; the first call under a limit makes it.
    fn gate(&self, registry: &Registry, llm: &LlmEntry, limit: usize) -> Arc<Gate> {
        if let Some(known) = self.llms.load().get(&llm.id) {
            return known.clone();
        }
        let made = Arc::new(Gate::new(limit));
        let snapshot = registry.snapshot();
        self.llms.rcu(|known| {
            let current = known.iter().filter(|(id, _)| snapshot.llm(id.as_str()).is_some());
            let mut next: HashMap<Id, Arc<Gate>> =
                current.map(|(id, gate)| (id.clone(), gate.clone())).collect();
            // Another call may have been first: then its gate is the one that counts.
            next.entry(llm.id.clone()).or_insert_with(|| made.clone());
            next
        });
        self.llms.load().get(&llm.id).cloned().unwrap_or(made)
    }
}

/// A call on its way in.
struct Call<'a> {
    admission: &'a Admission,
    llm: &'a LlmEntry,
    meters: &'a LlmMeters,
    /// Until when it waits, for all its places together; known once it has to wait.
    deadline: Option<Instant>,
}

impl Call<'_> {
    async fn enter(&mut self, gate: &Arc<Gate>, limit: Limit) -> Result<Place> {
        match gate.try_enter() {
            Some(place) => Ok(place),
            // A box of its own: a call that need not wait carries nothing of it.
            None => Box::pin(self.wait(gate, limit)).await,
        }
    }

    async fn wait(&mut self, gate: &Arc<Gate>, limit: Limit) -> Result<Place> {
        let patience = self.admission.patience;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + patience);
        let line = self.admission.max_queue.unwrap_or_else(|| gate.limit().min(LINE));
        let waited = match InLine::join(gate, line, self.meters) {
            None => Err(Shed::LineFull),
            Some(_in_line) => {
                self.meters.queued(limit);
                timeout_at(deadline, gate.next()).await.ok().flatten().ok_or(Shed::Timeout)
            }
        };
        waited.map_err(|why| {
            self.meters.shed(limit, why);
            self.refusal(gate, limit, why)
        })
    }

    fn refusal(&self, gate: &Gate, limit: Limit, why: Shed) -> Error {
        let most = gate.limit();
        let then = match why {
            Shed::LineFull => "more wait in line than may",
            Shed::Timeout => "none of them came free in time",
        };
        match limit {
            Limit::Llm => Error::rate_limited(
                format!(
                    "llm `{}`: all of its {most} places are taken, and {then}; try again shortly",
                    self.llm.name
                ),
                RETRY_AFTER,
            ),
            Limit::Processes => Error::unavailable(
                format!(
                    "the gemini program runs {most} times, as often as it may, and {then}; try again shortly"
                ),
                RETRY_AFTER,
            ),
            Limit::Server => Error::unavailable(
                format!(
                    "too many requests in flight: all {most} places are taken, and {then}; try again shortly"
                ),
                RETRY_AFTER,
            ),
        }
    }
}

/// So many places, and a line of those who wait for one, first come, first served.
pub(super) struct Gate {
    free: Semaphore,
    limit: AtomicUsize,
    /// Places that are taken and no longer there: they do not become free when they are given back.
    owed: AtomicUsize,
    waiting: AtomicUsize,
    resizing: Mutex<()>,
}

/// A place behind a gate, given back when it is dropped.
pub(super) struct Place(Arc<Gate>);

impl Gate {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(MOST);
        Self {
            free: Semaphore::new(limit),
            limit: AtomicUsize::new(limit),
            owed: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            resizing: Mutex::new(()),
        }
    }

    fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// A place that is free now. Those in line come first: a place that they wait for is never free.
    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        self.free.try_acquire().ok()?.forget();
        Some(Place(self.clone()))
    }

    /// The next place, in turn.
    async fn next(self: &Arc<Self>) -> Option<Place> {
        // Never closed, so never an error.
        self.free.acquire().await.ok()?.forget();
        Some(Place(self.clone()))
    }

    /// Makes the limit another. More places are there at once; of fewer, those that are taken go as they are given
    /// back.
    fn resize(&self, limit: usize) {
        let limit = limit.min(MOST);
        if self.limit() == limit {
            return;
        }
        let _alone = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.limit.swap(limit, Relaxed);
        if let Some(more) = limit.checked_sub(before) {
            let unpaid = (0..more).take_while(|_| self.pay()).count();
            self.free.add_permits(more - unpaid);
        } else {
            let fewer = before - limit;
            let gone = self.free.forget_permits(fewer);
            self.owed.fetch_add(fewer - gone, AcqRel);
        }
    }

    /// Whether a place was owed, which is now paid.
    fn pay(&self) -> bool {
        self.owed.load(Relaxed) > 0
            && self.owed.fetch_update(AcqRel, Acquire, |owed| owed.checked_sub(1)).is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.0.pay() {
            self.0.free.add_permits(1);
        }
    }
}

/// A place in the line, given up when it is dropped.
struct InLine<'a> {
    gate: &'a Gate,
    meters: &'a LlmMeters,
}

impl<'a> InLine<'a> {
    /// `None` when `most` are in line already.
    fn join(gate: &'a Gate, most: usize, meters: &'a LlmMeters) -> Option<Self> {
        let longer = |waiting: usize| (waiting < most).then_some(waiting + 1);
        gate.waiting.fetch_update(AcqRel, Acquire, longer).ok()?;
        meters.waiting.fetch_add(1, Relaxed);
        Some(Self { gate, meters })
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, AcqRel);
        self.meters.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
