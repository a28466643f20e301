//! When the server, or a provider behind it, is down.

use std::{fs, time::Instant};

use serde_json::{Value, json};
use tests::{
    Fault, Reply,
    provider::answer::text,
    sse::Chat,
    wait::{SOON, eventually, eventually_within},
};

use super::{Proxy, World, chat};

const PATH: &str = "/v1/chat/completions";

fn said(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// Waits until the proxy holds a lease for `gpt`.
async fn leased(proxy: &Proxy) {
    let kept = async || {
        let kept: Value =
            serde_json::from_slice(&fs::read(proxy.home.path().join("leases.json")).ok()?).ok()?;
        kept.as_object()?.values().next()?["leases"].get("gpt").cloned()
    };
    eventually("a lease is kept", kept).await;
}

#[tokio::test]
async fn a_local_answer_is_marked_in_every_format() {
    let world = World::make(600).await;
    let proxy = world.proxy().await;
    world.remote.misbehave(Fault::Status(502));
    let reply = proxy.api.post(PATH, &chat("plain", false)).await;
    assert_eq!((said(&reply), reply.header("x-mcpctl-failover")), (text(), "via=local"));
    let reply = proxy.api.post(PATH, &chat("plain", true)).await;
    assert_eq!(reply.header("x-mcpctl-failover"), "via=local");
    assert_eq!(Chat::read(&reply.text()).text(), text());
    let messages =
        json!({"model": "plain", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let reply = proxy.api.post("/v1/messages", &messages).await;
    assert_eq!(reply.expect(200)["content"][0]["text"], text());
    assert_eq!(reply.header("x-mcpctl-failover"), "via=local");
    let responses = json!({"model": "plain", "input": "hi"});
    let reply = proxy.api.post("/v1/responses", &responses).await;
    assert_eq!((reply.status, reply.header("x-mcpctl-failover")), (200, "via=local"), "{}", reply.text());
    for request in world.local.received() {
        assert_eq!(request.json()["model"], "local-1");
        assert_eq!(request.header("authorization"), Some("Bearer sk-of-the-local-one"));
        assert!(!request.text().contains(proxy.api.token()) && !request.text().contains(world.admin.token()));
    }
    // A stream that breaks before it begins is one that never was.
    world.remote.misbehave(Fault::Empty);
    let reply = proxy.api.post(PATH, &chat("plain", true)).await;
    assert_eq!(reply.header("x-mcpctl-failover"), "via=local", "{}", reply.text());
    // What the local provider cannot do stays the server's own failure.
    world.remote.misbehave(Fault::Status(502));
    let reply = proxy.api.post("/v1/messages/count_tokens", &messages).await;
    assert_eq!(reply.header("x-mcpctl-failover"), "");
    assert!(reply.status >= 500, "{}", reply.text());
    let log = proxy.log();
    let line = log
        .lines()
        .find(|line| line.contains(" failover llm=plain via=local: "))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.ends_with("a local provider answered, with the server's consent"), "{line}");
    let status = proxy.json(&world.server.url(), &world.admin, &["status"]);
    assert_eq!(
        (&status["failovers"]["count"], &status["failovers"]["refused"]),
        (&json!(5), &json!(1)),
        "{status}"
    );
    assert_eq!(status["failovers"]["last"][1]["via"], "local", "{status}");
}

#[tokio::test]
async fn a_server_that_is_killed_is_stood_in_for_under_a_lease_or_not_at_all() {
    let mut world = World::make(600).await;
    let proxy = world.proxy().await;
    for llm in ["gpt", "plain"] {
        let reply = proxy.api.post(PATH, &chat(llm, false)).await;
        assert_eq!((said(&reply), reply.header("x-mcpctl-failover")), (text(), ""));
    }
    leased(&proxy).await;
    world.server.kill9();
    for stream in [false, true] {
        let reply = proxy.api.post(PATH, &chat("gpt", stream)).await;
        assert_eq!((reply.status, reply.header("x-mcpctl-failover")), (200, "via=local; lease"));
    }
    assert_eq!(world.local.received().len(), 2);
    let message = proxy.api.post(PATH, &chat("plain", false)).await.openai_error(503);
    assert!(message.contains("connection refused") && message.contains("no lease is held"), "{message}");
    let message = proxy.api.get("/v1/models").await.openai_error(503);
    assert!(message.contains("connection refused"), "{message}");
    assert_eq!(world.local.received().len(), 2);
    let output = proxy.run(&world.server.url(), &world.admin, &["status"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "unreachable",
        &format!("http://{}, pid ", proxy.address),
        "local: up, for gpt, plain",
        "2, and 1 refused",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // When it is back, it answers again.
    world.server.restart().await;
    let reply = proxy.api.post(PATH, &chat("gpt", false)).await;
    assert_eq!((said(&reply), reply.header("x-mcpctl-failover")), (text(), ""));
}

/// A user with the right to run and see Llms, by a binding that can be deleted.
async fn ann(world: &World) -> tests::Api {
    let (email, password) = ("ann@example.com", "a password of ann's");
    world.admin.create_user(email, password).await;
    let roles = json!([{"role": "run", "resource": "llms"}, {"role": "view", "resource": "llms"}]);
    let binding =
        json!({"name": "ann", "subjects": [{"kind": "User", "name": email}], "roleBindings": roles});
    world.admin.create("rbac", &binding).await;
    world.server.client().login(email, password).await
}

#[tokio::test]
async fn a_binding_that_is_deleted_ends_it_at_once_and_for_good() {
    let mut world = World::make(600).await;
    let ann = ann(&world).await;
    let proxy = Proxy::start(&world.server, &ann, world.providers()).await;
    world.remote.misbehave(Fault::Status(500));
    let reply = proxy.api.post(PATH, &chat("gpt", false)).await;
    assert_eq!(reply.header("x-mcpctl-failover"), "via=local");
    leased(&proxy).await;
    world.admin.delete("/api/v1/rbac/ann").await.expect(204);
    let direct = ann.post(PATH, &chat("gpt", false)).await;
    let reply = proxy.api.post(PATH, &chat("gpt", false)).await;
    assert_eq!((reply.status, reply.text()), (403, direct.text()));
    world.server.kill9();
    let message = proxy.api.post(PATH, &chat("gpt", false)).await.openai_error(503);
    assert!(message.contains("no lease is held"), "{message}");
    assert_eq!(world.local.received().len(), 1);
}

#[tokio::test]
async fn a_binding_deleted_unseen_ends_it_when_the_lease_does() {
    const LEASE: u64 = 4;
    let mut world = World::make(LEASE).await;
    let ann = ann(&world).await;
    let proxy = Proxy::start(&world.server, &ann, world.providers()).await;
    let began = Instant::now();
    proxy.api.post(PATH, &chat("gpt", false)).await.expect(200);
    leased(&proxy).await;
    world.admin.delete("/api/v1/rbac/ann").await.expect(204);
    // Now nobody can tell the proxy.
    world.server.kill9();
    let refused = async || {
        let reply = proxy.api.post(PATH, &chat("gpt", false)).await;
        (reply.status != 200).then(|| reply.openai_error(503))
    };
    let message = eventually_within(SOON, "the lease ends", refused).await;
    assert!(message.contains("lease has expired"), "{message}");
    // A lease counts in whole seconds.
    assert!(began.elapsed().as_secs() <= LEASE + 2, "{:?}", began.elapsed());
}
