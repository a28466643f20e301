//! The database is taken away under load and comes back: known callers notice nothing for as long as memory may be
//! trusted, then they are told, and soon after its return all is well and every answer has its event.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{
    Api, Provider, Server, ServerOptions, chaos::Seeded, http1::Connection, postgres::Postgres, within,
};
use tokio::{task::JoinSet, time::sleep};

use super::{all_audited, connect, is_full, options, request, scaled};

const CALLERS: usize = 8;
/// A question to the database that is still without an answer counts as none for so long, whatever the limit.
const TOLERANCE: Duration = Duration::from_secs(5);
/// How long a change may take to be refused.
const BOUNDED: Duration = Duration::from_secs(20);

/// How soon after the database's return all must be well. Beside other tests, everything takes longer.
pub(super) fn healed_within() -> Duration {
    Duration::from_secs(if is_full() { 5 } else { 15 })
}

/// A call: its request's id, when it was sent, its status, and whether it says when to come again.
#[derive(Clone, Debug)]
struct Call {
    id: String,
    at: Instant,
    took: Duration,
    status: u16,
    says_when: bool,
}

/// Callers that go on until they are told to stop.
pub(super) struct Load {
    calls: Arc<Mutex<Vec<Call>>>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    pub(super) fn start(server: &Server, api: &Api) -> Self {
        let mut load = Self { calls: Arc::default(), stop: Arc::default(), callers: JoinSet::new() };
        for number in 0..CALLERS {
            let (api, address) = (api.clone(), server.address());
            let (calls, stop) = (load.calls.clone(), load.stop.clone());
            load.callers.spawn(async move {
                let mut connection = connect(address).await.expect("a connection");
                for step in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("load-{number}-{step}");
                    let call = ask(&mut connection, &api, id, step % 2 == 0).await;
                    calls.lock().unwrap().push(call);
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
        load
    }

    /// Stops it; all calls in the order in which they were sent.
    async fn finish(self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// Stops it; every call must have been answered and have its event.
    pub(super) async fn finish_unharmed(self, api: &Api) -> usize {
        let calls = self.finish().await;
        let bad = calls.iter().find(|call| call.status != 200);
        assert!(bad.is_none(), "{bad:?} of {} calls", calls.len());
        all_audited(api, calls.iter().map(|call| &call.id)).await;
        calls.len()
    }
}

async fn ask(connection: &mut Connection, api: &Api, id: String, stream: bool) -> Call {
    let at = Instant::now();
    connection.write(&request(api, "gpt", &id, "load", stream)).await.unwrap();
    let reply = within(Duration::from_secs(30), "an answer", connection.reply()).await.expect("an answer");
    assert!(matches!(reply.status, 200 | 503), "{} {}", reply.status, reply.text());
    let whole = !stream || reply.status != 200 || reply.text().ends_with("data: [DONE]\n\n");
    assert!(whole, "half a stream: {}", reply.text());
    let says_when = reply.head.header("retry-after").is_some();
    Call { id, at, took: at.elapsed(), status: reply.status, says_when }
}

/// Tries a change until it succeeds; says how long after `since` that was. Meanwhile each is refused with a 503, in
/// bounded time.
pub(super) async fn changes_work_again(api: &Api, since: Instant) -> Duration {
    loop {
        let began = Instant::now();
        let reply = api.patch("/api/v1/llms/gpt", &json!({"description": format!("{began:?}")})).await;
        assert!(began.elapsed() < BOUNDED, "a change was refused after {:?}", began.elapsed());
        if reply.status == 200 {
            return since.elapsed();
        }
        assert!(!reply.header("retry-after").is_empty(), "{}", reply.text());
        reply.error(503);
        assert!(since.elapsed() < Duration::from_secs(60), "changes are refused for ever: {}", reply.text());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Takes the database away for longer than memory may be trusted, and gives it back.
async fn outage(what: &str, options: ServerOptions, take: impl FnOnce(&Server) -> Box<dyn FnOnce()>) {
    let seconds = scaled("MCPCTL_CHAOS_STALENESS", 2, 5) as u64;
    let staleness = Duration::from_secs(seconds);
    let mut options = options;
    options.args.extend(["--max-staleness".to_owned(), format!("{seconds}s")]);
    let (server, provider) = (Server::start_with(options).await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let mut random = Seeded::new(20_261_205);
    let load = Load::start(&server, &admin);
    sleep(Duration::from_millis(500 + random.below(500))).await;
    let taking = Instant::now();
    let give_back = take(&server);
    let gone = Instant::now();
    let change = tokio::spawn({
        let admin = admin.clone();
        async move {
            let began = Instant::now();
            let reply = admin.patch("/api/v1/llms/gpt", &json!({"description": "never"})).await;
            (reply, began.elapsed())
        }
    });
    let away = staleness.max(TOLERANCE) + Duration::from_millis(if is_full() { 5000 } else { 1500 });
    sleep(away.saturating_sub(gone.elapsed())).await;
    let back = Instant::now();
    give_back();
    let back = back + back.elapsed();
    let changed_after = changes_work_again(&admin, back).await;
    // Long enough to see whether anybody is refused after all.
    let watch = if is_full() { healed_within() + Duration::from_secs(1) } else { Duration::from_secs(2) };
    sleep(watch.saturating_sub(back.elapsed())).await;
    let (change, change_took) = change.await.unwrap();
    let calls = load.finish().await;

    let refused: Vec<&Call> = calls.iter().filter(|call| call.status == 503).collect();
    let first = refused.first().expect("after the limit, callers are refused");
    let last = refused.last().unwrap();
    let (trusted, healed) = (first.at - taking, last.at.saturating_duration_since(back));
    let slowest = calls.iter().max_by_key(|call| call.took).unwrap();
    println!(
        "{what}: {} calls, the first refusal {trusted:?} after the database was gone, the last {healed:?} after its \
         return, changes work {changed_after:?} after it; a change was refused after {change_took:?}; the slowest \
         call took {:?}",
        calls.len(),
        slowest.took
    );
    // The last look that succeeded was up to a second before.
    assert!(trusted > staleness - Duration::from_millis(1250), "refused after {trusted:?}");
    assert!(first.at < back, "memory was trusted for too long");
    assert!(refused.iter().all(|call| call.says_when), "a refusal does not say when to come again");
    assert!(healed <= healed_within(), "callers were refused until {healed:?} after the return");
    assert!(
        changed_after <= healed_within(),
        "changes were refused until {changed_after:?} after the return"
    );
    // A change that waited out the outage is as good as one that was refused.
    assert!(matches!(change.status, 503 | 200), "{} {}", change.status, change.text());
    assert!(change.status == 200 || change_took < BOUNDED, "a change was refused after {change_took:?}");
    all_audited(&admin, calls.iter().filter(|call| call.status == 200).map(|call| &call.id)).await;
}

/// Another process with a lock on a SQLite database, until it is dropped.
struct Locker(Child);

impl Locker {
    /// Takes the locks of readers and writers alike, as a connection does that recovers the database.
    fn of_all(database: &Path) -> Self {
        const SCRIPT: &str = "import fcntl, sys\n\
                              file = open(sys.argv[1] + '-shm', 'r+b')\n\
                              fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)\n\
                              print('locked', flush=True)\n\
                              sys.stdin.read()\n";
        Self::run(SCRIPT, database)
    }

    /// Takes the lock of writers.
    fn of_writers(database: &Path) -> Self {
        const SCRIPT: &str = "import sqlite3, sys\n\
                              db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)\n\
                              db.execute('BEGIN IMMEDIATE')\n\
                              print('locked', flush=True)\n\
                              sys.stdin.read()\n";
        Self::run(SCRIPT, database)
    }

    fn run(script: &str, database: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_locked_by_another() {
    outage("SQLite locked", options(&[]), |server| {
        let locker = Locker::of_all(&server.data_dir().join("mcpctl.db"));
        Box::new(move || drop(locker))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_locked_for_writers() {
    let (server, provider) =
        (Server::start_with(options(&["--max-staleness", "2s"])).await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let load = Load::start(&server, &admin);
    let locker = Locker::of_writers(&server.data_dir().join("mcpctl.db"));
    let began = Instant::now();
    let reply = admin.patch("/api/v1/llms/gpt", &json!({"description": "never"})).await;
    let refused_after = began.elapsed();
    reply.error(503);
    assert!(refused_after < BOUNDED, "a change was refused after {refused_after:?}");
    drop(locker);
    let healed = changes_work_again(&admin, Instant::now()).await;
    assert!(healed <= healed_within(), "changes were refused until {healed:?} after the lock was gone");
    // What is read is as fresh as ever, so nobody is refused.
    let calls = load.finish_unharmed(&admin).await;
    println!(
        "SQLite locked for writers: a change refused after {refused_after:?}, healed {healed:?}, {calls} calls"
    );
}

/// A server on a PostgreSQL of its own, which is taken away and given back.
async fn postgres_outage(what: &str, take: fn(&Postgres), give: fn(&Postgres)) {
    let Some(postgres) = Postgres::start() else { return };
    let postgres = Arc::new(postgres);
    let options = ServerOptions { database_url: Some(postgres.create_database()), ..options(&[]) };
    let taken = postgres.clone();
    outage(what, options, move |_| {
        take(&taken);
        Box::new(move || give(&taken))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_killed() {
    postgres_outage("PostgreSQL killed", Postgres::kill9, Postgres::start_again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_frozen() {
    postgres_outage("PostgreSQL frozen", Postgres::freeze, Postgres::thaw).await;
}

/// An ordinary stop is tried without a load in every run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_stopped() {
    if is_full() {
        postgres_outage("PostgreSQL stopped", Postgres::stop, Postgres::start_again).await;
    }
}
