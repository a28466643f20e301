//! Traces: what is told of a request, to whom, and that nothing is when nobody asked.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tests::{
    Collector, Exported, Fault, Mood, Provider, Server, ServerOptions, api::Api, eventually, server,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A server that sends its traces to `collector`, soon.
async fn traced(collector: &Collector, more: &[(&str, &str)]) -> Server {
    let endpoint = collector.url();
    let usual = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let env = usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Server::start_with(ServerOptions { env: env.collect(), ..ServerOptions::default() }).await
}

fn ask(prompt: &str) -> Value {
    json!({"messages": [{"role": "user", "content": prompt}]})
}

fn streamed(prompt: &str) -> Value {
    json!({"stream": true, "messages": [{"role": "user", "content": prompt}]})
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

async fn call_of(collector: &Collector, llm: &str) -> Exported {
    collector
        .span(&format!("the span of a call of {llm}"), |span| {
            span.attributes.get("mcpctl.llm") == Some(&json!(llm))
        })
        .await
}

async fn request_around(collector: &Collector, call: &Exported) -> Exported {
    collector.span("the span of the request", |span| span.id == call.parent).await
}

async fn infer_within(admin: &Api, llm: &str, body: &Value, headers: &[(&str, &str)]) -> u16 {
    let request = admin.request("POST", &format!("/api/v1/llms/{llm}/infer")).json(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    admin.send(request).await.status
}

#[tokio::test]
async fn a_call_is_a_span_in_the_words_of_the_conventions() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let server = traced(&collector, &[]).await;
    let admin = server.login_admin().await;
    admin.create_llm("told", "openai", &provider).await;
    admin.infer("told", &ask("a prompt that stays here")).await.expect(200);
    let call = call_of(&collector, "told").await;
    let sent = provider.last();
    let model = sent.json()["model"].as_str().unwrap().to_owned();
    let port: u16 = provider.url().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(
        (call.name.as_str(), call.kind, call.failed),
        (format!("chat {model}").as_str(), SpanKind::Client, false)
    );
    for (name, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("openai")),
        ("gen_ai.request.model", json!(model)),
        ("gen_ai.request.stream", json!(false)),
        ("gen_ai.response.finish_reasons", json!(["stop"])),
        ("gen_ai.usage.input_tokens", json!(9)),
        ("gen_ai.usage.output_tokens", json!(5)),
        ("http.response.status_code", json!(200)),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(port)),
    ] {
        assert_eq!(call.attributes.get(name), Some(&value), "{name} of {call:?}");
    }
    assert!(!call.attributes.contains_key("error.type"), "{call:?}");
    let request = request_around(&collector, &call).await;
    assert_eq!((request.kind, request.parent.as_str()), (SpanKind::Server, ""));
    assert_eq!(request.name, "POST /api/v1/llms/{name}/infer");
    assert_eq!(request.attributes["http.route"], "/api/v1/llms/{name}/infer");
    assert_eq!(request.attributes["http.request.method"], "POST");
    assert_eq!(request.attributes["http.response.status_code"], 200);
    assert!(request.attributes["mcpctl.request.id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(request.time.0 <= call.time.0 && call.time.1 <= request.time.1, "{request:?} {call:?}");
    assert_eq!(request.resource["service.name"], "mcpctl-server");
    // The provider got the span of the call, so that its own spans can be inside.
    assert_eq!(sent.header("traceparent"), Some(format!("00-{}-{}-01", call.trace, call.id).as_str()));
    assert_eq!(sent.header("tracestate"), None);
    assert!(
        collector
            .heads()
            .iter()
            .all(|head| head.starts_with("POST /v1/traces ") && head.contains("application/x-protobuf"))
    );
    let all = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for secret in
        ["a prompt that stays here", server::ADMIN, server.admin_password(), admin.token(), "from the stub"]
    {
        assert!(!all.contains(secret), "{secret}");
    }
    collector.show(&server.canary);
}

#[tokio::test]
async fn the_span_of_a_stream_ends_with_it_and_knows_its_usage() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let server = traced(&collector, &[]).await;
    let admin = server.login_admin().await;
    admin.create_llm("flow", "anthropic", &provider).await;
    admin.stream("/api/v1/llms/flow/infer", &streamed("hello")).await.rest().await;
    let call = call_of(&collector, "flow").await;
    assert_eq!(call.attributes["gen_ai.provider.name"], "anthropic");
    assert_eq!(call.attributes["gen_ai.request.stream"], true);
    assert_eq!(call.attributes["gen_ai.usage.input_tokens"], 9);
    assert_eq!(call.attributes["gen_ai.usage.output_tokens"], 5);
    assert_eq!(call.attributes["gen_ai.usage.cache_read.input_tokens"], 2);
    assert_eq!(call.attributes["gen_ai.response.finish_reasons"], json!(["stop"]));
    assert!(
        call.attributes["gen_ai.response.time_to_first_chunk"].as_f64().is_some_and(|seconds| seconds > 0.0)
    );
    let request = request_around(&collector, &call).await;
    assert!(call.time.1 <= request.time.1, "the request's span lasts as long: {request:?} {call:?}");
    collector.show(&server.canary);
}

#[tokio::test]
async fn failures_and_callers_that_leave_are_told_apart() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let server = traced(&collector, &[]).await;
    let admin = server.login_admin().await;
    for name in ["refused", "gone", "broken"] {
        admin.create_llm(name, "openai", &provider).await;
    }
    let away = tests::provider::refusing_url();
    admin.create_llm_at("away", "openai", &away, json!({})).await;
    provider.misbehave(Some(Fault::Status(429)));
    assert_eq!(admin.infer("refused", &ask("hello")).await.status, 429);
    provider.misbehave(Some(Fault::ErrorFrame));
    admin.stream("/api/v1/llms/broken/infer", &streamed("hello")).await.rest().await;
    assert_eq!(admin.infer("away", &ask("hello")).await.status, 502);
    provider.misbehave(Some(Fault::Endless));
    let mut stream = admin.stream("/api/v1/llms/gone/infer", &streamed("hello")).await;
    stream.next().await.expect("a first chunk");
    drop(stream);
    for (llm, error, status) in [
        ("refused", "429", 429),
        ("broken", "provider_error", 200),
        ("away", "502", 502),
        ("gone", "client_closed", 499),
    ] {
        let call = call_of(&collector, llm).await;
        assert!(call.failed, "{call:?}");
        assert_eq!(call.attributes["error.type"], error, "{call:?}");
        assert_eq!(call.attributes["http.response.status_code"], status, "{call:?}");
        let request = request_around(&collector, &call).await;
        assert_eq!(request.failed, status == 502, "only our own failures fail the request: {request:?}");
    }
    collector.show(&server.canary);
}

#[tokio::test]
async fn a_trace_goes_on_from_caller_to_provider() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let server = traced(&collector, &[]).await;
    let admin = server.login_admin().await;
    for name in ["known", "new", "unsampled"] {
        admin.create_llm(name, "openai", &provider).await;
    }
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=caller-text")];
    assert_eq!(infer_within(&admin, "known", &ask("hello"), &headers).await, 200);
    let call = call_of(&collector, "known").await;
    let request = request_around(&collector, &call).await;
    assert_eq!((request.trace.as_str(), request.parent.as_str(), call.trace.as_str()), (TRACE, SPAN, TRACE));
    let sent = provider.last();
    assert_eq!(sent.header("traceparent"), Some(format!("00-{TRACE}-{}-01", call.id).as_str()));
    assert!(!sent.text().contains("caller-text"), "{}", sent.text());
    // What is no traceparent begins a trace of its own.
    let bad = format!("00-{}-{SPAN}-01", "0".repeat(32));
    assert_eq!(infer_within(&admin, "new", &ask("hello"), &[("traceparent", &bad)]).await, 200);
    let call = call_of(&collector, "new").await;
    assert!(call.trace != TRACE && call.trace != "0".repeat(32), "{call:?}");
    // A caller that does not sample is followed, and so is told on.
    assert_eq!(
        infer_within(&admin, "unsampled", &ask("hello"), &[("traceparent", &traceparent("00"))]).await,
        200
    );
    let told = provider.last();
    let told = told.header("traceparent").unwrap();
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && !told.contains(SPAN),
        "{told}"
    );
    admin.infer("known", &ask("hello")).await.expect(200);
    eventually("a later call's span", async || {
        let calls = collector.spans().iter().filter(|span| span.name.starts_with("chat ")).count();
        (calls == 3).then_some(())
    })
    .await;
    assert!(
        collector.spans().iter().all(|span| span.attributes.get("mcpctl.llm") != Some(&json!("unsampled")))
    );
    collector.show(&server.canary);
}

#[tokio::test]
async fn the_sampler_is_the_one_of_the_environment() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let server =
        traced(&collector, &[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.0")])
            .await;
    let admin = server.login_admin().await;
    admin.create_llm("keyed", "openai", &provider).await;
    assert_eq!(
        infer_within(&admin, "keyed", &ask("hello"), &[("traceparent", &traceparent("01"))]).await,
        200
    );
    let sent = provider.last();
    assert!(
        sent.header("authorization").is_some_and(|value| value.starts_with("Bearer ")),
        "{}",
        sent.text()
    );
    assert!(!sent.text().contains(admin.token()));
    assert!(sent.header("traceparent").is_some_and(|value| value.ends_with("-00")), "{}", sent.text());
    // Nothing was sampled, so nothing is exported, not even at the end.
    let mut server = server;
    server.sigterm();
    assert!(server.exit_status().success());
    assert!(collector.heads().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn nothing_is_told_when_nobody_asked() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    for env in [
        vec![],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()), ("OTEL_SDK_DISABLED", "true".to_owned())],
    ] {
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut server = Server::start_with(ServerOptions { env, ..ServerOptions::default() }).await;
        let admin = server.login_admin().await;
        admin.create_llm("quiet", "openai", &provider).await;
        let headers = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=caller-text")];
        assert_eq!(infer_within(&admin, "quiet", &ask("hello"), &headers).await, 200);
        let sent = provider.last().text();
        assert!(!sent.contains("trace") && !sent.contains(TRACE), "{sent}");
        server.sigterm();
        assert!(server.exit_status().success());
        assert!(!server.log().contains("mcpctl::spans"), "spans are made for nobody");
        assert!(collector.heads().is_empty());
    }
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    let mut server =
        traced(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_SERVICE_NAME", "the-gateway")])
            .await;
    let admin = server.login_admin().await;
    admin.create_llm("last", "openai", &provider).await;
    admin.infer("last", &ask("hello")).await.expect(200);
    assert!(collector.heads().is_empty());
    server.sigterm();
    assert!(server.exit_status().success());
    let call = call_of(&collector, "last").await;
    assert_eq!(call.resource["service.name"], "the-gateway");
    collector.show(&server.canary);
}

#[tokio::test]
async fn a_collector_that_fails_costs_no_request_anything() {
    let (collector, provider) = (Collector::start().await, Provider::start().await);
    collector.behave(Mood::Refusing);
    let mut server =
        traced(&collector, &[("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")])
            .await;
    let admin = server.login_admin().await;
    admin.create_llm("served", "openai", &provider).await;
    server.logged("traces cannot be exported").await;
    collector.behave(Mood::Silent);
    let seen = collector.heads().len();
    for _ in 0..40 {
        admin.infer("served", &ask("hello")).await.expect(200);
    }
    eventually("an export that hangs", async || (collector.heads().len() > seen).then_some(())).await;
    for _ in 0..40 {
        admin.infer("served", &ask("hello")).await.expect(200);
    }
    let log = server.log();
    assert_eq!(log.matches("traces cannot be exported").count(), 1, "said once");
    assert_eq!(log.matches("SpanDroppingStarted").count(), 1, "said once");
    // Stopping waits for it a while, and not for ever.
    server.sigterm();
    assert!(server.exit_status().success());
    collector.show(&server.canary);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_at_the_start() {
    let options =
        ServerOptions { args: vec!["--otlp-endpoint".into(), "nowhere".into()], ..ServerOptions::default() };
    let mut server = Server::launch(options, tempfile::TempDir::new().unwrap());
    assert!(!server.exit_status().success());
    assert!(server.log().contains("error: --otlp-endpoint: must be a URL"), "{}", server.log());
}
