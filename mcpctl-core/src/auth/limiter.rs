//! A brake on guessing passwords that locks nobody out.
//!
//! Failed logins are counted in three ways. Each count shrinks with time; while it is at its limit or over it, one
//! more try is let through after a pause, which doubles with every failure:
//!
//! | counted for | limit | shrinks by one in | first pause | longest pause |
//! | --- | --- | --- | --- | --- |
//! | an account at an address | 10 | 6 minutes | 5 seconds | 5 minutes |
//! | an address | 50 | 10 seconds | 1 second | 1 minute |
//! | an account | 100 | 1 minute | 1 second | 1 minute |
//!
//! Whoever guesses at an account from one address is slowed to some 12 guesses an hour, and hinders nobody at another
//! address. Whoever guesses from very many addresses is slowed to one a minute. Only the first line applies where
//! somebody has logged in to this account from this address within 30 days, so the owner gets in where they usually
//! do, whatever others do elsewhere. Behind a reverse proxy, all callers have its address.
//!
//! An address of IPv6 stands for its network of 64 bits, which is what one customer has. Accounts are counted
//! whether they exist or not. Each server counts for itself, in memory, and forgets with its end.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Counts failed logins.
pub(crate) struct LoginLimiter {
    state: Mutex<State>,
    /// What is counted is known by a keyed hash: short, whatever callers send, and nothing to be read in memory.
    hasher: RandomState,
}

struct State {
    pairs: Counts,
    addresses: Counts,
    accounts: Counts,
    /// When each account was last logged in to, at each address.
    known: HashMap<u64, Instant>,
}

/// Failures of one sort.
struct Counts {
    rule: Rule,
    counts: HashMap<u64, Count>,
}

struct Rule {
    limit: f64,
    shrinks_in: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

#[derive(Clone, Copy)]
struct Count {
    /// As of the last failure.
    failures: f64,
    last: Instant,
}

/// What a login is counted under.
#[derive(Clone, Copy)]
struct Keys {
    pair: u64,
    address: u64,
    account: u64,
}

const PAIR: Rule = Rule {
    limit: 10.0,
    shrinks_in: Duration::from_secs(360),
    first_pause: Duration::from_secs(5),
    longest_pause: Duration::from_secs(300),
};
const ADDRESS: Rule = Rule {
    limit: 50.0,
    shrinks_in: Duration::from_secs(10),
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(60),
};
const ACCOUNT: Rule = Rule {
    limit: 100.0,
    shrinks_in: Duration::from_secs(60),
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(60),
};

/// How long an address is known after a login.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Of each sort, at most so many are remembered: of a flood of made-up accounts, the latest.
const MOST: usize = 20_000;

impl LoginLimiter {
    pub(crate) fn new() -> Self {
        let counts = |rule| Counts { rule, counts: HashMap::new() };
        let (pairs, addresses, accounts) = (counts(PAIR), counts(ADDRESS), counts(ACCOUNT));
        let state = State { pairs, addresses, accounts, known: HashMap::new() };
        Self { state: Mutex::new(state), hasher: RandomState::new() }
    }

    /// Refuses while there have been too many failures.
    pub(crate) fn check(&self, account: &str, address: &str) -> Result<()> {
        self.check_at(account, address, Instant::now())
    }

    /// Refuses likewise; else notes a failure, until the contrary is known. To be called when the password is about
    /// to be looked at: so guesses that come all at once, or whose senders do not wait, count like others.
    pub(crate) fn begin(&self, account: &str, address: &str) -> Result<()> {
        self.begin_at(account, address, Instant::now())
    }

    /// What began was the owner.
    pub(crate) fn succeeded(&self, account: &str, address: &str) {
        self.succeeded_at(account, address, Instant::now());
    }

    fn check_at(&self, account: &str, address: &str, now: Instant) -> Result<()> {
        let keys = self.keys(account, address);
        self.state().check(keys, now)
    }

    fn begin_at(&self, account: &str, address: &str, now: Instant) -> Result<()> {
        let keys = self.keys(account, address);
        let mut state = self.state();
        state.check(keys, now)?;
        state.pairs.add(keys.pair, now);
        state.addresses.add(keys.address, now);
        state.accounts.add(keys.account, now);
        Ok(())
    }

    fn succeeded_at(&self, account: &str, address: &str, now: Instant) {
        let keys = self.keys(account, address);
        let mut state = self.state();
        state.pairs.counts.remove(&keys.pair);
        // Those of others stay: whoever has an account could else guess on at other ones.
        state.addresses.take_back(keys.address);
        state.accounts.take_back(keys.account);
        state.remember(keys.pair, now);
    }

    fn keys(&self, account: &str, address: &str) -> Keys {
        let address = network(address);
        Keys {
            pair: self.hasher.hash_one((account, &address)),
            address: self.hasher.hash_one(&address),
            account: self.hasher.hash_one(account),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, keys: Keys, now: Instant) -> Result<()> {
        let known = self.known.get(&keys.pair).is_some_and(|last| now.duration_since(*last) < KNOWN);
        let mut pause = self.pairs.pause(keys.pair, now);
        if !known {
            pause = pause.max(self.addresses.pause(keys.address, now));
            pause = pause.max(self.accounts.pause(keys.account, now));
        }
        match pause {
            Duration::ZERO => Ok(()),
            pause => Err(Error::rate_limited("too many failed logins; wait, then try again", pause)),
        }
    }

    fn remember(&mut self, pair: u64, now: Instant) {
        make_room(&mut self.known, pair, |last| now.duration_since(*last) < KNOWN, |last| *last);
        self.known.insert(pair, now);
    }
}

impl Counts {
    /// How long to wait until the next try.
    fn pause(&self, key: u64, now: Instant) -> Duration {
        let Some(count) = self.counts.get(&key) else { return Duration::ZERO };
        let over = (count.failures - self.rule.limit).round();
        if over < 0.0 {
            return Duration::ZERO;
        }
        let doubled = 2_u32.saturating_pow(over as u32);
        let pause = self.rule.first_pause.saturating_mul(doubled).min(self.rule.longest_pause);
        pause.saturating_sub(now.duration_since(count.last))
    }

    fn add(&mut self, key: u64, now: Instant) {
        let rule = &self.rule;
        make_room(&mut self.counts, key, |count| count.at(rule, now) > 0.0, |count| count.last);
        let failures = self.counts.get(&key).map_or(0.0, |count| count.at(rule, now));
        self.counts.insert(key, Count { failures: failures + 1.0, last: now });
    }

    /// Forgets a failure that was none.
    fn take_back(&mut self, key: u64) {
        if let Some(count) = self.counts.get_mut(&key) {
            count.failures -= 1.0;
        }
    }
}

impl Count {
    fn at(&self, rule: &Rule, now: Instant) -> f64 {
        let shrunk = now.duration_since(self.last).as_secs_f64() / rule.shrinks_in.as_secs_f64();
        (self.failures - shrunk).max(0.0)
    }
}

/// Makes room for a key, when it is new: by what is worth nothing any more, else by what is oldest.
fn make_room<T>(
    map: &mut HashMap<u64, T>,
    key: u64,
    is_worth_it: impl Fn(&T) -> bool,
    age: impl Fn(&T) -> Instant,
) {
    if map.len() < MOST || map.contains_key(&key) {
        return;
    }
    map.retain(|_, value| is_worth_it(value));
    if map.len() >= MOST
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key)
    {
        map.remove(&oldest);
    }
}

/// The network that an address stands for.
fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("{:x?}", address.segments().get(..4).unwrap_or_default()),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
