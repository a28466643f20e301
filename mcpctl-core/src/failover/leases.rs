//! The leases that a client holds: taken from the server's answers, judged when the server is away.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;
use tokio::{runtime::Handle, sync::watch};

use super::lease_store::{Kept, LeaseStore};
use crate::{
    client::{Client, Observer},
    lease::{self, Claims, Fault, PublicKeys},
};

/// By how much two clocks may differ, in seconds.
const CLOCK_SKEW: i64 = 60;
/// How long the server's keys may take to come.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's keys are asked for no more often than this: a server whose keys do not fit its leases has none.
const KEYS_EVERY: Duration = Duration::from_secs(10);
/// Leases that wait to be looked at: one for each Llm that is called at once, and more than any program calls.
const MAX_WAITING: usize = 64;

/// The leases of one server. Clones share them.
///
/// A lease is taken from an answer at once and looked at in the background: the caller does not wait for the server's
/// keys, nor for a disk.
#[derive(Clone)]
pub struct LeaseBook(Arc<Book>);

struct Book {
    /// For the server's keys.
    client: Client,
    store: Arc<dyn LeaseStore>,
    clock: Box<dyn Clock>,
    /// The latest time known when the book was opened.
    opened: i64,
    state: Mutex<State>,
    /// Whether the background is at work.
    working: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    kept: Kept,
    keys: PublicKeys,
    /// Not looked at yet.
    waiting: Vec<String>,
    /// How often the server has said no.
    refusals: u64,
    /// What the store has not been told: an Llm's lease, or that it has none any more.
    unsaved: BTreeMap<String, Option<String>>,
    /// Nor the latest time.
    time_unsaved: bool,
    /// When the server's keys were last asked for.
    asked: Option<Duration>,
}

/// The time.
trait Clock: Send + Sync {
    /// What the machine's clock shows, in seconds since 1970. It can be set, forwards and back.
    fn wall(&self) -> i64;
    /// The time since this program held the book. Nobody can set it.
    fn steady(&self) -> Duration;
}

struct System(Instant);

impl Clock for System {
    fn wall(&self) -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }
}

impl LeaseBook {
    /// The leases of the server that `client` speaks to, as `store` kept them. Blocks for as long as the store does.
    pub fn open(client: &Client, store: Arc<dyn LeaseStore>) -> Self {
        Self::with_clock(client, store, Box::new(System(Instant::now())))
    }

    fn with_clock(client: &Client, store: Arc<dyn LeaseStore>, clock: Box<dyn Clock>) -> Self {
        let client = client.unobserved();
        // Without what was kept, nothing is leased: that is safe, and no reason to fail.
        let kept = store.load(client.base_url()).unwrap_or_else(|error| {
            tracing::warn!(error = error.chain(), "leases cannot be read");
            Kept::default()
        });
        let keys = PublicKeys::from_jwks(&kept.keys).unwrap_or_default();
        let opened = clock.wall().max(kept.latest);
        let state = Mutex::new(State { kept, keys, ..State::default() });
        Self(Arc::new(Book { client, store, clock, opened, state, working: watch::Sender::new(false) }))
    }

    /// What takes the leases out of a client's answers: see [`Client::observed_by`].
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    /// Whether a lease for this Llm holds for the token of this fingerprint, now.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub fn judge(&self, llm: &str, fingerprint: &str) -> Result<(), &'static str> {
        let mut state = self.0.state();
        let wall = self.0.clock.wall();
        let verdict = self.0.judge(&state, wall, llm, fingerprint);
        if wall > state.kept.latest {
            state.kept.latest = wall;
            state.time_unsaved = true;
            self.work(state);
        }
        verdict
    }

    /// Forgets the lease for an Llm: the server has said no.
    pub fn forget(&self, llm: &str) {
        let mut state = self.0.state();
        // What waits or is looked at may be for this Llm. It is gone too; the next answer brings another.
        state.waiting.clear();
        state.refusals += 1;
        state.kept.leases.remove(llm);
        state.unsaved.insert(llm.to_owned(), None);
        self.work(state);
    }

    /// Takes a lease that the server gave.
    fn take(&self, text: &str) {
        let mut state = self.0.state();
        let known = || state.kept.leases.values().chain(&state.waiting).any(|known| known == text);
        if text.len() > lease::MAX_LEN || state.waiting.len() >= MAX_WAITING || known() {
            return;
        }
        state.waiting.push(text.to_owned());
        self.work(state);
    }

    /// Waits until every lease taken so far is looked at and kept, or for `limit`. For programs that are about to end.
    pub async fn settle(&self, limit: Duration) {
        let mut working = self.0.working.subscribe();
        let _ = tokio::time::timeout(limit, working.wait_for(|working| !working)).await;
    }

    /// Sets the background to work, if it is not.
    fn work(&self, state: MutexGuard<'_, State>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.0.working.send_replace(true) {
            let worker = Worker { book: self.0.clone(), done: false };
            runtime.spawn(worker.run());
        }
        // Only now: the worker looks whether it is done under the same lock.
        drop(state);
    }
}

impl Observer for LeaseBook {
    fn answered(&self, headers: &HeaderMap) {
        if let Some(text) = headers.get(lease::HEADER).and_then(|text| text.to_str().ok()) {
            self.take(text);
        }
    }
}

impl fmt::Debug for LeaseBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseBook").field("server", &self.0.client.base_url()).finish_non_exhaustive()
    }
}

impl Book {
    // Every change is whole before anything can panic, so a poisoned state is a good one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, state: &State, wall: i64, llm: &str, fingerprint: &str) -> Result<(), &'static str> {
        let latest = state.kept.latest;
        if wall < latest.saturating_sub(CLOCK_SKEW) {
            return Err("this machine's clock was set back");
        }
        // Setting the clock back prolongs nothing, neither while the program runs nor from one run to the next.
        let steady = i64::try_from(self.clock.steady().as_secs()).unwrap_or(i64::MAX);
        let now = wall.max(self.opened.saturating_add(steady)).max(latest);
        let text = state.kept.leases.get(llm).ok_or("no lease is held for this llm")?;
        let claims = state.keys.verify(text).map_err(|fault| match fault {
            Fault::UnknownKey => "its lease is signed by a key that is not known",
            _ => "its lease is not the server's",
        })?;
        if claims.llm != llm {
            return Err("its lease is for another llm");
        }
        if claims.cnf != fingerprint {
            return Err("its lease is for another token");
        }
        if now >= claims.exp {
            return Err("its lease has expired");
        }
        if wall < claims.iat.saturating_sub(CLOCK_SKEW) {
            return Err("its lease begins in the future");
        }
        Ok(())
    }

    /// Files those of these leases that a known key signed, and gives back those that an unknown one did. None is filed
    /// when the server has said no since they were taken, when it had said so `refusals` times.
    fn file(&self, leases: Vec<String>, refusals: u64) -> Vec<String> {
        let mut state = self.state();
        let mut unknown = Vec::new();
        if state.refusals != refusals {
            return unknown;
        }
        for text in leases {
            match state.keys.verify(&text) {
                Ok(claims) => state.file(claims, text),
                Err(Fault::UnknownKey) => unknown.push(text),
                Err(fault) => tracing::debug!(%fault, "a lease is refused"),
            }
        }
        unknown
    }

    /// Whether the server's keys may be asked for at this moment.
    fn may_ask(&self) -> bool {
        let (mut state, now) = (self.state(), self.clock.steady());
        let may = state.asked.is_none_or(|asked| now.saturating_sub(asked) >= KEYS_EVERY);
        if may {
            state.asked = Some(now);
        }
        may
    }

    async fn ask_keys(&self) {
        let answer = tokio::time::timeout(KEYS_TIMEOUT, self.client.lease_keys()).await;
        match answer.map(|keys| keys.and_then(|keys| PublicKeys::from_jwks(&keys))) {
            Ok(Ok(keys)) => {
                let mut state = self.state();
                state.kept.keys = keys.to_jwks();
                state.keys = keys;
            }
            Ok(Err(error)) => tracing::debug!(%error, "the server's keys for leases cannot be had"),
            Err(_) => tracing::debug!("the server's keys for leases do not come"),
        }
    }

    /// Tells the store what it has not been told.
    async fn save(self: &Arc<Self>) {
        let book = self.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let (keys, latest, unsaved) = {
                let mut state = book.state();
                state.kept.latest = state.kept.latest.max(book.clock.wall());
                state.time_unsaved = false;
                (state.kept.keys.clone(), state.kept.latest, mem::take(&mut state.unsaved))
            };
            let saved = book.store.update(book.client.base_url(), &mut |kept| {
                kept.latest = kept.latest.max(latest);
                kept.keys.clone_from(&keys);
                for (llm, text) in &unsaved {
                    match text {
                        Some(text) => kept.leases.insert(llm.clone(), text.clone()),
                        None => kept.leases.remove(llm),
                    };
                }
            });
            if let Err(error) = saved {
                tracing::warn!(error = error.chain(), "leases cannot be kept");
            }
        });
        let _ = saving.await;
    }
}

impl State {
    fn is_unsaved(&self) -> bool {
        self.time_unsaved || !self.unsaved.is_empty()
    }

    /// Keeps a lease that the server signed, unless the one held is as good.
    fn file(&mut self, claims: Claims, text: String) {
        let held = self.kept.leases.get(&claims.llm).and_then(|held| self.keys.verify(held).ok());
        if let Some(held) = held.filter(|held| held.cnf == claims.cnf) {
            // The server may give a new one with each answer. A few in the lifetime of one are enough to write down.
            let gain = claims.exp.saturating_sub(held.exp);
            if gain <= claims.exp.saturating_sub(claims.iat) / 10 {
                return;
            }
        }
        self.unsaved.insert(claims.llm.clone(), Some(text.clone()));
        self.kept.leases.insert(claims.llm, text);
    }
}

/// Looks at what was taken, one at a time for each book.
struct Worker {
    book: Arc<Book>,
    done: bool,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (waiting, refusals) = {
                let mut state = self.book.state();
                if state.waiting.is_empty() && !state.is_unsaved() {
                    self.book.working.send_replace(false);
                    self.done = true;
                    return;
                }
                (mem::take(&mut state.waiting), state.refusals)
            };
            let unknown = self.book.file(waiting, refusals);
            if !unknown.is_empty() && self.book.may_ask() {
                self.book.ask_keys().await;
                self.book.file(unknown, refusals);
            }
            if self.book.state().is_unsaved() {
                self.book.save().await;
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its runtime ended before its work did: another may go on.
        if !self.done {
            self.book.working.send_replace(false);
        }
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
