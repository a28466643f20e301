//! vLLM on this machine, started when somebody needs it and stopped when nobody does.
//!
//! | it is | until |
//! | --- | --- |
//! | stopped | [`ManagedVllm::ready`] is called; however many call at once, one process is started |
//! | starting | it answers `GET /health` on its port, ends, or has taken `start_timeout` |
//! | ready | nobody has used it for `idle_timeout`, it ends, or it does not answer any more |
//! | stopping | its group of processes is gone: its input closed, SIGTERM, SIGKILL after ten seconds |
//! | failed | the next call after a wait that doubles from failure to failure, from 1 s to 60 s |
//!
//! Nothing outlives us. vLLM and all it starts are one group of processes, in which a small shell waits for the end
//! of its input, which we hold: when we are gone, killed or not, it ends the group. Should somebody kill that shell
//! first, the next start finds what is left written down, and kills it.

mod child;
mod claim;
mod keeper;
mod lines;
mod settings;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use url::Url;

pub use settings::{ManagedSettings, Timing};

use self::lines::Lines;
use crate::{
    client::health,
    error::{Error, Result},
};

/// What becomes of a managed vLLM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedState {
    /// Nothing runs.
    Stopped,
    /// It has been started, and does not serve yet.
    Starting {
        /// Since when.
        since: Instant,
        /// The last line that it printed.
        progress: String,
    },
    /// It serves.
    Ready {
        /// Where: the beginning of its API's paths, without `v1`.
        url: Url,
        /// The number of its process, which is that of its group.
        pid: u32,
    },
    /// It is being stopped.
    Stopping,
    /// It could not be started, or has ended.
    Failed {
        /// What happened, with its last lines.
        why: String,
        /// When it may be started again.
        retry_at: Instant,
    },
}

/// A vLLM that is started on demand. Dropped, it is stopped.
pub struct ManagedVllm(Arc<Shared>);

/// What the handle, those who use it and the task that keeps the process share.
struct Shared {
    settings: ManagedSettings,
    timing: Timing,
    lines: Arc<Lines>,
    state: watch::Sender<ManagedState>,
    /// Held when the state changes from one of the kinds to another, and never while anything is waited for.
    desk: Mutex<Desk>,
    /// Wakes the task that keeps the process, to look at the desk.
    wake: Notify,
    /// Which run was last well, and when. Held while it is asked, so that it is asked once.
    well: tokio::sync::Mutex<Option<(u64, Instant)>>,
}

#[derive(Debug)]
struct Desk {
    /// Which start this is.
    run: u64,
    /// How many use it.
    users: usize,
    /// Since when nobody does.
    idle_since: Instant,
    /// Failures in a row.
    failures: u32,
    /// Why it shall end.
    verdict: Option<Verdict>,
}

/// Why a process that runs shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody needs it.
    Stop,
    /// It does not answer.
    Hung,
}

/// A vLLM that is ready, in use until this is dropped.
pub struct InUse {
    shared: Arc<Shared>,
    url: Url,
    run: u64,
}

impl InUse {
    /// Where it serves: the beginning of its API's paths, without `v1`.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        if desk.run == self.run {
            desk.users = desk.users.saturating_sub(1);
            if desk.users == 0 {
                desk.idle_since = Instant::now();
                self.shared.wake.notify_one();
            }
        }
    }
}

impl fmt::Debug for ManagedVllm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedVllm")
            .field("name", &self.0.settings.name)
            .field("state", &*self.0.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for ManagedVllm {
    fn drop(&mut self) {
        self.0.judge(None, Verdict::Stop);
    }
}

/// What a caller does next.
enum Step {
    /// Waits for a change.
    Wait,
    /// Makes sure that it is well.
    Check(InUse),
}

impl ManagedVllm {
    /// A vLLM with these settings. Nothing is started, and no fault is told before something is.
    pub fn new(settings: ManagedSettings) -> Self {
        Self::with_timing(settings, Timing::default())
    }

    /// The same, with other times.
    #[doc(hidden)]
    pub fn with_timing(settings: ManagedSettings, timing: Timing) -> Self {
        let desk = Desk { run: 0, users: 0, idle_since: Instant::now(), failures: 0, verdict: None };
        Self(Arc::new(Shared {
            lines: Arc::new(Lines::new(settings.api_key.clone())),
            settings,
            timing,
            state: watch::Sender::new(ManagedState::Stopped),
            desk: Mutex::new(desk),
            wake: Notify::new(),
            well: tokio::sync::Mutex::default(),
        }))
    }

    /// Its settings.
    pub fn settings(&self) -> &ManagedSettings {
        &self.0.settings
    }

    /// Waits until it is ready, and starts it when it is not running. It goes on starting when nobody waits for it
    /// any more.
    ///
    /// # Errors
    ///
    /// Invalid, for a fault of the settings; unavailable, with its last lines, when it cannot be started, was stopped
    /// meanwhile, or failed a moment ago.
    pub async fn ready(&self) -> Result<InUse> {
        self.0.settings.check()?;
        let mut changes = self.0.state.subscribe();
        // That this caller has waited for a start: it fails with that.
        let mut waited = false;
        loop {
            changes.mark_unchanged();
            match self.0.step(&mut waited)? {
                Step::Check(used) => {
                    if self.0.is_well(used.run, used.port()).await {
                        return Ok(used);
                    }
                    self.0.judge(Some(used.run), Verdict::Hung);
                    waited = false;
                }
                Step::Wait => {}
            }
            if changes.changed().await.is_err() {
                return Err(self.0.unavailable("it is gone".to_owned(), Duration::ZERO));
            }
        }
    }

    /// What it does now.
    pub fn state(&self) -> ManagedState {
        self.0.state.borrow().clone()
    }

    /// What it does, from now on.
    pub fn states(&self) -> watch::Receiver<ManagedState> {
        self.0.state.subscribe()
    }

    /// Stops it, whoever uses it, and waits until nothing of it runs.
    pub async fn stop(&self) {
        let mut changes = self.0.state.subscribe();
        self.0.judge(None, Verdict::Stop);
        let at_rest =
            |state: &ManagedState| matches!(state, ManagedState::Stopped | ManagedState::Failed { .. });
        // The sender is in what this borrows.
        let _ = changes.wait_for(at_rest).await;
    }

    /// The last lines that it printed, of this run or of the last one.
    pub fn last_lines(&self) -> Vec<String> {
        self.0.lines.all()
    }
}

impl InUse {
    fn port(&self) -> u16 {
        self.url.port().unwrap_or_default()
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do for a caller; starts a run when none is on its way.
    fn step(self: &Arc<Self>, waited: &mut bool) -> Result<Step> {
        let mut desk = self.desk();
        let state = self.state.borrow().clone();
        match state {
            ManagedState::Ready { url, .. } => {
                desk.users += 1;
                if desk.users == 1 {
                    // From now on it is looked at, and not stopped.
                    self.wake.notify_one();
                }
                return Ok(Step::Check(InUse { shared: self.clone(), url, run: desk.run }));
            }
            ManagedState::Starting { .. } => *waited = true,
            ManagedState::Stopping => {}
            ManagedState::Failed { why, retry_at } => {
                let wait = retry_at.saturating_duration_since(Instant::now());
                if *waited || !wait.is_zero() {
                    return Err(self.unavailable(why, wait));
                }
                self.begin(&mut desk);
                *waited = true;
            }
            ManagedState::Stopped if *waited => {
                return Err(self.unavailable("it was stopped while it started".to_owned(), Duration::ZERO));
            }
            ManagedState::Stopped => {
                self.begin(&mut desk);
                *waited = true;
            }
        }
        Ok(Step::Wait)
    }

    fn begin(self: &Arc<Self>, desk: &mut Desk) {
        desk.run += 1;
        desk.users = 0;
        desk.verdict = None;
        self.lines.clear();
        self.state.send_replace(ManagedState::Starting { since: Instant::now(), progress: String::new() });
        tokio::spawn(keeper::keep(self.clone(), desk.run));
    }

    /// Says that what runs shall end, or the run `run` alone. What is ending is let be.
    fn judge(&self, run: Option<u64>, verdict: Verdict) {
        let mut desk = self.desk();
        if run.is_some_and(|run| run != desk.run) || desk.verdict.is_some() {
            return;
        }
        let state = self.state.borrow().clone();
        match state {
            ManagedState::Ready { .. } => {
                self.state.send_replace(ManagedState::Stopping);
            }
            ManagedState::Starting { .. } => {}
            ManagedState::Stopped | ManagedState::Stopping | ManagedState::Failed { .. } => return,
        }
        desk.verdict = Some(verdict);
        self.wake.notify_one();
    }

    /// Whether the run `run` answers, or did a moment ago. It is asked twice before the answer is no.
    async fn is_well(&self, run: u64, port: u16) -> bool {
        let mut well = self.well.lock().await;
        // Another may run by now, at another port.
        if self.desk().run != run {
            return false;
        }
        if well.is_some_and(|(of, at)| of == run && at.elapsed() < self.timing.fresh) {
            return true;
        }
        let is_well = self.answers(port).await || self.answers(port).await;
        *well = is_well.then(|| (run, Instant::now()));
        is_well
    }

    async fn answers(&self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let status = health::status(address, "/health", self.timing.answer).await;
        status.is_some_and(|status| status == 200)
    }

    fn unavailable(&self, why: String, wait: Duration) -> Error {
        let name = &self.settings.name;
        // The wait stands before the lines, which are many.
        let when = match wait.as_secs_f64().ceil() {
            seconds if seconds > 0.0 => format!(" (to be tried again in {seconds} s)"),
            _ => String::new(),
        };
        Error::unavailable(format!("the local provider `{name}`{when}: {why}"), wait)
    }
}
