//! The task that keeps one run of vLLM: from its start to its end, and what is said about it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use url::Url;
use uuid::Uuid;

use super::{
    ManagedState, Shared, Verdict,
    child::Run,
    claim::{Claim, system},
};

/// How a run ended.
enum End {
    /// As it was meant to.
    Stopped,
    /// It was not even started, and trying again costs nothing.
    Prevented(String),
    /// It failed before it served.
    NotStarted(String),
    /// It failed when it had served.
    Broken(String),
}

/// Keeps the run `run`.
pub(super) async fn keep(shared: Arc<Shared>, run: u64) {
    // Should this task be dropped with its runtime, the process is killed: nobody may think that it is there.
    let mut closing = Closing { shared: &shared, end: Some(End::Stopped), served_since: None };
    let end = closing.run(run).await;
    closing.end = Some(end);
}

struct Closing<'a> {
    shared: &'a Shared,
    end: Option<End>,
    served_since: Option<Instant>,
}

impl Closing<'_> {
    async fn run(&mut self, run: u64) -> End {
        let shared = self.shared;
        let (folder, name) = (shared.settings.folder.clone(), shared.settings.name.clone());
        let claim = spawn_blocking(move || Claim::take(folder.as_deref(), &name)).await;
        let claim = match claim.map_err(|fault| fault.to_string()).flatten() {
            Ok(claim) => claim,
            Err(why) => return End::Prevented(why),
        };
        let prepared = shared.settings.find_program().and_then(|program| Ok((program, free_port(shared)?)));
        let (program, port) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return End::Prevented(why),
        };
        let mark = Uuid::now_v7().to_string();
        let state = shared.state.clone();
        let hear = move |line: &str| {
            state.send_if_modified(|state| match state {
                ManagedState::Starting { progress, .. } => {
                    line.clone_into(progress);
                    true
                }
                _ => false,
            });
        };
        let started =
            Run::start(&shared.settings, &program, (port, shared.timing.grace, &mark), &shared.lines, hear);
        let mut vllm = match started {
            Ok(vllm) => vllm,
            Err(fault) => return End::Prevented(format!("{} cannot be started: {fault}", program.display())),
        };
        if let Err(fault) = claim.note(vllm.id(), &mark) {
            tracing::warn!(%fault, "it could not be written down that a vLLM was started");
        }
        tracing::info!(name = shared.settings.name, pid = vllm.id(), port, "vLLM is started");
        let began = Instant::now();
        let end = match shared.wait_for_health(&mut vllm, port, run).await {
            Ok(()) => {
                tracing::info!(name = shared.settings.name, after = ?began.elapsed(), "vLLM is ready");
                self.served_since = Some(Instant::now());
                shared.watch_over(&mut vllm, port, run).await
            }
            Err(end) => end,
        };
        shared.begin_stop();
        match &end {
            End::Stopped => vllm.stop(shared.timing.grace).await,
            End::Prevented(_) | End::NotStarted(_) | End::Broken(_) => vllm.kill().await,
        }
        claim.clear();
        end
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let end = self.end.take().unwrap_or(End::Stopped);
        self.shared.close(end, self.served_since);
    }
}

/// The port to serve at.
fn free_port(shared: &Shared) -> Result<u16, String> {
    let wanted = shared.settings.port.unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|fault| match wanted {
        0 => format!("there is no free port: {fault}"),
        _ => format!("port {wanted} cannot be had: {}", in_words(&fault)),
    })
}

fn in_words(fault: &std::io::Error) -> String {
    match fault.kind() {
        std::io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        _ => fault.to_string(),
    }
}

impl Shared {
    /// Waits until it serves.
    async fn wait_for_health(&self, vllm: &mut Run, port: u16, run: u64) -> Result<(), End> {
        let limit = self.settings.start_timeout;
        let healthy = async {
            loop {
                if self.answers(port).await {
                    return;
                }
                sleep(self.timing.look_every).await;
            }
        };
        let stopped = async {
            while self.desk().verdict.is_none() {
                self.wake.notified().await;
            }
        };
        tokio::select! {
            biased;
            how = vllm.ended() => return Err(End::NotStarted(format!("vLLM {how} before it was ready"))),
            () = stopped => return Err(End::Stopped),
            () = healthy => {}
            () = sleep(limit) => {
                let limit = limit.as_secs_f64();
                return Err(End::NotStarted(format!("vLLM was not ready within {limit} s")));
            }
        }
        // Somebody else may have taken the port before vLLM did.
        let (group, address) = (vllm.id(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listens = spawn_blocking(move || system::listens(group, address)).await;
        if listens.is_ok_and(|listens| listens == Some(false)) {
            // What has just ended does not listen either.
            let ended = timeout(Duration::from_secs(1), vllm.ended()).await;
            return Err(End::NotStarted(match ended {
                Ok(how) => format!("vLLM {how} before it was ready"),
                Err(_) => format!("another program answers at port {port}"),
            }));
        }
        *self.well.lock().await = Some((run, Instant::now()));
        let mut desk = self.desk();
        if desk.verdict.is_some() {
            return Err(End::Stopped);
        }
        let (url, pid) = (format!("http://{address}/"), u32::try_from(group).unwrap_or_default());
        let url = Url::parse(&url).map_err(|fault| End::NotStarted(fault.to_string()))?;
        desk.idle_since = Instant::now();
        self.state.send_replace(ManagedState::Ready { url, pid });
        Ok(())
    }

    /// Stays until it ends, or shall.
    async fn watch_over(&self, vllm: &mut Run, port: u16, run: u64) -> End {
        const HUNG: &str = "vLLM does not answer any more, and was killed";
        loop {
            let (is_used, idle_since) = {
                let desk = self.desk();
                match desk.verdict {
                    Some(Verdict::Stop) => return End::Stopped,
                    Some(Verdict::Hung) => return End::Broken(HUNG.to_owned()),
                    None => (desk.users > 0, desk.idle_since),
                }
            };
            let rest = if is_used {
                self.timing.check_every
            } else {
                self.settings.idle_timeout.saturating_sub(idle_since.elapsed())
            };
            tokio::select! {
                biased;
                how = vllm.ended() => return End::Broken(format!("vLLM {how}")),
                () = self.wake.notified() => {}
                () = sleep(rest) => {
                    if is_used && !self.is_well(run, port).await {
                        self.judge(Some(run), Verdict::Hung);
                    } else if !is_used {
                        self.stop_if_idle();
                    }
                }
            }
        }
    }

    fn stop_if_idle(&self) {
        let mut desk = self.desk();
        if desk.users == 0 && desk.idle_since.elapsed() >= self.settings.idle_timeout {
            tracing::info!(name = self.settings.name, "vLLM is stopped: nobody uses it");
            desk.verdict.get_or_insert(Verdict::Stop);
            self.state.send_replace(ManagedState::Stopping);
        }
    }

    /// From here on nobody gets it.
    fn begin_stop(&self) {
        let _desk = self.desk();
        self.state.send_if_modified(|state| {
            let changes = *state != ManagedState::Stopping;
            *state = ManagedState::Stopping;
            changes
        });
    }

    /// Nothing runs any more.
    fn close(&self, end: End, served_since: Option<Instant>) {
        let mut desk = self.desk();
        desk.users = 0;
        let stable = served_since.is_some_and(|since| since.elapsed() >= self.timing.stable);
        let stopped = served_since.is_some() && matches!(end, End::Stopped);
        if stable || stopped {
            desk.failures = 0;
        }
        let (why, wait) = match end {
            End::Stopped => {
                self.state.send_replace(ManagedState::Stopped);
                return;
            }
            End::Prevented(why) => (why, Duration::ZERO),
            End::NotStarted(why) => {
                desk.failures = desk.failures.saturating_add(1);
                (why + &self.lines.told(), self.delay(desk.failures))
            }
            End::Broken(why) => {
                // The first time, it is started again at once.
                desk.failures = desk.failures.saturating_add(1);
                (why + &self.lines.told(), self.delay(desk.failures - 1))
            }
        };
        tracing::warn!(name = self.settings.name, why, "vLLM has failed");
        self.state.send_replace(ManagedState::Failed { why, retry_at: Instant::now() + wait });
    }

    /// How long to wait after so many failures.
    fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 2_u32.saturating_pow(doublings);
                self.timing.first_delay.saturating_mul(factor).min(self.timing.longest_delay)
            }
        }
    }
}
