//! What the audit trail costs a database: `cargo bench -p benches --bench events [URL]`.
//!
//! Events as the gateway makes them are appended in batches as the queue makes them; what counts is the processor
//! time of this process, writing threads included. Then a trail of a million events is read by every filter.
//! With no URL it is SQLite in a temporary folder; `EVENTS` sets how many events the trail has.

use std::time::{Duration, Instant};

use benches::process::Family;
use jiff::Timestamp;
use mcpctl_core::{
    resource::{Actor, AuditEvent, EventDetail, Id, InferenceCall, Login, TokenHash},
    store::{EventQuery, EventStore, SqlStore},
};

/// How many events a write carries.
const BATCHES: [usize; 4] = [50, 500, 1000, 4096];
/// How many events are measured of each.
const MEASURED: usize = 100_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.db");
    let url = std::env::args().skip(1).find(|word| word.contains("://"));
    let url = url.unwrap_or_else(|| format!("sqlite://{}", path.display()));
    let store = SqlStore::open(&url).await.expect("a store");
    let users: Vec<Actor> = (0..50).map(actor).collect();
    println!("| batch | µs of CPU an event | µs an event |\n| ---: | ---: | ---: |");
    let mut made = 0;
    for batch in BATCHES {
        append(&store, &users, batch, 4).await;
        let (cpu, elapsed) = append(&store, &users, batch, MEASURED / batch).await;
        println!("| {batch} | {cpu:.1} | {elapsed:.1} |");
        made += batch * (4 + MEASURED / batch);
    }
    let wanted: usize = std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let more = wanted.saturating_sub(made).div_ceil(4096);
    append(&store, &users, 4096, more).await;
    made += 4096 * more;
    if let Ok(file) = std::fs::metadata(&path) {
        println!("\n{} bytes an event\n", file.len() / made as u64);
    }
    read(&store, &users).await;
}

/// Appends batches of fresh events; the processor time and the time of each event, in microseconds.
async fn append(store: &SqlStore, users: &[Actor], batch: usize, batches: usize) -> (f64, f64) {
    let family = Family::of(std::process::id()).expect("this process");
    let (mut cpu, mut elapsed) = (Duration::ZERO, Duration::ZERO);
    // Made beforehand, so that only the store is measured.
    let mut made: Vec<Vec<AuditEvent>> = Vec::new();
    for done in 0..batches {
        if made.is_empty() {
            made = (0..(50_000 / batch).clamp(1, batches - done))
                .map(|_| (0..batch).map(|number| event(users, number)).collect())
                .rev()
                .collect();
        }
        let events = made.pop().expect("a batch");
        let (before, began) = (family.cpu().expect("a time"), Instant::now());
        store.append(events.into()).await.expect("a store that keeps events");
        elapsed += began.elapsed();
        cpu += family.cpu().expect("a time") - before;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (batch * batches) as f64;
    (each(cpu), each(elapsed))
}

fn actor(number: usize) -> Actor {
    Actor {
        user_id: Some(Id::random().shared()),
        user: Some(format!("user-{number}@example.com").into()),
        token_sha: Some(TokenHash::of("token")),
        request_id: Some("01920000-0000-7000-8000-0123456789ab".into()),
        ..Actor::default()
    }
}

fn event(users: &[Actor], number: usize) -> AuditEvent {
    let actor = users[number * 7919 % users.len()].clone();
    if number == 17 {
        let login = Login {
            email: actor.user.as_deref().unwrap_or_default().to_owned(),
            result: "ok".into(),
            count: None,
        };
        return AuditEvent::new(actor, EventDetail::Login(login));
    }
    let call = InferenceCall {
        llm_name: format!("llm-{}", number % 20).into(),
        llm_id: "caaaaaaaaaaaaaaaaaaaaaaaa".into(),
        model: "gpt-4o-mini".into(),
        ty: "openai".into(),
        duration_ms: 850,
        status: 200,
        ttft_ms: Some(850),
        prompt_tokens: Some(312),
        completion_tokens: Some(96),
        finish_reason: Some("stop".into()),
        bytes_out: 913,
        ..InferenceCall::default()
    };
    AuditEvent::new(actor, EventDetail::LlmInferenceCall(call))
}

/// Times a page of each filter, at the trail's newest and oldest end, for what is common and what is not there.
async fn read(store: &SqlStore, users: &[Actor]) {
    let page = |query: EventQuery| EventQuery { limit: 100, ..query };
    let text = |text: &str| Some(text.to_owned());
    let mut trail: Vec<(String, Timestamp)> = Vec::new();
    loop {
        let before = trail.last().map(|(id, _)| id.clone());
        let events = store.events(&EventQuery { before, limit: 1000, ..EventQuery::default() }).await;
        let events = events.expect("events");
        if events.is_empty() {
            break;
        }
        trail.extend(events.into_iter().map(|event| (event.id, event.at)));
    }
    let (_, middle) = trail[trail.len() / 2];
    let (late_id, late) = trail[trail.len() - 500].clone();
    let queries = [
        ("all", EventQuery::default()),
        ("all, the oldest page", EventQuery { before: Some(late_id), ..EventQuery::default() }),
        ("kind=login", EventQuery { kind: text("login"), ..EventQuery::default() }),
        ("kind=llm_inference_call", EventQuery { kind: text("llm_inference_call"), ..EventQuery::default() }),
        ("kind=denied (none)", EventQuery { kind: text("denied"), ..EventQuery::default() }),
        ("llm of 5 %", EventQuery { llm: text("llm-3"), ..EventQuery::default() }),
        ("llm of none", EventQuery { llm: text("nobody"), ..EventQuery::default() }),
        (
            "user of 2 %",
            EventQuery { user: users[3].user_id.as_deref().and_then(text), ..EventQuery::default() },
        ),
        ("user of none", EventQuery { user: text("nobody@example.com"), ..EventQuery::default() }),
        ("since the middle", EventQuery { since: Some(middle), ..EventQuery::default() }),
        ("until the middle", EventQuery { until: Some(middle), ..EventQuery::default() }),
        ("until the beginning", EventQuery { until: Some(late), ..EventQuery::default() }),
        (
            "login until the middle",
            EventQuery { kind: text("login"), until: Some(middle), ..EventQuery::default() },
        ),
        (
            "llm of 5 % until the beginning",
            EventQuery { llm: text("llm-3"), until: Some(late), ..EventQuery::default() },
        ),
    ];
    println!("| page of 100 | events | ms |\n| --- | ---: | ---: |");
    for (name, query) in queries {
        let query = page(query);
        let began = Instant::now();
        let found = store.events(&query).await.map(|events| events.len());
        let found = found.map_or_else(|error| error.to_string(), |count| count.to_string());
        println!("| {name} | {found} | {:.1} |", began.elapsed().as_secs_f64() * 1e3);
    }
}
