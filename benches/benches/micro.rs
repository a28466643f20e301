//! The pieces of the hot path, one by one: `cargo bench -p benches [NAME]`.
//!
//! Each is run in batches, and the fastest batch counts: what disturbs a machine only ever makes it slower.
//! With `MICRO_ONCE` one batch is run and nothing else, for callgrind: `bench instructions`.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::TcpListener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use benches::{
    answers::{self, Shape},
    instructions::RUNS,
};
use bytes::Bytes;
use mcpctl_core::{
    Registry,
    adapter::{Adapter, DecodeContext, Settings},
    audit::AuditSink,
    gateway::SPANS,
    rbac::{Action, Permission},
    registry::{LlmEntry, Origin},
    resource::{AuditEvent, EventDetail, Id, InferenceCall, Spec, kinds},
    secret::SecretValue,
    store::MemoryStore,
    wire::{ChatRequest, SseDecoder},
};
use serde_json::{Value, json};
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;

/// The histogram is the core's own affair; it is measured as it is.
#[path = "../../mcpctl-core/src/meter.rs"]
#[allow(dead_code, unused_imports, reason = "only one of its parts is measured")]
mod meter;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

type Piece<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    // As the server does without a collector of traces: the log is on, spans are off.
    let filter = format!("info,{SPANS}=off");
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let (registry, token) = runtime.block_on(registry());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("| piece | ns |\n| --- | ---: |");
    let pieces = wire_pieces().into_iter().chain(registry_pieces(&registry, &token));
    for (name, mut work) in pieces.chain(account_pieces(&runtime, &registry, &token)) {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word)) {
            println!("| {name} | {:.0} |", measure(&mut work));
        }
    }
}

/// Runs a piece so often. Callgrind counts in here.
#[inline(never)]
fn counted(work: &mut dyn FnMut(), runs: u32) {
    (0..runs).for_each(|_| work());
}

/// Nanoseconds of one run.
fn measure(work: &mut dyn FnMut()) -> f64 {
    let time = |work: &mut dyn FnMut(), runs: u32| {
        let began = Instant::now();
        counted(work, runs);
        began.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
    };
    if std::env::var_os("MICRO_ONCE").is_some() {
        // What is done only once is not counted.
        work();
        return time(work, RUNS);
    }
    let first = time(work, 100);
    // About a millisecond a batch: most fit between two disturbances.
    let runs = (1e6 / first).clamp(1.0, 100_000.0) as u32;
    (0..300).map(|_| time(work, runs)).fold(f64::INFINITY, f64::min)
}

fn wire_pieces() -> Vec<Piece<'static>> {
    let body = |size| Bytes::from(benches::scenario::body("joined", true, size));
    let (tiny, small, large) = (body(600), body(2048), body(32 * 1024));
    let events: Vec<Bytes> = answers::events().into_iter().map(Bytes::from).collect();
    let joined = Bytes::from(events[..64].concat());
    let one = events[0].clone();
    let settings = Settings { llm_name: "joined", model: "stub-1", ask_usage: true, ..Settings::default() };
    let scan = |body: Bytes| move || drop(black_box(ChatRequest::scan(black_box(&body))));
    let encode = |adapter: Adapter, body: Bytes| {
        let request = ChatRequest::scan(&body).expect("a good request");
        move || drop(black_box(adapter.encode(black_box(&request), &settings)))
    };
    let stream = |read: Bytes, runs: usize| {
        let mut out = Vec::new();
        move || {
            let mut stream = Adapter::OpenAi.stream(DecodeContext::new("joined", "stub-1", 0));
            for _ in 0..runs {
                stream.push(black_box(read.clone()), &mut out);
                out.clear();
            }
        }
    };
    let whole = Bytes::from(Shape::Plain.body());
    let context = DecodeContext::new("plain", "stub-1", 0);
    let decoded = joined.clone();
    vec![
        ("request scan, 600 B", Box::new(scan(tiny.clone()))),
        ("request scan, 2 KiB", Box::new(scan(small.clone()))),
        ("request scan, 32 KiB", Box::new(scan(large.clone()))),
        ("request rewrite, 600 B", Box::new(encode(Adapter::OpenAi, tiny))),
        ("request rewrite, 2 KiB", Box::new(encode(Adapter::OpenAi, small.clone()))),
        ("anthropic request, 2 KiB", Box::new(encode(Adapter::Anthropic, small))),
        ("anthropic request, 32 KiB", Box::new(encode(Adapter::Anthropic, large))),
        ("answer decode, 600 B", Box::new(move || drop(black_box(Adapter::OpenAi.decode(&whole, &context))))),
        ("openai stream, 100 reads of 1 event", Box::new(stream(one, 100))),
        ("openai stream, 1 read of 64 events", Box::new(stream(joined, 1))),
        (
            "sse decode, 64 events",
            Box::new(move || {
                let mut decoder = SseDecoder::new();
                decoder.push(black_box(&decoded)).expect("within limits");
                while let Some(event) = decoder.next_event() {
                    black_box(event);
                }
            }),
        ),
    ]
}

fn registry_pieces<'a>(registry: &'a Registry, token: &'a str) -> Vec<Piece<'a>> {
    let who = registry.authenticate(token, None).expect("a good token");
    let llm = registry.snapshot().llm("plain").expect("an llm").clone();
    let timed = registry.snapshot().llm("timed").expect("an llm").clone();
    let permission = Permission::Resource {
        action: Action::Run,
        kind: kinds::LLMS,
        name: llm.name.clone(),
        id: Some(llm.id.clone()),
    };
    let actor = who.clone();
    vec![
        ("snapshot", Box::new(|| drop(black_box(registry.snapshot())))),
        (
            "snapshot and authenticate",
            Box::new(move || drop(black_box(registry.authenticate(black_box(token), Some("request"))))),
        ),
        ("rbac decide", Box::new(move || drop(black_box(who.rights().decide(black_box(&permission)))))),
        (
            "llm look-up",
            Box::new(|| {
                black_box(registry.snapshot().llm(black_box("plain")));
            }),
        ),
        ("key, kept until it is changed", Box::new(move || key_of(registry, &llm))),
        ("key, kept for a time", Box::new(move || key_of(registry, &timed))),
        ("actor", Box::new(move || drop(black_box(actor.actor())))),
        (
            "span, off",
            Box::new(|| {
                let span = tracing::info_span!(
                    target: SPANS,
                    "inference",
                    otel.name = tracing::field::Empty,
                    gen_ai.request.model = black_box("stub-1"),
                );
                black_box(span.is_disabled());
            }),
        ),
        (
            "id",
            Box::new(|| {
                black_box(Id::random());
            }),
        ),
    ]
}

/// The provider's key, as a call gets it.
fn key_of(registry: &Registry, llm: &LlmEntry) {
    assert!(black_box(llm).is_current());
    let mut key = pin!(registry.api_key(black_box(llm)));
    let polled = key.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(black_box(polled), Poll::Ready(Ok(Some(_)))));
}

/// Answers as OpenBao does, always with the same value.
fn openbao() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let body =
                r#"{"data": {"data": {"token": "sk-timed"}, "version": 1, "metadata": {"version": 1}}}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

/// What is noted of a call.
fn account_pieces<'a>(runtime: &'a Runtime, registry: &'a Registry, token: &'a str) -> Vec<Piece<'a>> {
    let who = registry.authenticate(token, None).expect("a good token");
    // What is known of every call to an Llm is put together once.
    let known = InferenceCall {
        llm_name: "plain".into(),
        llm_id: "caaaaaaaaaaaaaaaaaaaaaaaa".into(),
        model: "stub-1".into(),
        ty: "openai".into(),
        status: 499,
        ..InferenceCall::default()
    };
    let call = move || InferenceCall {
        status: 200,
        prompt_tokens: Some(19),
        completion_tokens: Some(64),
        finish_reason: Some(black_box("stop").into()),
        ..black_box(&known).clone()
    };
    let events = async move || {
        for _ in 0..1000 {
            let permit = registry.audit().reserve().await.expect("a place");
            let event = AuditEvent::new(who.actor(), EventDetail::LlmInferenceCall(call()));
            // In buffered mode there is nothing to wait for.
            drop(black_box(permit).send(event));
        }
        registry.audit().flush(Duration::from_secs(5)).await.expect("a sink that takes them");
    };
    let histograms: [meter::Histogram; 2] = Default::default();
    let counts: [AtomicU64; 7] = Default::default();
    vec![
        ("audit event, 1000 of them", Box::new(move || runtime.block_on(events()))),
        (
            "metrics",
            // As many as a call that is not streamed: its status, in flight twice, tokens and bytes.
            Box::new(move || {
                for histogram in &histograms {
                    histogram.observe(black_box(Duration::from_micros(850)));
                }
                for count in &counts {
                    count.fetch_add(black_box(1), Relaxed);
                }
            }),
        ),
    ]
}

/// Takes events and keeps none: what a database takes for them is measured elsewhere.
struct Nowhere;

#[async_trait]
impl AuditSink for Nowhere {
    async fn append(&self, _: Arc<[AuditEvent]>) -> mcpctl_core::Result<()> {
        Ok(())
    }
}

/// A registry with a hundred Llms and users, each with a role, and a token of one of them.
async fn registry() -> (Registry, String) {
    let registry = Registry::builder(Arc::new(MemoryStore::new()))
        .audit_sink(Arc::new(Nowhere))
        .open()
        .await
        .expect("a registry");
    let root = registry.root("bench");
    let create = async |kind, body: Value| {
        let body: Spec = body.as_object().cloned().expect("an object");
        registry.create(&root, kind, body).await.expect("a valid resource");
    };
    create(kinds::SECRETS, json!({"name": "stub", "data": {"token": "sk-not-a-secret"}})).await;
    for number in 0..100 {
        let name = if number == 50 { "plain".to_owned() } else { format!("llm-{number}") };
        let key = json!({"name": "stub", "key": "token"});
        let llm = json!({"name": name, "type": "openai", "model": "stub-1", "apiKeyRef": key});
        create(kinds::LLMS, llm).await;
    }
    let config =
        json!({"url": openbao(), "tokenRef": {"name": "stub", "key": "token"}, "cacheSeconds": 86400});
    create(kinds::SECRET_BACKENDS, json!({"name": "bao", "type": "openbao", "config": config})).await;
    create(kinds::SECRETS, json!({"name": "timed", "backend": "bao", "data": {"token": "sk-timed"}})).await;
    let key = json!({"name": "timed", "key": "token"});
    create(kinds::LLMS, json!({"name": "timed", "type": "openai", "model": "stub-1", "apiKeyRef": key}))
        .await;
    create(kinds::USERS, json!({"name": "bench@localhost", "password": "a good password"})).await;
    for number in 0..10 {
        let role = json!({
            "name": format!("role-{number}"),
            "subjects": [{"kind": "User", "name": "bench@localhost"}],
            "roleBindings": [{"role": "run", "resource": "llms", "name": format!("llm-{number}")},
                             {"role": "run", "resource": "llms", "name": "plain"}],
        });
        create(kinds::RBAC, role).await;
    }
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let login = registry.login("bench@localhost", SecretValue::new("a good password"), origin).await;
    let token = login.expect("a good password").token.expose().to_owned();
    (registry, token)
}
