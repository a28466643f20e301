//! The numbers for Prometheus: right, and no more of them than the reader may know of.

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
