//! Counting what each Llm does. Nothing here waits: every number is an atomic of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::HashMap;

use super::admission::{Limit, Shed};
use crate::{
    meter::Histogram,
    registry::LlmEntry,
    resource::{Id, InferenceCall},
};

/// The numbers of all Llms that have been called since the start.
#[derive(Default)]
pub(super) struct Meters {
    llms: ArcSwap<HashMap<Id, Arc<LlmMeters>>>,
    /// Requests that were refused because too many were in flight.
    pub(super) shed: AtomicU64,
}

/// The numbers of one Llm.
#[derive(Debug)]
pub(super) struct LlmMeters {
    pub(super) name: String,
    /// Calls by the status they ended with, in the order of [`STATUSES`].
    statuses: [AtomicU64; STATUSES.len()],
    /// From a request's arrival to its answer's end.
    pub(super) duration: Histogram,
    /// From a request's arrival to the first byte of its answer.
    pub(super) first_byte: Histogram,
    /// From a request's arrival to the first token of its answer, where that is streamed.
    pub(super) first_token: Histogram,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) completion_tokens: AtomicU64,
    pub(super) cached_tokens: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) in_flight: AtomicI64,
    /// Calls that are in line for a place now.
    pub(super) waiting: AtomicI64,
    /// Calls that had to wait in line, by whose limit they met, in the order of [`LIMITS`].
    queued: [AtomicU64; LIMITS.len()],
    /// Calls that were refused for want of a place, in the order of [`SHEDS`].
    shed: [AtomicU64; SHEDS.len()],
}

const LIMITS: [(Limit, &str); 3] =
    [(Limit::Llm, "llm"), (Limit::Processes, "processes"), (Limit::Server, "server")];

/// Whose limit was met, and why the call was refused; and both in words.
const SHEDS: [((Limit, Shed), [&str; 2]); 6] = [
    ((Limit::Llm, Shed::LineFull), ["llm", "line_full"]),
    ((Limit::Llm, Shed::Timeout), ["llm", "timeout"]),
    ((Limit::Processes, Shed::LineFull), ["processes", "line_full"]),
    ((Limit::Processes, Shed::Timeout), ["processes", "timeout"]),
    ((Limit::Server, Shed::LineFull), ["server", "line_full"]),
    ((Limit::Server, Shed::Timeout), ["server", "timeout"]),
];

/// The statuses a call can end with; others are counted as 0. A fixed set keeps the labels bounded, whatever a
/// provider makes up.
pub(super) const STATUSES: [u16; 17] =
    [200, 400, 403, 404, 408, 409, 413, 422, 429, 499, 500, 501, 502, 503, 504, 529, 0];

/// How long a call took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// To the answer's end.
    pub(super) end: Duration,
    /// To its first byte.
    pub(super) first_byte: Option<Duration>,
    /// To the first token of a stream.
    pub(super) first_token: Option<Duration>,
}

impl Meters {
    /// The numbers of an Llm. Its first call makes them.
    pub(super) fn of(&self, llm: &LlmEntry) -> Arc<LlmMeters> {
        if let Some(known) = self.llms.load().get(&llm.id) {
            return known.clone();
        }
        let made = Arc::new(LlmMeters::new(llm));
        self.llms.rcu(|known| {
            let mut next = HashMap::clone(known);
            // Another call may have been first: then its numbers are the ones that count.
            next.entry(llm.id.clone()).or_insert_with(|| made.clone());
            next
        });
        self.llms.load().get(&llm.id).cloned().unwrap_or(made)
    }

    /// Those of the Llms that `visible` says yes to, by name. Forgets those of Llms that `exists` says no to.
    pub(super) fn select(
        &self,
        exists: impl Fn(&Id) -> bool,
        visible: impl Fn(&Id) -> bool,
    ) -> Vec<Arc<LlmMeters>> {
        if self.llms.load().keys().any(|id| !exists(id)) {
            self.llms.rcu(|known| {
                let kept = known.iter().filter(|(id, _)| exists(id));
                kept.map(|(id, meters)| (id.clone(), meters.clone())).collect::<HashMap<_, _>>()
            });
        }
        let mut selected: Vec<_> =
            self.llms.load().iter().filter(|(id, _)| visible(id)).map(|(_, meters)| meters.clone()).collect();
        selected.sort_by(|a, b| a.name.cmp(&b.name));
        selected
    }
}

impl LlmMeters {
    fn new(llm: &LlmEntry) -> Self {
        Self {
            name: llm.name.clone(),
            statuses: Default::default(),
            duration: Histogram::default(),
            first_byte: Histogram::default(),
            first_token: Histogram::default(),
            prompt_tokens: AtomicU64::default(),
            completion_tokens: AtomicU64::default(),
            cached_tokens: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            in_flight: AtomicI64::default(),
            waiting: AtomicI64::default(),
            queued: Default::default(),
            shed: Default::default(),
        }
    }

    /// Counts a call that has to wait in line.
    pub(super) fn queued(&self, limit: Limit) {
        for (_, count) in LIMITS.iter().zip(&self.queued).filter(|((known, _), _)| *known == limit) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a call that is refused for want of a place.
    pub(super) fn shed(&self, limit: Limit, why: Shed) {
        for (_, count) in SHEDS.iter().zip(&self.shed).filter(|((known, _), _)| *known == (limit, why)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How many calls had to wait, by whose limit; none where it was never met.
    pub(super) fn by_limit(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = LIMITS.iter().zip(&self.queued).map(|((_, word), count)| (*word, count.load(Relaxed)));
        counted.filter(|(_, count)| *count > 0)
    }

    /// How many calls were refused, by whose limit and why; none where none were.
    pub(super) fn by_shed(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        let counted = SHEDS.iter().zip(&self.shed).map(|((_, words), count)| (*words, count.load(Relaxed)));
        counted.filter(|(_, count)| *count > 0)
    }

    /// Counts a call that has ended.
    pub(super) fn record(&self, call: &InferenceCall, times: Times) {
        let place = STATUSES.iter().position(|status| *status == call.status);
        if let Some(count) = place.or(STATUSES.len().checked_sub(1)).and_then(|at| self.statuses.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        self.duration.observe(times.end);
        for (meter, time) in [(&self.first_byte, times.first_byte), (&self.first_token, times.first_token)] {
            time.into_iter().for_each(|time| meter.observe(time));
        }
        for (meter, tokens) in [
            (&self.prompt_tokens, call.prompt_tokens),
            (&self.completion_tokens, call.completion_tokens),
            (&self.cached_tokens, call.cached_tokens),
            (&self.bytes_out, Some(call.bytes_out)),
        ] {
            meter.fetch_add(tokens.unwrap_or_default(), Relaxed);
        }
    }

    /// How many calls ended with each status; those that none ended with are left out.
    pub(super) fn by_status(&self) -> impl Iterator<Item = (u16, u64)> {
        let counted =
            STATUSES.into_iter().zip(&self.statuses).map(|(status, count)| (status, count.load(Relaxed)));
        counted.filter(|(_, count)| *count > 0)
    }
}
