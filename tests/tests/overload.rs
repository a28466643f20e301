//! More calls than there may be at once: who waits, who is refused and how, and that every place comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Api, Fault, Provider, Reply, Server, ServerOptions, api::Stream, eventually, server::unique, within,
};
use tokio::task::JoinHandle;

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

/// A request that the provider answers with an endless stream, for as long as the caller reads.
fn endless() -> Value {
    json!({"model": "fault-endless", "stream": true, "messages": [{"role": "user", "content": "hello"}]})
}

struct Setup {
    _server: Server,
    provider: Provider,
    admin: Api,
}

impl Setup {
    /// A server with these arguments, and Llms with these limits.
    async fn start(args: &[&str], llms: &[(&str, Option<usize>)]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let options = ServerOptions { args, ..ServerOptions::default() };
        let (server, provider) = (Server::start_with(options).await, Provider::start().await);
        let admin = server.login_admin().await;
        for (name, limit) in llms {
            let extra = limit.map_or(json!({}), |limit| json!({"maxInFlight": limit}));
            admin.create_llm_at(name, "openai", &provider.url(), extra).await;
        }
        Self { _server: server, provider, admin }
    }

    /// Takes a place, until the stream is dropped.
    async fn hold(&self, llm: &str) -> Stream {
        let mut stream = self.admin.stream(&format!("/api/v1/llms/{llm}/infer"), &endless()).await;
        assert_eq!(stream.status, 200, "a place at {llm}");
        stream.until("from the stub").await;
        stream
    }

    async fn hold_many(&self, llm: &str, count: usize) -> Vec<Stream> {
        let mut held = Vec::new();
        for _ in 0..count {
            held.push(self.hold(llm).await);
        }
        held
    }

    /// Asks in a task of its own.
    fn ask(&self, llm: &str, body: Value) -> JoinHandle<Reply> {
        let (admin, llm) = (self.admin.clone(), llm.to_owned());
        tokio::spawn(async move { admin.infer(&llm, &body).await })
    }

    /// Waits until so many calls are in the line of `llm`.
    async fn waiting(&self, llm: &str, count: usize) {
        let line = format!("mcpctl_inference_waiting{{llm=\"{llm}\"}} {count}");
        self.metric(&line).await;
    }

    /// Waits until the metrics have this line.
    async fn metric(&self, line: &str) {
        let probe = async || {
            let text = self.admin.get("/metrics").await.text();
            text.lines().any(|found| found == line).then_some(())
        };
        eventually(line, probe).await;
    }

    async fn limit(&self, llm: &str, limit: Option<usize>) {
        let change = json!({"extraConfig": {"maxInFlight": limit}});
        self.admin.patch(&format!("/api/v1/llms/{llm}"), &change).await.expect(200);
    }

    /// The status of the newest call in the audit trail, once it is `status`.
    async fn audited(&self, status: u16) -> Value {
        let path = "/api/v1/auditlogs?kind=llm_inference_call";
        let probe = async || {
            let events = self.admin.get(path).await.expect(200);
            events["items"].as_array()?.iter().find(|event| event["status"] == status).cloned()
        };
        eventually(&format!("an audit event with status {status}"), probe).await
    }
}

#[tokio::test]
async fn a_full_llm_is_a_429_in_every_dialect_and_others_go_on() {
    let setup = Setup::start(&["--queue-timeout", "300ms"], &[("small", Some(2)), ("other", None)]).await;
    let _held = setup.hold_many("small", 2).await;
    let began = Instant::now();
    let reply = setup.admin.infer("small", &ask()).await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(5), "{waited:?}");
    let message = reply.error(429);
    assert!(message.contains("`small`") && message.contains("2 places"), "{message}");
    assert_eq!(reply.header("retry-after"), "1");
    let named =
        json!({"model": "small", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]});
    let reply = setup.admin.post("/v1/chat/completions", &named).await;
    reply.openai_error(429);
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after"), "1");
    let reply = setup.admin.post("/v1/messages", &named).await;
    reply.anthropic_error(429);
    assert_eq!(reply.header("retry-after"), "1");
    setup.admin.infer("other", &ask()).await.expect(200);
    let event = setup.audited(429).await;
    assert_eq!(event["llmName"], "small");
    assert!(event["error"].as_str().is_some_and(|error| error.contains("2 places")), "{event}");
    for line in [
        r#"mcpctl_inference_shed_total{llm="small",limit="llm",reason="timeout"} 3"#,
        r#"mcpctl_inference_queued_total{llm="small",limit="llm"} 3"#,
        r#"mcpctl_inference_waiting{llm="small"} 0"#,
        "mcpctl_shed_total 3",
    ] {
        setup.metric(line).await;
    }
}

#[tokio::test]
async fn a_full_server_is_a_503() {
    let setup =
        Setup::start(&["--max-in-flight", "2", "--queue-timeout", "200ms"], &[("a", None), ("b", None)])
            .await;
    let held = setup.hold_many("a", 2).await;
    let reply = setup.admin.infer("b", &ask()).await;
    assert!(reply.error(503).contains("2 places"), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "1");
    let named = json!({"model": "b", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]});
    setup.admin.post("/v1/chat/completions", &named).await.openai_error(503);
    setup.admin.post("/v1/messages", &named).await.anthropic_error(503);
    setup.audited(503).await;
    setup.metric(r#"mcpctl_inference_shed_total{llm="b",limit="server",reason="timeout"} 3"#).await;
    assert_eq!(setup.admin.get("/api/v1/llms").await.status, 200, "what is no inference goes on");
    drop(held);
    let free = async || (setup.admin.infer("b", &ask()).await.status == 200).then_some(());
    eventually("a place once they left", free).await;
}

#[tokio::test]
async fn the_line_has_an_end_and_beyond_it_nobody_waits() {
    let args = ["--max-queue", "1", "--queue-timeout", "30s"];
    let setup = Setup::start(&args, &[("one", Some(1))]).await;
    let held = setup.hold("one").await;
    let waiter = setup.ask("one", ask());
    setup.waiting("one", 1).await;
    let body = ask();
    let refused = within(Duration::from_secs(5), "a refusal at once", setup.admin.infer("one", &body));
    assert_eq!(refused.await.status, 429);
    setup.metric(r#"mcpctl_inference_shed_total{llm="one",limit="llm",reason="line_full"} 1"#).await;
    drop(held);
    waiter.await.unwrap().expect(200);

    let setup = Setup::start(&["--max-queue", "0", "--max-in-flight", "1"], &[("one", None)]).await;
    let _held = setup.hold("one").await;
    assert_eq!(setup.admin.infer("one", &ask()).await.status, 503);
    setup.metric(r#"mcpctl_inference_shed_total{llm="one",limit="server",reason="line_full"} 1"#).await;
}

#[tokio::test]
async fn those_who_wait_for_an_llm_take_no_place_of_the_server() {
    let args = ["--max-in-flight", "3", "--max-queue", "5", "--queue-timeout", "30s"];
    let setup = Setup::start(&args, &[("slow", Some(2)), ("quick", None)]).await;
    let held = setup.hold_many("slow", 2).await;
    let waiters: Vec<_> = (0..5).map(|_| setup.ask("slow", ask())).collect();
    setup.waiting("slow", 5).await;
    for _ in 0..10 {
        within(Duration::from_secs(5), "an answer", setup.admin.infer("quick", &ask())).await.expect(200);
    }
    drop(held);
    for waiter in waiters {
        waiter.await.unwrap().expect(200);
    }
}

#[tokio::test]
async fn first_come_first_served_and_who_leaves_gives_way() {
    let setup = Setup::start(&["--max-queue", "4", "--queue-timeout", "30s"], &[("one", Some(1))]).await;
    let held = setup.hold("one").await;
    let mut waiters = Vec::new();
    for number in 0..4 {
        let body = json!({"model": format!("turn-{number}"), "messages": [{"role": "user", "content": "x"}]});
        waiters.push(setup.ask("one", body));
        setup.waiting("one", number + 1).await;
    }
    assert_eq!(setup.admin.infer("one", &ask()).await.status, 429);
    waiters.remove(1).abort();
    setup.waiting("one", 3).await;
    setup.audited(499).await;
    let last = json!({"model": "turn-4", "messages": [{"role": "user", "content": "x"}]});
    waiters.push(setup.ask("one", last));
    setup.waiting("one", 4).await;
    drop(held);
    for waiter in waiters {
        waiter.await.unwrap().expect(200);
    }
    let turns: Vec<String> = setup
        .provider
        .received()
        .iter()
        .filter_map(|request| request.json()["model"].as_str().map(str::to_owned))
        .filter(|model| model.starts_with("turn"))
        .collect();
    assert_eq!(turns, ["turn-0", "turn-2", "turn-3", "turn-4"]);
}

#[tokio::test]
async fn a_changed_limit_counts_for_the_next_call() {
    let setup = Setup::start(&["--max-queue", "0"], &[("gpt", Some(1))]).await;
    let status = async || setup.admin.infer("gpt", &ask()).await.status;
    let mut held = setup.hold_many("gpt", 1).await;
    assert_eq!(status().await, 429);
    setup.limit("gpt", Some(3)).await;
    held.extend(setup.hold_many("gpt", 2).await);
    assert_eq!(status().await, 429, "three are in");
    setup.limit("gpt", Some(1)).await;
    assert_eq!(status().await, 429, "three are more than one");
    let line = |count: usize| format!("mcpctl_inference_in_flight{{llm=\"gpt\"}} {count}");
    for left in [2, 1] {
        held.pop();
        setup.metric(&line(left)).await;
        assert_eq!(status().await, 429, "{left} are still in, and one may be");
    }
    held.pop();
    setup.metric(&line(0)).await;
    assert_eq!(status().await, 200);
    let _held = setup.hold("gpt").await;
    assert_eq!(status().await, 429);
    setup.limit("gpt", None).await;
    assert_eq!(status().await, 200, "without a limit");
    for wrong in [json!(0), json!(-1), json!(1.5), json!("many"), json!([])] {
        let change = json!({"extraConfig": {"maxInFlight": wrong}});
        let message = setup.admin.patch("/api/v1/llms/gpt", &change).await.error(400);
        assert!(message.starts_with("extraConfig.maxInFlight: "), "{message}");
    }
}

#[tokio::test]
async fn a_new_llm_of_the_same_name_begins_empty() {
    let setup = Setup::start(&["--max-queue", "0"], &[("gpt", Some(1))]).await;
    let _held = setup.hold("gpt").await;
    assert_eq!(setup.admin.infer("gpt", &ask()).await.status, 429);
    setup.admin.delete("/api/v1/llms/gpt").await;
    let llm = json!({"name": "gpt", "type": "openai", "model": unique("m"), "url": setup.provider.url(),
                     "extraConfig": {"maxInFlight": 1}});
    setup.admin.create("llms", &llm).await;
    setup.admin.infer("gpt", &ask()).await.expect(200);
}

/// However a call ends, its places come back: after hundreds of every sort, as many fit as before, and no more.
#[tokio::test]
async fn every_place_comes_back() {
    const LIMIT: usize = 6;
    let args = ["--max-in-flight", "6", "--max-queue", "1000", "--queue-timeout", "30s"];
    let setup = Setup::start(&args, &[("gpt", Some(LIMIT)), ("free", None)]).await;
    let ends = [
        "good",
        "fault-status-500",
        "fault-status-429",
        "fault-reset",
        "fault-truncated",
        "fault-not-json",
        "fault-error-frame",
        "fault-silent",
        "fault-endless",
        "fault-no-done",
    ];
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..500 {
        let (admin, end) = (setup.admin.clone(), ends[number % ends.len()]);
        let llm = if number % 3 == 0 { "free" } else { "gpt" };
        let mut body = ask();
        body["model"] = end.into();
        // Half of each sort are streams; some ask for nothing at all.
        body["stream"] = (number / ends.len()).is_multiple_of(2).into();
        if number % 50 == 49 {
            body["messages"] = json!([]);
        }
        calls.spawn(async move {
            let request = admin.request("POST", &format!("/api/v1/llms/{llm}/infer")).json(&body);
            // Those that would never end are left, some in line, some before the first byte, some in the middle.
            let patience = if end == "fault-silent" || end == "fault-endless" {
                Duration::from_millis(20 + (number as u64 * 7) % 200)
            } else {
                Duration::from_secs(60)
            };
            let answer = async {
                let response = request.send().await?;
                response.bytes().await
            };
            let _ = tokio::time::timeout(patience, answer).await;
        });
    }
    within(Duration::from_secs(120), "the end of all calls", calls.join_all()).await;
    for llm in ["gpt", "free"] {
        setup.metric(&format!("mcpctl_inference_in_flight{{llm=\"{llm}\"}} 0")).await;
        setup.metric(&format!("mcpctl_inference_waiting{{llm=\"{llm}\"}} 0")).await;
    }
    setup.provider.misbehave(None::<Fault>);
    let held = setup.hold_many("gpt", LIMIT).await;
    let next = setup.ask("free", ask());
    setup.waiting("free", 1).await;
    drop(held);
    next.await.unwrap().expect(200);
}
