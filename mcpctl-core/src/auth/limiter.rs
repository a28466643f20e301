//! A brake on guessing passwords.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Counts failed logins per account and per address over a window of time.
pub(crate) struct LoginLimiter {
    failures: Mutex<HashMap<Subject, Window>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Account(String),
    Address(String),
}

#[derive(Clone, Copy)]
struct Window {
    began: Instant,
    failures: u32,
}

const WINDOW: Duration = Duration::from_secs(300);
const PER_ACCOUNT: u32 = 10;
const PER_ADDRESS: u32 = 50;
/// More subjects than this are not told apart: memory stays bounded under a flood of made-up accounts.
const MOST_SUBJECTS: usize = 20_000;

impl LoginLimiter {
    pub(crate) fn new() -> Self {
        Self { failures: Mutex::default() }
    }

    /// Refuses when the account or the address has failed too often of late.
    pub(crate) fn check(&self, account: &str, address: &str) -> Result<()> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, most) in subjects(account, address) {
            if let Some(window) = failures.get(&subject)
                && window.failures >= most
                && let Some(left) = WINDOW.checked_sub(window.began.elapsed())
            {
                return Err(Error::rate_limited("too many failed logins; wait, then try again", left));
            }
        }
        Ok(())
    }

    /// Notes a failed login.
    pub(crate) fn failed(&self, account: &str, address: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_SUBJECTS {
            failures.retain(|_, window| window.began.elapsed() < WINDOW);
        }
        for (subject, _) in subjects(account, address) {
            if failures.len() >= MOST_SUBJECTS && !failures.contains_key(&subject) {
                continue;
            }
            let window = failures.entry(subject).or_insert(Window { began: Instant::now(), failures: 0 });
            if window.began.elapsed() >= WINDOW {
                *window = Window { began: Instant::now(), failures: 0 };
            }
            window.failures = window.failures.saturating_add(1);
        }
    }

    /// Forgets the account's failures: its owner is there.
    pub(crate) fn succeeded(&self, account: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&Subject::Account(account.to_owned()));
    }
}

fn subjects(account: &str, address: &str) -> [(Subject, u32); 2] {
    [(Subject::Account(account.to_owned()), PER_ACCOUNT), (Subject::Address(address.to_owned()), PER_ADDRESS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_closed_after_ten_failures_and_others_are_not() {
        let limiter = LoginLimiter::new();
        for _ in 0..PER_ACCOUNT {
            limiter.check("a", "1.1.1.1").unwrap();
            limiter.failed("a", "1.1.1.1");
        }
        let refused = limiter.check("a", "2.2.2.2").unwrap_err();
        assert_eq!(refused.kind(), crate::ErrorKind::RateLimited);
        assert!(refused.retry_after().is_some());
        limiter.check("b", "1.1.1.1").unwrap();
        limiter.succeeded("a");
        limiter.check("a", "1.1.1.1").unwrap();
    }

    #[test]
    fn an_address_is_closed_after_fifty_failures() {
        let limiter = LoginLimiter::new();
        for n in 0..PER_ADDRESS {
            limiter.failed(&n.to_string(), "1.1.1.1");
        }
        assert!(limiter.check("fresh", "1.1.1.1").is_err());
        limiter.check("fresh", "2.2.2.2").unwrap();
    }
}
