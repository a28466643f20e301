//! What happened: a line for each failover, and the last of them for `mcpctl status`.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use jiff::{Timestamp, tz::TimeZone};
use mcpctl_core::failover::Decision;
use serde_json::{Value, json};

use crate::{
    failure::{note, warn},
    output::text::inline,
};

/// So many are remembered.
const MOST: usize = 20;

/// What happened since the proxy was started.
#[derive(Default)]
pub(crate) struct Journal {
    verbose: bool,
    told_of_login: AtomicBool,
    failovers: Mutex<Failovers>,
}

#[derive(Default)]
struct Failovers {
    count: u64,
    refused: u64,
    last: VecDeque<Value>,
}

impl Journal {
    /// An empty one; with a line for each request, or not.
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, ..Self::default() }
    }

    /// A call that the server did not answer well.
    pub(super) fn failed(&self, llm: &str, via: Option<&str>, decision: &Decision, failure: &str) {
        if matches!(decision, Decision::Primary | Decision::Refused | Decision::NoStandIn) {
            return;
        }
        let time = to_seconds(Timestamp::now());
        let event =
            json!({"time": time, "llm": llm, "via": via, "why": failure, "decision": decision.to_string()});
        {
            // Every change is whole before anything can panic, so a poisoned state is a good one.
            let mut failovers = self.failovers.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = if via.is_some() { &mut failovers.count } else { &mut failovers.refused };
            *counted += 1;
            failovers.last.truncate(MOST - 1);
            failovers.last.push_front(event);
        }
        let via = via.map(|via| format!(" via={}", inline(via))).unwrap_or_default();
        let (llm, failure) = (inline(llm), inline(failure));
        let decision = decision.to_string();
        let what = if via.is_empty() { "no failover" } else { "failover" };
        note(format!("{} {what} llm={llm}{via}: {failure}; {}", clock(time), inline(&decision)));
    }

    /// A request, answered.
    pub(super) fn request(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            note(format!("{} {}", clock(Timestamp::now()), inline(&line())));
        }
    }

    /// The server does not take the token any more. Said once.
    pub(super) fn unauthenticated(&self) {
        if !self.told_of_login.swap(true, Relaxed) {
            warn("the server does not take your token: `mcpctl login`, and start this proxy again");
        }
    }

    /// As `mcpctl status` has it.
    pub(super) fn shown(&self) -> Value {
        let failovers = self.failovers.lock().unwrap_or_else(PoisonError::into_inner);
        json!({"count": failovers.count, "refused": failovers.refused, "last": failovers.last})
    }
}

/// As exact as anybody needs it.
pub(crate) fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn clock(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}
