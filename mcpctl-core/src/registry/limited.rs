//! Logins that are turned away unheard: anybody can cause any number of them, so they share events.
//!
//! The first of an account is told at once, and then, when a minute is over, how many more there were. So the trail
//! has at most two events an account and minute, and those of many accounts together are bounded too.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Registry, open::Inner};
use crate::{
    error::Result,
    resource::{Actor, AuditEvent, EventDetail, Login},
};

/// How long attempts are gathered after the first.
const WINDOW: Duration = Duration::from_secs(60);
/// More accounts than this are not told apart, so that a flood of made-up ones fills neither memory nor the trail.
const MOST_ACCOUNTS: usize = 1000;
/// What stands for the accounts that are not told apart.
const OTHERS: &str = "*";

/// What is not yet told of logins that were turned away.
#[derive(Default)]
pub(super) struct Untold {
    windows: Mutex<HashMap<String, Window>>,
}

struct Window {
    began: Instant,
    /// Attempts after the first.
    more: u64,
}

impl Untold {
    /// Notes an attempt; `Some` when an event has to tell of it at once, and of which account.
    pub(super) fn note(&self, account: &str) -> Option<String> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = windows.len() >= MOST_ACCOUNTS && !windows.contains_key(account);
        let account = if is_full { OTHERS } else { account };
        if let Some(window) = windows.get_mut(account) {
            window.more = window.more.saturating_add(1);
            return None;
        }
        windows.insert(account.to_owned(), Window { began: Instant::now(), more: 0 });
        Some(account.to_owned())
    }

    /// Closes the windows that are over, or all, and gives what they hold.
    fn take(&self, all: bool) -> Vec<(String, u64)> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let over = windows.extract_if(|_, window| all || window.began.elapsed() >= WINDOW);
        over.filter(|(_, window)| window.more > 0).map(|(account, window)| (account, window.more)).collect()
    }
}

impl Registry {
    /// Tells the trail of attempts that were gathered: those whose minute is over, or all.
    pub(super) async fn tell_limited(&self, all: bool) -> Result<()> {
        for (email, count) in self.inner.untold.take(all) {
            let login = Login { email, result: "limited".to_owned(), count: Some(count) };
            self.audit().record(AuditEvent::new(Actor::default(), EventDetail::Login(login))).await?;
        }
        Ok(())
    }
}

/// Tells what is gathered, until the registry is dropped.
pub(super) async fn tell(registry: Weak<Inner>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let Some(inner) = registry.upgrade() else { return };
        if let Err(error) = (Registry { inner }).tell_limited(false).await {
            tracing::error!(error = error.chain(), "logins that were turned away could not be counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_at_once_and_one_for_the_rest() {
        let untold = Untold::default();
        assert_eq!(untold.note("a").as_deref(), Some("a"));
        for _ in 0..5000 {
            assert_eq!(untold.note("a"), None);
        }
        assert_eq!(untold.note("b").as_deref(), Some("b"));
        assert_eq!(untold.take(false), []);
        sleep(WINDOW).await;
        assert_eq!(untold.take(false), [("a".to_owned(), 5000)], "of `b` all is told");
        assert_eq!(untold.note("a").as_deref(), Some("a"), "a new window");
        untold.note("a");
        assert_eq!(untold.take(true), [("a".to_owned(), 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_accounts_share_what_is_left() {
        let untold = Untold::default();
        let told: Vec<_> = (0..100_000).filter_map(|number| untold.note(&number.to_string())).collect();
        assert_eq!(told.len(), MOST_ACCOUNTS + 1);
        assert_eq!(told.last().map(String::as_str), Some(OTHERS));
        assert_eq!(untold.take(true), [(OTHERS.to_owned(), 100_000 - MOST_ACCOUNTS as u64 - 1)]);
    }
}
