//! `--audit buffered` and `--audit strict`: which events are there after `kill -9`, and what callers are told while
//! none can be written.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::{
    Api, Provider, Server, ServerOptions,
    chaos::{Seeded, rounds},
    eventually,
    postgres::Postgres,
    server::unique,
    wait::eventually_within,
};

/// What `--audit buffered` promises.
const AT_RISK: Duration = Duration::from_millis(100);
const CALLERS: usize = 16;

fn options(mode: &str) -> ServerOptions {
    ServerOptions {
        args: vec!["--audit".into(), mode.into()],
        // How long each write took is logged; more would only slow the server down.
        env: vec![("RUST_LOG".into(), "info,mcpctl_core::audit=trace".into())],
        ..ServerOptions::default()
    }
}

fn ask(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]})
}

/// An answer that came whole: its request's id, and when its end was there.
type Answers = Arc<Mutex<Vec<(String, Instant)>>>;

/// Asks, streaming every other time, until the server dies.
async fn caller(api: Api, number: usize, answers: Answers) {
    for step in number.. {
        let stream = step % 2 == 0;
        let request = api.request("POST", "/v1/chat/completions").header("x-request-id", unique("call"));
        let Ok(response) = request.json(&ask("gpt", stream)).send().await else { return };
        let status = response.status();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let Ok(body) = response.bytes().await else { return };
        assert_eq!(status, 200, "{body:?}");
        assert!(!stream || body.ends_with(b"data: [DONE]\n\n"), "half a stream that ended: {body:?}");
        answers.lock().unwrap().push((id, Instant::now()));
    }
}

/// How many events each request has.
async fn audited(admin: &Api) -> BTreeMap<String, usize> {
    let (mut found, mut next) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/api/v1/auditlogs?kind=llm_inference_call&limit=1000{next}");
        let page = admin.get(&path).await.expect(200);
        for event in page["items"].as_array().unwrap() {
            *found.entry(event["requestId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        match page["continue"].as_str() {
            Some(more) => next = format!("&continue={more}"),
            None => return found,
        }
    }
}

/// The longest write of events in a log, counting the one that the kill cut off.
fn longest_write(log: &str, killed_at: Timestamp) -> Duration {
    let (mut longest, mut began) = (Duration::ZERO, None);
    for line in log.lines().filter(|line| line.contains("mcpctl_core::audit")) {
        let at: Timestamp = line.split(' ').next().unwrap().parse().unwrap();
        let write = match began {
            Some(began) if line.contains("audit events written") => at.duration_since(began),
            _ => SignedDuration::ZERO,
        };
        longest = longest.max(write.unsigned_abs());
        began = line.contains("writing audit events").then_some(at);
    }
    let cut_off = began.map_or(Duration::ZERO, |began| killed_at.duration_since(began).unsigned_abs());
    longest.max(cut_off)
}

/// What a write of `longest` may leave at risk: an event waits for the write before its own, or for 50 ms, and then
/// for its own; and 50 ms are for a machine that is busy. With quick writes that is what is promised.
fn at_risk(longest: Duration) -> Duration {
    (AT_RISK + longest).max(longest * 2 + AT_RISK / 2)
}

/// Kills a server under load, again and again. In strict mode every answer has its event; else all but the last.
async fn kill_under_load(mode: &str, options: ServerOptions, seed: u64) {
    let mut random = Seeded::new(seed);
    let provider = Provider::start().await;
    let mut server = Server::start_with(options).await;
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    for round in 0..rounds(4) {
        let (answers, logged) = (Answers::default(), server.log().len());
        let callers: Vec<_> =
            (0..CALLERS).map(|number| tokio::spawn(caller(admin.clone(), number, answers.clone()))).collect();
        let enough = 50 + random.below(100) as usize;
        let answered = async || (answers.lock().unwrap().len() >= enough).then_some(());
        eventually_within(Duration::from_secs(60), "answers", answered).await;
        tokio::time::sleep(Duration::from_micros(random.below(120_000))).await;
        let (killed_at, time) = (Instant::now(), Timestamp::now());
        server.kill9();
        for caller in callers {
            caller.await.unwrap();
        }
        let slowest = longest_write(&server.log()[logged..], time);
        server.restart().await;
        let audited = audited(&admin).await;
        assert!(audited.values().all(|count| *count == 1), "an answer was audited twice");
        let answers = answers.lock().unwrap();
        let age = |at: Instant| killed_at.saturating_duration_since(at);
        let lost: Vec<_> =
            answers.iter().filter(|(id, _)| !audited.contains_key(id)).map(|(_, at)| age(*at)).collect();
        let oldest = lost.iter().max().copied().unwrap_or_default();
        println!(
            "{mode} round {round}: {} answers, {} without an event, the oldest of them {oldest:?} old; \
             the longest write took {slowest:?}",
            answers.len(),
            lost.len()
        );
        if mode == "buffered" {
            assert!(oldest <= at_risk(slowest), "an event was lost after {oldest:?}");
        } else {
            assert!(lost.is_empty(), "{} answers without an event", lost.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_every_answer_has_its_event_on_sqlite() {
    kill_under_load("strict", options("strict"), 20_261_124).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_every_answer_has_its_event_on_postgresql() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let options = ServerOptions { database_url: Some(url), ..options("strict") };
    kill_under_load("strict, PostgreSQL", options, 20_261_125).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffered_every_answer_but_the_last_has_its_event() {
    kill_under_load("buffered", options("buffered"), 20_261_126).await;
}

/// Somebody who keeps the database's write lock until dropped.
pub(super) struct Locker(Child);

impl Locker {
    pub(super) fn lock(database: &Path) -> Self {
        const LOCKER: &str = "import sqlite3, sys\n\
                              db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)\n\
                              db.execute('BEGIN IMMEDIATE')\n\
                              print('locked', flush=True)\n\
                              sys.stdin.read()\n";
        let mut command = Command::new("python3");
        command.args(["-c", LOCKER]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
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

#[tokio::test]
async fn buffered_answers_do_not_wait_for_a_database_that_is_locked() {
    let (server, provider) = (Server::start_with(options("buffered")).await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let locker = Locker::lock(&server.data_dir().join("mcpctl.db"));
    let began = Instant::now();
    for stream in [false, true] {
        admin.post("/v1/chat/completions", &ask("gpt", stream)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(locker);
    let both = async || (audited(&admin).await.len() == 2).then_some(());
    eventually_within(Duration::from_secs(20), "both events", both).await;
}

#[tokio::test]
async fn strict_answers_fail_honestly_while_nothing_can_be_written() {
    let (server, provider) = (Server::start_with(options("strict")).await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    admin.create_llm("claude", "anthropic", &provider).await;
    admin.post("/v1/chat/completions", &ask("gpt", false)).await.expect(200);

    let locker = Locker::lock(&server.data_dir().join("mcpctl.db"));
    let began = Instant::now();
    let whole = async || {
        let reply = admin.post("/v1/chat/completions", &ask("gpt", false)).await;
        assert!(!reply.header("retry-after").is_empty());
        reply.openai_error(503)
    };
    let stream = async |path: &str, model: &str| {
        let mut body = ask(model, true);
        body["input"] = "hello".into();
        let mut stream = admin.stream(path, &body).await;
        assert_eq!(stream.status, 200);
        // What the provider says is passed on at once; only the end waits.
        stream.until("data: {").await;
        assert!(began.elapsed() < Duration::from_secs(3), "{path}: {:?}", began.elapsed());
        stream.rest().await.text()
    };
    let (whole, chat, translated, messages, inbound, responses) = tokio::join!(
        whole(),
        stream("/v1/chat/completions", "gpt"),
        stream("/v1/chat/completions", "claude"),
        stream("/v1/messages", "claude"),
        stream("/v1/messages", "gpt"),
        stream("/v1/responses", "gpt"),
    );
    assert!(whole.contains("audit trail"), "{whole}");
    for stream in [&chat, &translated] {
        let (_, end) = stream.split_at(stream.rfind("data: {").unwrap());
        assert!(end.contains("audit trail") && end.ends_with("data: [DONE]\n\n"), "{stream}");
        assert_eq!(stream.matches("[DONE]").count(), 1, "{stream}");
    }
    for (stream, end) in
        [(&messages, "message_stop"), (&inbound, "message_stop"), (&responses, "response.completed")]
    {
        let (_, last) = stream.split_at(stream.rfind("event: ").unwrap());
        assert!(last.starts_with("event: error") && last.contains("audit trail"), "{stream}");
        assert!(!stream.contains(end), "an end besides the error: {stream}");
    }
    assert!(began.elapsed() < Duration::from_secs(9), "bounded: {:?}", began.elapsed());
    // Once it is known that nothing can be written, no provider is asked any more.
    server.logged("audit events are waiting to be written").await;
    let asked = provider.received().len();
    admin.post("/v1/chat/completions", &ask("gpt", false)).await.openai_error(503);
    assert_eq!(provider.received().len(), asked);

    drop(locker);
    let healed = async || {
        let reply = admin.post("/v1/chat/completions", &ask("gpt", false)).await;
        (reply.status == 200).then_some(())
    };
    eventually("answers again", healed).await;
    assert!(audited(&admin).await.len() >= 8, "what was refused for lack of its event has one all the same");
}
