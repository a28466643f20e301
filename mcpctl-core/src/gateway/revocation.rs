//! Whether a caller may go on, while its call is under way.
//!
//! A call that was let in may last for minutes. Every few seconds it is asked again whether it would be let in now,
//! in the call's own task and by timers that it has anyway: a call that is over by then never asks.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use crate::{
    auth::Principal,
    error::{Error, Result},
    lease,
    registry::{LlmEntry, Registry},
};

/// How often a call asks.
const EVERY: Duration = Duration::from_secs(5);

/// Who calls which Llm.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) registry: &'a Registry,
    pub(super) who: &'a Principal,
    pub(super) llm: &'a Arc<LlmEntry>,
}

impl Caller<'_> {
    /// What `work` gives; `None` when that takes longer than `limit`. Fails once the caller may not go on.
    pub(super) async fn wait<T>(
        self,
        limit: Duration,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Option<T>> {
        let now = Instant::now();
        let (deadline, mut due) = (now + limit, now + EVERY);
        loop {
            match timeout_at(due.min(deadline), work.as_mut()).await {
                Ok(done) => return Ok(Some(done)),
                Err(_) if deadline <= due => return Ok(None),
                Err(_) => check(self.registry, self.who, self.llm)?,
            }
            due += EVERY;
        }
    }

    /// The same for what is probably there already: then there is no need to look at the clock.
    pub(super) async fn wait_if_needed<T>(
        self,
        limit: Duration,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Option<T>> {
        match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(done) => Ok(Some(done)),
            Poll::Pending => self.wait(limit, work).await,
        }
    }

    /// Gives the caller a lease, where the Llm has leases for it.
    pub(super) fn lease(self, answer: &mut Answer) {
        if let Some(lease) = self.registry.lease(self.who, self.llm) {
            answer.headers.insert(lease::HEADER, lease);
        }
    }

    /// The same caller, for a stream.
    pub(super) fn keep(self) -> Watched {
        let due = Instant::now() + EVERY;
        Watched { registry: self.registry.clone(), who: self.who.clone(), llm: self.llm.clone(), due }
    }
}

/// A caller that is looked at from time to time.
pub(super) struct Watched {
    registry: Registry,
    who: Principal,
    llm: Arc<LlmEntry>,
    due: Instant,
}

impl Watched {
    /// When it is to be looked at next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Why the caller may not go on, if it is time to look and it may not.
    pub(super) fn revoked(&mut self, now: Instant) -> Option<Error> {
        if now < self.due {
            return None;
        }
        self.due = now + EVERY;
        check(&self.registry, &self.who, &self.llm).err()
    }
}

/// The word tells a caller, and whoever reads the audit trail, that the call was fine when it began.
fn check(registry: &Registry, who: &Principal, llm: &LlmEntry) -> Result<()> {
    registry.still_valid(who, llm).map_err(|error| error.context("revoked"))
}
