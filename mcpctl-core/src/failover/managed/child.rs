//! One run of vLLM: a group of processes that ends when it is told to, and when we do.

use std::{
    io,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Signal, WaitIdStatus, test_kill_process_group};
use tokio::{
    process::{Child, ChildStdin, Command},
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    claim::{MARK, system},
    lines::Lines,
    settings::ManagedSettings,
};
use crate::process::Group;

/// Becomes vLLM, after it has left a watchdog behind in the same group, which ends the group when its input does:
/// when we close it, and when we are no more, however that came about. vLLM itself does not read its input.
///
/// The watchdog is deaf to the signals that it sends to its own group. `$$` is the group's leader, and stays so.
const SCRIPT: &str = r#"
grace=$1
shift
exec 3<&0
trap '' HUP INT TERM
(
  while read -r line <&3; do :; done
  kill -TERM 0
  while [ "$grace" -gt 0 ] && kill -0 "$$"; do
    sleep 1
    grace=$((grace - 1))
  done
  kill -KILL 0
) >/dev/null 2>&1 &
trap - HUP INT TERM
exec "$@" 3<&- </dev/null
"#;

/// How long what was killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// A vLLM that runs. When this is dropped, its group is killed.
pub(super) struct Run {
    child: Child,
    group: Group,
    /// The watchdog lives as long as this is open.
    input: Option<ChildStdin>,
    readers: Vec<JoinHandle<()>>,
    /// That some child has ended.
    ends: SignalStream,
}

impl Run {
    /// Starts it. `hear` is told of every line it prints.
    pub(super) fn start(
        settings: &ManagedSettings,
        program: &Path,
        (port, grace, mark): (u16, Duration, &str),
        lines: &Arc<Lines>,
        hear: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        // From before the start on, so that no end is missed.
        let ends = signal(SignalKind::child())?;
        let environment = settings.environment.iter().filter(|(name, _)| ManagedSettings::passes_on(name));
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "mcpctl-watchdog"])
            .arg(grace.as_secs_f64().ceil().to_string())
            .arg(program)
            .args(settings.arguments(port))
            .env_clear()
            .envs(environment.map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .env("PYTHONUNBUFFERED", "1")
            .env(MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(key) = &settings.api_key {
            command.env("VLLM_API_KEY", key.expose());
        }
        let mut child = command.spawn()?;
        let group = Group::of(&child).ok_or_else(|| io::Error::other("it has no number"))?;
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            let (lines, hear) = (lines.clone(), hear.clone());
            readers.push(tokio::spawn(async move { lines.read(output, hear).await }));
        }
        if let Some(output) = child.stderr.take() {
            let lines = lines.clone();
            readers.push(tokio::spawn(async move { lines.read(output, hear).await }));
        }
        let input = child.stdin.take();
        Ok(Self { child, group, input, readers, ends })
    }

    /// Its number, which is its group's.
    pub(super) fn id(&self) -> i32 {
        self.group.pid().as_raw_pid()
    }

    /// Waits for its end, and says how that was. Its number stays its own until it is [killed](Self::kill).
    pub(super) async fn ended(&mut self) -> String {
        loop {
            match self.group.ended() {
                Ok(Some(status)) => return describe(&status),
                Ok(None) => {}
                Err(fault) => return format!("cannot be waited for ({fault})"),
            }
            if self.ends.recv().await.is_none() {
                // No more signals come when the runtime ends.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Asks it to end, by closing its input and SIGTERM, and kills what has not ended after `grace`.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.input = None;
        self.group.signal(Signal::TERM);
        let _ = timeout(grace, self.ended()).await;
        self.kill().await;
    }

    /// Kills what is there of its group, and waits until nothing is.
    pub(super) async fn kill(mut self) {
        // Before it is reaped: the group's number is surely its own.
        self.group.kill();
        self.input = None;
        if let Err(fault) = self.child.wait().await {
            tracing::warn!(%fault, "a vLLM could not be waited for");
        }
        let until = Instant::now() + GONE;
        while !self.is_gone().await {
            if Instant::now() > until {
                tracing::warn!(group = self.id(), "processes of a vLLM do not die");
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        // Its last lines may still be in the pipe.
        for reader in &mut self.readers {
            let _ = timeout(Duration::from_secs(1), reader).await;
        }
    }

    /// Whether nothing of its group lives. A dead process that nobody has waited for yet is not alive.
    async fn is_gone(&self) -> bool {
        if test_kill_process_group(self.group.pid()).is_err() {
            return true;
        }
        let group = self.id();
        spawn_blocking(move || !system::is_alive(group)).await.unwrap_or(true)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Reaped, it has been killed before, and the number may be another's by now.
        if self.child.id().is_some() {
            self.group.kill();
        }
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(126 | 127), _) => "could not be run".to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}
