//! Callers that leave, and the proxy's own end.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Fault, http1::Connection, sse::Chat, wait::SOON, within};

use super::{Proxy, World, chat};

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_caller_that_leaves_ends_the_work_upstream() {
    for (fault, stream) in [(Fault::Endless, true), (Fault::Silent, true), (Fault::Silent, false)] {
        let world = World::make(600).await;
        let proxy = world.proxy().await;
        world.remote.misbehave(fault);
        let body = chat("gpt", stream).to_string();
        let mut connection = Connection::open(proxy.address).await;
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            proxy.address,
            proxy.api.token(),
            body.len()
        );
        connection.write(format!("{head}{body}").as_bytes()).await.unwrap();
        world.remote.next_after(0).await;
        if fault == Fault::Endless {
            let head = within(SOON, "the stream begins", connection.head()).await.unwrap().unwrap();
            assert!(head.start.contains("200"), "{head:?}");
            within(SOON, "its first piece", connection.chunk()).await.unwrap();
        }
        let left = Instant::now();
        drop(connection);
        let took = world.remote.hung_up().await.duration_since(left);
        assert!(took < Duration::from_secs(2), "{fault:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_stream_of_the_local_provider_ends_with_its_caller_too() {
    let world = World::make(600).await;
    let proxy = world.proxy().await;
    world.remote.misbehave(Fault::Status(500));
    world.local.misbehave(Fault::Endless);
    let mut stream = proxy.api.stream(PATH, &chat("gpt", true)).await;
    assert!(stream.next().await.is_some());
    drop(stream);
    world.local.hung_up().await;
}

#[tokio::test]
async fn sigterm_lets_a_running_stream_finish_and_takes_no_new_ones() {
    let world = World::make(600).await;
    let mut proxy = Proxy::start(&world.server, &world.admin, json!([])).await;
    world.remote.misbehave(Fault::ByteByByte);
    let mut stream = proxy.api.stream(PATH, &chat("gpt", true)).await;
    assert!(stream.next().await.is_some());
    proxy.process.signal("TERM");
    let reply = stream.rest().await;
    Chat::read(&reply.text()).assert_finished();
    assert_eq!(proxy.process.wait(SOON).code(), Some(0), "{}", proxy.log());
    assert!(proxy.api.try_get("/healthz").await.is_none());
    let status = proxy.json(&world.server.url(), &world.admin, &["status"]);
    assert_eq!(status["proxy"], json!({"running": false}), "{status}");
}

#[tokio::test]
async fn a_token_that_the_server_does_not_take_is_told_once() {
    let world = World::make(600).await;
    let stranger = world.admin.with_token("mcpctl_pat_of-nobody");
    let proxy = Proxy::start(&world.server, &stranger, world.providers()).await;
    let direct = stranger.post(PATH, &chat("gpt", false)).await;
    for _ in 0..2 {
        let reply = proxy.api.post(PATH, &chat("gpt", false)).await;
        assert_eq!((reply.status, reply.text()), (401, direct.text()));
    }
    assert_eq!(proxy.log().matches("mcpctl login").count(), 1, "{}", proxy.log());
    assert_eq!(world.local.received().len(), 0);
}
