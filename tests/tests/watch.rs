//! Watching resources.

use std::time::Duration;

use serde_json::json;
use tests::{Api, Server};

fn llm(name: &str, tier: &str) -> serde_json::Value {
    json!({"name": name, "type": "ollama", "model": "m", "url": "http://127.0.0.1:1", "tier": tier})
}

async fn watch(api: &Api, query: &str) -> tests::api::Stream {
    let stream = api.open(api.request("GET", &format!("/api/v1/llms?watch=true{query}"))).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    stream
}

#[tokio::test]
async fn what_comes_changes_and_goes_is_told_to_those_who_may_view_it() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create("llms", &llm("a-one", "fast")).await;
    admin.create("llms", &llm("b-one", "fast")).await;
    let scoped = json!([{"role": "view", "resource": "llms", "name": "a-*"}]);
    let viewer = admin.create_user_with(&scoped).await;
    let mut all = watch(&admin, "").await;
    let mut heavy = watch(&admin, "&tier=heavy").await;
    let mut some = watch(&viewer, "").await;
    all.until("\"b-one\"").await;
    some.until("event: ADDED\ndata: {").await;
    admin.create("llms", &llm("b-two", "heavy")).await;
    heavy.until("\"b-two\"").await;
    admin.patch("/api/v1/llms/a-one", &json!({"model": "n"})).await.expect(200);
    some.until("event: MODIFIED\n").await;
    admin.delete("/api/v1/llms/b-one").await;
    all.until("event: DELETED\n").await;
    admin.delete("/api/v1/llms/a-one").await;
    some.until("event: DELETED\n").await;
    // Its right ends, and so does the stream.
    let definitions = admin.get("/api/v1/rbac").await.expect(200);
    for definition in definitions.as_array().unwrap().iter().filter(|one| one["name"] != "admin") {
        admin.delete(&format!("/api/v1/rbac/{}", definition["id"].as_str().unwrap())).await;
    }
    let told = some.rest().await;
    let text = told.text();
    assert!(
        text.ends_with("event: ERROR\ndata: {\"error\":\"missing permission `view:llms`\"}\n\n"),
        "{text}"
    );
    assert!(!text.contains("b-one") && !text.contains("b-two"), "{text}");
}

#[tokio::test]
async fn a_watch_keeps_nobody_from_stopping() {
    let mut server = Server::start().await;
    let admin = server.login_admin().await;
    let stream = watch(&admin, "").await;
    let began = std::time::Instant::now();
    server.sigterm();
    stream.rest().await;
    assert!(server.exit_status().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    for query in ["watch=maybe", "watch=true&limit=1", "watch=true&continue=x", "watch=true&url=x"] {
        admin.get(&format!("/api/v1/llms?{query}")).await.error(400);
    }
    let nobody = admin.create_user_with(&json!([])).await;
    nobody.get("/api/v1/llms?watch=true").await.error(403);
    assert!(admin.get("/api/v1/llms?watch=false").await.expect(200).is_array());
}
