//! vLLM on demand: one process, ready or a clear fault, and nothing left over. A stand-in takes its place; the
//! arguments that it knows are from vLLM's documentation.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use mcpctl_core::{
    ErrorKind,
    failover::managed::{InUse, ManagedSettings, ManagedState, ManagedVllm, Timing},
    secret::SecretValue,
};
use rustix::process::{Pid, Signal, getpgid, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tests::{
    Api, Canary, Reply, eventually, eventually_within,
    server::{binary, free_address, unique},
    sse::Chat,
    within,
};

/// The variable by which the processes of a test are known: all that a stand-in starts has it, too.
const MARKER: &str = "VLLM_TEST_MARKER";
/// How long it may take until nothing of a vLLM is left: a second of grace, and one for the watchdog to look.
const GONE: Duration = Duration::from_secs(6);

/// Settings of a stand-in, and what to find its processes by.
pub(crate) struct Setup {
    pub(crate) settings: ManagedSettings,
    pub(crate) timing: Timing,
    pub(crate) marker: String,
    folder: TempDir,
}

impl Setup {
    pub(crate) fn of(model: &str) -> Self {
        let (folder, marker) = (TempDir::new().unwrap(), unique("vllm"));
        let mut settings = ManagedSettings::new("local", model);
        settings.program = binary("stub-vllm");
        settings.folder = Some(folder.path().join("run"));
        settings.environment = vec![
            (MARKER.into(), (&marker).into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("MCPCTL_TOKEN".into(), "of-the-user".into()),
            ("OPENAI_API_KEY".into(), "of-the-user".into()),
        ];
        let timing = Timing {
            grace: Duration::from_secs(1),
            first_delay: Duration::from_millis(200),
            look_every: Duration::from_millis(10),
            check_every: Duration::from_millis(50),
            fresh: Duration::ZERO,
            answer: Duration::from_millis(500),
            ..Timing::default()
        };
        Self { settings, timing, marker, folder }
    }

    pub(crate) fn vllm(&self) -> ManagedVllm {
        ManagedVllm::with_timing(self.settings.clone(), self.timing.clone())
    }

    /// The numbers of all processes there are of it, and what they are. Dead ones that nobody has waited for do not
    /// count: whose they are to wait for is not ours to say.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let wanted = format!("{MARKER}={}", self.marker);
        let entries = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // A dead one has no environment any more.
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let is_ours = environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes());
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            is_ours.then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        });
        entries.collect()
    }

    /// How many of them are servers. Each leads a group; what it has just forked looks like it until it is something
    /// else.
    pub(crate) fn servers(&self) -> usize {
        let leads = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| getpgid(Some(pid)) == Ok(pid));
        self.processes().iter().filter(|(pid, line)| serves(line) && leads(*pid)).count()
    }

    /// The server.
    pub(crate) fn server(&self) -> Option<Pid> {
        let (pid, _) = self.processes().into_iter().find(|(_, line)| serves(line))?;
        getpgid(Pid::from_raw(pid)).ok()
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn nothing_left(&self) -> Duration {
        let began = Instant::now();
        let gone = async || self.processes().is_empty().then_some(());
        eventually_within(GONE, &format!("the end of all processes of {}", self.marker), gone).await;
        began.elapsed()
    }
}

fn serves(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("serve "))
}

/// The number of what is ready.
pub(crate) fn pid(vllm: &ManagedVllm) -> Pid {
    match vllm.state() {
        ManagedState::Ready { pid, .. } => Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        state => panic!("not ready: {state:?}"),
    }
}

pub(crate) async fn fault_of(vllm: &ManagedVllm) -> String {
    let fault = within(Duration::from_secs(10), "a fault", vllm.ready()).await.unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Unavailable, "{fault}");
    fault.message().to_owned()
}

/// What it answers to a request for a chat.
pub(crate) async fn ask(used: &InUse, stream: bool) -> Reply {
    let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    let address = format!("127.0.0.1:{}", used.url().port().unwrap()).parse().unwrap();
    let reply = Api::new(address, Canary::default()).post("/v1/chat/completions", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// A program with a managed vLLM in it.
pub(crate) struct Keeper {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    said: PathBuf,
}

impl Keeper {
    pub(crate) fn start(setup: &Setup) -> Self {
        let said = setup.folder.path().join(unique("said"));
        let folder = setup.settings.folder.clone().unwrap();
        let mut child = Command::new(binary("vllm-keeper"))
            .args([
                &setup.settings.program,
                Path::new(&setup.settings.model),
                Path::new(&setup.marker),
                &folder,
            ])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        Self { child, input, said }
    }

    /// Waits until it says something that begins like this.
    pub(crate) async fn says(&self, beginning: &str) -> String {
        let said = async || {
            let said = fs::read_to_string(&self.said).unwrap();
            said.lines().find(|line| line.starts_with(beginning)).map(str::to_owned)
        };
        eventually(beginning, said).await
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_starts_when_it_is_needed_and_stops_when_it_is_not() {
    let mut setup = Setup::of("forks-workers+prints-env+prints-args");
    setup.settings.idle_timeout = Duration::from_millis(300);
    setup.settings.gpu_memory_utilization = Some(0.5);
    setup.settings.max_model_len = Some(4096);
    setup.settings.extra_args = vec!["--dtype".to_owned(), "$(touch x); `id` \"'".to_owned()];
    setup.settings.api_key = Some(SecretValue::new("key-of-its-own"));
    let vllm = setup.vllm();
    assert_eq!((vllm.state(), setup.processes()), (ManagedState::Stopped, Vec::new()));
    let used = vllm.ready().await.unwrap();
    let answer = ask(&used, false).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], tests::provider::answer::text());
    let streamed = ask(&used, true).await.text();
    Chat::read(&streamed).assert_finished();
    // The server, its two workers, the watchdog.
    assert_eq!(setup.processes().len(), 4, "{:?}", setup.processes());
    let lines = vllm.last_lines();
    let given: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("arg ")).collect();
    let port = used.url().port().unwrap().to_string();
    assert_eq!(
        given[1..],
        [
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--gpu-memory-utilization",
            "0.5",
            "--max-model-len",
            "4096",
            "--dtype",
            "$(touch x); `id` \"'",
        ]
    );
    assert!(lines.iter().any(|line| line == "env VLLM_API_KEY=[redacted]"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("of-the-user") || line.contains("MCPCTL")), "{lines:?}");
    // Used, it stays.
    tokio::time::sleep(setup.settings.idle_timeout * 2).await;
    assert!(matches!(vllm.state(), ManagedState::Ready { .. }));
    drop(used);
    eventually("the end of idleness", async || (vllm.state() == ManagedState::Stopped).then_some(())).await;
    assert_eq!(setup.processes(), []);
    drop(vllm.ready().await.unwrap());
    vllm.stop().await;
    assert_eq!((vllm.state(), setup.processes()), (ManagedState::Stopped, Vec::new()));
}

#[tokio::test]
async fn many_first_calls_start_one_process() {
    let setup = Setup::of("slow:200ms");
    let vllm = setup.vllm();
    fifty_at_once(&setup, &vllm).await;
    drop(vllm);
    setup.nothing_left().await;
}

/// Fifty calls of what does not run yet.
pub(crate) async fn fifty_at_once(setup: &Setup, vllm: &ManagedVllm) {
    let mut urls = Vec::new();
    let mut most = 0;
    let watching = async {
        loop {
            most = most.max(setup.servers());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut calls: Vec<_> = (0..50).map(|_| Box::pin(vllm.ready())).collect();
    let all = async {
        // All are there before the first is done.
        for call in &mut calls {
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
            assert!(first.is_pending());
        }
        for call in calls {
            urls.push(call.await.unwrap());
        }
    };
    tokio::select! {
        () = within(Duration::from_secs(20), "fifty calls", all) => {}
        () = watching => unreachable!("it watches for ever"),
    }
    assert!(most <= 1, "{most} servers");
    assert_eq!(setup.servers(), 1);
    assert!(urls.iter().all(|used| used.url() == urls[0].url()));
}

#[tokio::test]
async fn a_start_goes_on_when_its_caller_leaves_and_tells_of_its_progress() {
    let setup = Setup::of("slow:300ms");
    let vllm = setup.vllm();
    let mut states = vllm.states();
    assert!(tokio::time::timeout(Duration::from_millis(50), vllm.ready()).await.is_err());
    let told = |state: &ManagedState| match state {
        ManagedState::Starting { progress, .. } => progress.starts_with("Loading safetensors"),
        _ => false,
    };
    within(GONE, "progress", states.wait_for(told)).await.unwrap();
    within(GONE, "readiness", states.wait_for(|state| matches!(state, ManagedState::Ready { .. })))
        .await
        .unwrap();
    drop(vllm);
    setup.nothing_left().await;
}

#[tokio::test]
async fn one_that_dies_at_start_is_told_at_once_with_its_last_lines_and_tried_later() {
    let mut setup = Setup::of("dies-at-start+forks-workers");
    setup.timing.first_delay = Duration::from_millis(500);
    let vllm = setup.vllm();
    let began = Instant::now();
    let fault = fault_of(&vllm).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(fault.contains("vLLM ended with exit code 1 before it was ready"), "{fault}");
    assert!(fault.ends_with("CUDA out of memory. Tried to allocate 224.00 MiB."), "{fault}");
    assert_eq!(setup.processes(), []);
    let again = vllm.ready().await.unwrap_err();
    assert!(again.message().contains("(to be tried again in 1 s)"), "{again}");
    assert!(again.retry_after().unwrap() <= setup.timing.first_delay);
    // The next wait is twice as long.
    let ManagedState::Failed { retry_at, .. } = vllm.state() else { panic!("{:?}", vllm.state()) };
    tokio::time::sleep_until(retry_at.into()).await;
    let began = Instant::now();
    fault_of(&vllm).await;
    let ManagedState::Failed { retry_at, .. } = vllm.state() else { panic!("{:?}", vllm.state()) };
    assert!(retry_at.duration_since(began) >= setup.timing.first_delay * 2);
}

#[tokio::test]
async fn one_that_never_gets_healthy_is_killed() {
    let mut setup = Setup::of("never-healthy+ignores-term+forks-workers");
    setup.settings.start_timeout = Duration::from_millis(500);
    never_healthy(&setup).await;
}

pub(crate) async fn never_healthy(setup: &Setup) {
    let vllm = setup.vllm();
    let fault = fault_of(&vllm).await;
    assert!(fault.contains("vLLM was not ready within 0.5 s; its last lines:"), "{fault}");
    assert!(fault.contains("Waiting for the engine to start up"), "{fault}");
    assert_eq!(setup.processes(), []);
}

#[tokio::test]
async fn a_port_in_use_is_told_and_who_answers_there_is_not_taken_for_vllm() {
    let mut setup = Setup::of("slow:100ms");
    port_in_use(&mut setup).await;
    // It is free when vLLM is started, and taken when it has loaded.
    let address = free_address();
    setup.settings.port = Some(address.port());
    setup.settings.model = "never-healthy".to_owned();
    let vllm = setup.vllm();
    let taken = async {
        let starting = |state: &ManagedState| matches!(state, ManagedState::Starting { progress, .. } if progress.contains("Waiting for"));
        vllm.states().wait_for(starting).await.unwrap();
        tests::Provider::start_at(address).await.unwrap()
    };
    let (fault, _stranger) = tokio::join!(fault_of(&vllm), taken);
    assert!(fault.contains(&format!("another program answers at port {}", address.port())), "{fault}");
    assert_eq!(setup.processes(), []);
}

pub(crate) async fn port_in_use(setup: &mut Setup) {
    let stranger = tests::Provider::start().await;
    let port = stranger.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    setup.settings.port = Some(port);
    let vllm = setup.vllm();
    let fault = fault_of(&vllm).await;
    assert!(fault.contains(&format!("port {port} cannot be had: another program listens there")), "{fault}");
    assert_eq!(setup.processes(), []);
    drop(stranger);
    // No back-off: nothing was tried.
    let free = async || vllm.ready().await.ok();
    drop(eventually("the port", free).await);
    vllm.stop().await;
    assert_eq!(setup.processes(), []);
    setup.settings.port = None;
}

#[tokio::test]
async fn a_killed_one_and_a_stopped_one_are_replaced() {
    let setup = Setup::of("forks-workers");
    let vllm = setup.vllm();
    drop(vllm.ready().await.unwrap());
    let first = pid(&vllm);
    kill_process(first, Signal::KILL).unwrap();
    eventually("the fault", async || matches!(vllm.state(), ManagedState::Failed { .. }).then_some(())).await;
    let ManagedState::Failed { why, .. } = vllm.state() else { panic!() };
    assert!(why.contains("vLLM was ended by signal 9"), "{why}");
    assert_eq!(setup.processes(), [], "its workers are gone, too");
    // In use, it is looked at without a call.
    let used = vllm.ready().await.unwrap();
    let second = pid(&vllm);
    assert_ne!(first, second);
    kill_process(second, Signal::STOP).unwrap();
    eventually("the fault", async || matches!(vllm.state(), ManagedState::Failed { .. }).then_some(())).await;
    drop(used);
    // Not in use, the next call finds out.
    drop(eventually("a third", async || vllm.ready().await.ok()).await);
    let third = pid(&vllm);
    kill_process(third, Signal::STOP).unwrap();
    let again = eventually("a fourth", async || vllm.ready().await.ok()).await;
    assert_ne!(pid(&vllm), third);
    ask(&again, false).await;
    drop(vllm);
    setup.nothing_left().await;
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed_when_it_is_stopped() {
    let setup = Setup::of("ignores-term+forks-workers");
    let vllm = setup.vllm();
    let used = vllm.ready().await.unwrap();
    let began = Instant::now();
    vllm.stop().await;
    let took = began.elapsed();
    assert!(took >= setup.timing.grace && took < GONE, "{took:?}");
    assert_eq!(setup.processes(), []);
    drop(used);
    // Nor does a stop wait for a start.
    let slow = Setup::of("slow:60000ms");
    let vllm = slow.vllm();
    let stopped = async {
        eventually("a process", async || (slow.servers() == 1).then_some(())).await;
        vllm.stop().await;
    };
    let (fault, ()) = tokio::join!(fault_of(&vllm), stopped);
    assert!(fault.contains("it was stopped while it started"), "{fault}");
    assert_eq!(slow.processes(), []);
}

#[tokio::test]
async fn nothing_outlives_a_program_that_is_killed() {
    let setup = Setup::of("ignores-term+forks-workers");
    let mut keeper = Keeper::start(&setup);
    keeper.says("ready").await;
    assert_eq!(setup.processes().len(), 4);
    // One name, one process, whoever asks.
    let mut other = setup.vllm_named("kept");
    let fault = fault_of(&other).await;
    assert!(fault.contains("another program of yours runs it already"), "{fault}");
    keeper.kill();
    setup.nothing_left().await;
    // Without the watchdog, the next start finds what is left.
    let mut keeper = Keeper::start(&setup);
    keeper.says("ready").await;
    let is_watchdog = |line: &str| line.contains("mcpctl-watchdog");
    let (watchdog, _) = setup.processes().into_iter().find(|(_, line)| is_watchdog(line)).unwrap();
    kill_process(Pid::from_raw(watchdog).unwrap(), Signal::KILL).unwrap();
    let left: Vec<i32> =
        setup.processes().iter().map(|(pid, _)| *pid).filter(|pid| *pid != watchdog).collect();
    keeper.kill();
    assert_eq!(setup.processes().len(), 3);
    other = setup.vllm_named("kept");
    drop(other.ready().await.unwrap());
    assert!(setup.processes().iter().all(|(pid, _)| !left.contains(pid)));
    other.stop().await;
    assert_eq!(setup.processes(), []);
}

impl Setup {
    fn vllm_named(&self, name: &str) -> ManagedVllm {
        let settings = ManagedSettings { name: name.to_owned(), ..self.settings.clone() };
        ManagedVllm::with_timing(settings, self.timing.clone())
    }
}
