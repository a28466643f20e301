//! The numbers for Prometheus: right, and no more of them than the reader may know of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tests::{Fault, Provider, Server, eventually};

#[tokio::test]
async fn calls_are_counted_by_llm_and_status() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("counted", "openai", &provider).await;
    let ask = json!({"messages": [{"role": "user", "content": "hello"}]});
    for _ in 0..3 {
        admin.infer("counted", &ask).await.expect(200);
    }
    provider.misbehave(Some(Fault::Status(429)));
    assert_eq!(admin.infer("counted", &ask).await.status, 429);
    let reply = admin.get("/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        r#"mcpctl_inference_requests_total{llm="counted",status="200"} 3"#,
        r#"mcpctl_inference_requests_total{llm="counted",status="429"} 1"#,
        r#"mcpctl_inference_in_flight{llm="counted"} 0"#,
        r#"mcpctl_inference_duration_seconds_count{llm="counted"} 4"#,
        r#"mcpctl_inference_duration_seconds_bucket{le="+Inf",llm="counted"} 4"#,
        "mcpctl_sealed 0",
        "mcpctl_shed_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names: Vec<_> = families.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a family is announced twice");
}

#[tokio::test]
async fn a_call_is_in_flight_until_its_stream_ends() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("slow", "openai", &provider).await;
    provider.misbehave(Some(Fault::Endless));
    let ask = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let mut stream = admin.stream("/api/v1/llms/slow/infer", &ask).await;
    stream.next().await.expect("a first chunk");
    let in_flight = async |count: u32| {
        let line = format!("mcpctl_inference_in_flight{{llm=\"slow\"}} {count}");
        admin.get("/metrics").await.text().lines().any(|found| found == line).then_some(())
    };
    eventually("one call in flight", async || in_flight(1).await).await;
    drop(stream);
    eventually("no call in flight", async || in_flight(0).await).await;
    let text = admin.get("/metrics").await.text();
    assert!(text.contains(r#"mcpctl_inference_requests_total{llm="slow",status="499"} 1"#), "{text}");
}

#[tokio::test]
async fn nobody_learns_of_llms_they_may_not_view() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let ask = json!({"messages": [{"role": "user", "content": "hello"}]});
    for name in ["open", "hidden"] {
        admin.create_llm(name, "openai", &provider).await;
        admin.infer(name, &ask).await.expect(200);
    }
    let viewer = admin.create_user_with(&json!([{"role": "view", "resource": "llms", "name": "open"}])).await;
    let text = viewer.get("/metrics").await.text();
    assert!(text.contains("llm=\"open\"") && !text.contains("hidden"), "{text}");
    assert_eq!(server.client().get("/metrics").await.status, 401);
    admin.delete("/api/v1/llms/open").await;
    let text = admin.get("/metrics").await.text();
    assert!(text.contains("llm=\"hidden\"") && !text.contains("llm=\"open\""), "{text}");
}

/// Every family: its name, its type, and the labels that its lines may have besides `le`.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_cpu_seconds", "counter", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("mcpctl_build", "info", &["version"]),
    ("mcpctl_inference_requests", "counter", &["llm", "status"]),
    ("mcpctl_inference_waiting", "gauge", &["llm"]),
    ("mcpctl_inference_queued", "counter", &["llm", "limit"]),
    ("mcpctl_inference_shed", "counter", &["llm", "limit", "reason"]),
    ("mcpctl_inference_in_flight", "gauge", &["llm"]),
    ("mcpctl_inference_duration_seconds", "histogram", &["llm"]),
    ("mcpctl_inference_first_byte_seconds", "histogram", &["llm"]),
    ("mcpctl_inference_first_token_seconds", "histogram", &["llm"]),
    ("mcpctl_inference_tokens", "counter", &["llm", "sort"]),
    ("mcpctl_inference_answer_bytes", "counter", &["llm"]),
    ("mcpctl_shed", "counter", &[]),
    ("mcpctl_provider_connections", "gauge", &["scheme"]),
    ("mcpctl_provider_connections_idle", "gauge", &["scheme"]),
    ("mcpctl_provider_connects", "counter", &["scheme"]),
    ("mcpctl_provider_connect_failures", "counter", &["scheme"]),
    ("mcpctl_audit_queue_events", "gauge", &[]),
    ("mcpctl_audit_events_written", "counter", &[]),
    ("mcpctl_audit_writes", "counter", &["result"]),
    ("mcpctl_audit_events_deleted", "counter", &[]),
    ("mcpctl_audit_copy_left_out", "counter", &[]),
    ("mcpctl_audit_write_duration_seconds", "histogram", &[]),
    ("mcpctl_sealed", "gauge", &[]),
    ("mcpctl_store_revision", "gauge", &[]),
    ("mcpctl_store_age_seconds", "gauge", &[]),
    ("mcpctl_store_poll_failures", "counter", &[]),
    ("mcpctl_store_operations", "counter", &["operation", "result"]),
    ("mcpctl_store_operation_duration_seconds", "histogram", &["operation"]),
];

/// A line: the name of the number, its labels, its value.
type Line<'a> = (&'a str, BTreeMap<&'a str, &'a str>, f64);

fn lines(text: &str) -> Vec<Line<'_>> {
    let numbers = text.lines().filter(|line| !line.starts_with('#'));
    numbers
        .map(|line| {
            let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match name_and_labels.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (name_and_labels, ""),
            };
            let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
            let labels = pairs.map(|(label, value)| (label, value.trim_matches('"'))).collect();
            (name, labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let found = lines(text).into_iter().find(|(known, all, _)| *known == name && *all == labels);
    found.unwrap_or_else(|| panic!("{name}{labels:?} is not in\n{text}")).2
}

/// What a checker of the format demands: each family announced once with type and help before its lines, units in
/// names, no surprising label.
fn check(text: &str) {
    let known: BTreeMap<_, _> = FAMILIES.iter().map(|(name, ty, labels)| (*name, (*ty, *labels))).collect();
    let mut found = BTreeSet::new();
    let (mut family, mut ty, mut labels): (&str, &str, &[&str]) = ("", "", &[]);
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "EOF"] => assert_eq!(text.lines().last(), Some(line)),
            ["#", "HELP", name, help] => {
                assert!(help.len() > 10, "{line}");
                (family, ty) = (name, "");
                let row = known.get(name).unwrap_or_else(|| panic!("{name} is not in the list"));
                labels = row.1;
                assert!(found.insert(name), "{name} is announced twice");
            }
            ["#", "TYPE", name, announced] => {
                assert_eq!((name, known[name].0), (family, announced));
                ty = announced;
            }
            ["#", "UNIT", name, unit] => {
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
                assert!(["seconds", "bytes"].contains(&unit), "base units alone: {line}");
            }
            _ => {
                let (name, found, value) = lines(line).remove(0);
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                let allowed: &[&str] = match ty {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    _ => &["_bucket", "_sum", "_count"],
                };
                assert!(allowed.contains(&suffix), "{line}");
                let given: Vec<_> = found.keys().copied().filter(|label| *label != "le").collect();
                assert_eq!(given, labels, "{line}");
                assert!(value >= 0.0, "{line}");
            }
        }
    }
    let missing: Vec<_> = known.keys().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for name in known.keys() {
        for word in ["_ms", "_millis", "_us", "_kb", "_minutes", "_total", "_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(word), "{name}");
        }
    }
}

#[tokio::test]
async fn every_family_is_as_promised_and_what_happens_behind_is_counted() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("counted", "openai", &provider).await;
    admin.create_llm_at("away", "openai", &tests::provider::refusing_url(), json!({})).await;
    let before = admin.get("/metrics").await.text();
    check(&before);
    let plain = json!({"messages": [{"role": "user", "content": "hello"}]});
    let streamed = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
    for _ in 0..3 {
        admin.infer("counted", &plain).await.expect(200);
        admin.stream("/api/v1/llms/counted/infer", &streamed).await.rest().await;
    }
    assert_eq!(admin.infer("away", &plain).await.status, 502);
    let written = async || {
        let text = admin.get("/metrics").await.text();
        let events = |text: &str| value(text, "mcpctl_audit_events_written_total", &[]);
        (events(&text) >= events(&before) + 7.0).then_some(text)
    };
    let text = eventually("the events of seven calls are written", written).await;
    check(&text);
    let of = |name: &str, labels: &[(&str, &str)]| value(&text, name, labels);
    let (http, https) = (&[("scheme", "http")], &[("scheme", "https")]);
    let connects = of("mcpctl_provider_connects_total", http);
    assert!((1.0..=6.0).contains(&connects), "connections are used again: {text}");
    assert!(of("mcpctl_provider_connections", http) <= connects);
    assert!(of("mcpctl_provider_connections_idle", http) <= of("mcpctl_provider_connections", http));
    assert_eq!(of("mcpctl_provider_connect_failures_total", http), 1.0);
    assert_eq!(of("mcpctl_provider_connections", https), 0.0);
    assert!(of("mcpctl_audit_writes_total", &[("result", "ok")]) >= 1.0);
    assert_eq!(of("mcpctl_audit_writes_total", &[("result", "error")]), 0.0);
    assert!(of("mcpctl_audit_write_duration_seconds_sum", &[]) > 0.0);
    for operation in ["revision", "commit", "append", "list"] {
        let ok = of("mcpctl_store_operations_total", &[("operation", operation), ("result", "ok")]);
        let timed = of("mcpctl_store_operation_duration_seconds_count", &[("operation", operation)]);
        assert!(ok >= 1.0 && timed >= 1.0, "{operation}: {text}");
    }
    let llm = &[("llm", "counted")];
    assert_eq!(of("mcpctl_inference_first_byte_seconds_count", llm), 6.0);
    assert_eq!(of("mcpctl_inference_first_token_seconds_count", llm), 3.0);
    let sum = of("mcpctl_inference_duration_seconds_sum", llm);
    assert!(sum > 0.0 && (sum * 1000.0).fract() > 0.0, "finer than milliseconds: {sum}");
    assert!(of("process_resident_memory_bytes", &[]) > 1e6 && of("process_open_fds", &[]) > 3.0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((of("process_start_time_seconds", &[]) - now).abs() < 3600.0);
    assert_eq!(of("mcpctl_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
}

#[tokio::test]
async fn nothing_that_callers_make_up_becomes_a_label() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("only", "openai", &provider).await;
    let ask = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    admin.infer("only", &ask("")).await.expect(200);
    let shape = |text: &str| -> BTreeSet<String> {
        // How a histogram of the store begins is a matter of time; which lines there can be is not.
        let stable = lines(text).into_iter().filter(|(name, ..)| !name.contains("_store_operation_duration"));
        stable.map(|(name, labels, _)| format!("{name} {labels:?}")).collect()
    };
    admin.infer("only", &json!({})).await.error(400);
    let before = shape(&admin.get("/metrics").await.text());
    for number in 0..1000u32 {
        let made_up = format!("made-up-{:08x}", number.wrapping_mul(2_654_435_761));
        match number % 5 {
            0 => drop(admin.infer("only", &ask(&made_up)).await.expect(200)),
            1 => drop(admin.infer(&made_up, &ask("")).await.error(404)),
            2 => assert_eq!(admin.with_token(&made_up).infer("only", &ask("")).await.status, 401),
            3 => assert_eq!(admin.get(&format!("/{made_up}/{made_up}")).await.status, 404),
            _ => assert_eq!(admin.post("/v1/chat/completions", &ask(&made_up)).await.status, 404),
        }
    }
    let text = admin.get("/metrics").await.text();
    assert!(!text.contains("made-up"), "{text}");
    check(&text);
    assert_eq!(shape(&text), before);
    assert_eq!(value(&text, "mcpctl_inference_requests_total", &[("llm", "only"), ("status", "200")]), 201.0);
}
