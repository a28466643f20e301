use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    Registry,
    gateway::{Gateway, GatewaySettings, Target},
    resource::{Kind, kinds},
    store::{EventQuery, MemoryStore},
};

const KEY: &str = "sk-very-secret-1234";

#[test]
fn only_the_secret_goes_and_nothing_is_copied_without_it() {
    let redactor = Redactor::new(&SecretValue::new(KEY)).unwrap();
    let clean = |text: &str| {
        String::from_utf8(redactor.clean(Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
    };
    assert_eq!(clean(&format!("a {KEY} b {KEY}")), "a [redacted] b [redacted]");
    assert_eq!(clean(&format!("{KEY}{KEY}")), "[redacted][redacted]");
    let innocent = Bytes::from_static(b"sk-very-secret-123");
    assert_eq!(redactor.clean(innocent.clone()).as_ptr(), innocent.as_ptr());
    assert!(Redactor::new(&SecretValue::new("short")).is_none());
}

/// A provider that repeats its caller's credential in its answer, a few bytes at a time.
async fn reflecting_provider(
    content_type: &'static str,
    body: impl Fn(&str) -> String + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains(KEY), "the provider is sent the key");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n");
        for piece in [head, body(KEY)].concat().as_bytes().chunks(7) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    url
}

/// What a caller and the audit trail get to see.
async fn seen(url: String, stream: bool) -> (String, String) {
    let registry = Registry::builder(Arc::new(MemoryStore::new())).open().await.unwrap();
    let root = registry.root("test");
    let create = async |kind: Kind, body: Value| {
        registry.create(&root, kind, body.as_object().cloned().unwrap()).await.unwrap()
    };
    create(kinds::SECRETS, json!({"name": "k", "data": {"token": KEY}})).await;
    let reference = json!({"name": "k", "key": "token"});
    create(
        kinds::LLMS,
        json!({"name": "a", "type": "vllm", "model": "m", "url": url, "apiKeyRef": reference}),
    )
    .await;
    let gateway = Gateway::new(registry.clone(), GatewaySettings::default()).unwrap();
    let ask = json!({"stream": stream, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let answer = gateway.chat(&root, Target::Named("a"), ask.into()).await.unwrap();
    let body = answer.body.collect().await.unwrap().to_bytes();
    let query = EventQuery { limit: 100, ..EventQuery::default() };
    let events = registry.audit_events(&root, query).await.unwrap().items;
    (String::from_utf8(body.to_vec()).unwrap(), format!("{events:?}"))
}

#[tokio::test]
async fn a_key_that_a_provider_repeats_in_a_stream_reaches_nobody() {
    let url = reflecting_provider("text/event-stream", |key| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"I know {key}\"}}}}]}}\n\n\
             data: {{\"error\":{{\"message\":\"bad key {key}\"}}}}\n\n"
        )
    });
    let (body, events) = seen(url.await, true).await;
    assert!(body.contains("I know [redacted]") && body.contains("bad key [redacted]"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    assert!(!body.contains(KEY) && !events.contains(KEY), "{body} {events}");
    assert!(events.contains("bad key [redacted]"), "{events}");
}

#[tokio::test]
async fn a_key_that_a_provider_repeats_in_an_answer_reaches_nobody() {
    let url = reflecting_provider("application/json", |key| {
        json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": key}, "finish_reason": key}]}).to_string()
    });
    let (body, events) = seen(url.await, false).await;
    assert!(body.contains("[redacted]"), "{body}");
    assert!(!body.contains(KEY) && !events.contains(KEY), "{body} {events}");
}
