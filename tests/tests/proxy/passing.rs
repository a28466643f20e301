//! What goes through, and what does not.

use mcpctl_core::adapter::Api as Format;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tests::{Api, Fault, Provider, Reply, Server};

use super::{Proxy, World, chat};

/// A request of each API, as odd as a client may write it.
fn requests() -> Vec<(&'static str, String)> {
    Format::ALL
        .into_iter()
        .flat_map(|api| {
            let input = match api {
                Format::ChatCompletions | Format::Messages | Format::CountTokens => {
                    r#""messages":[{"role":"user","content":"h\u00e9llo  "}],"max_tokens":9"#
                }
                Format::Completions => r#""prompt":"hello""#,
                Format::Embeddings | Format::Responses => r#""input":"hello""#,
            };
            let plain = format!("{{ \"model\":\t\"gpt\",{input}  }}\n");
            let streams = !matches!(api, Format::Embeddings | Format::CountTokens);
            let stream = format!("{{\"stream\":true, \"model\":\"gpt\",{input}}}");
            [Some((api.path(), plain)), streams.then_some((api.path(), stream))].into_iter().flatten()
        })
        .collect()
}

async fn ask(api: &Api, path: &str, body: &str) -> Reply {
    let request = api.request("POST", path).header(CONTENT_TYPE, "application/json");
    api.send(request.body(body.to_owned())).await
}

/// Without what differs from call to call: the provider's own ids and times are the same here.
fn shown(reply: &Reply) -> (u16, String, String, String) {
    (reply.status, reply.header("content-type").into(), reply.header("retry-after").into(), reply.text())
}

#[tokio::test]
async fn requests_and_answers_go_through_byte_for_byte() {
    let world = World::make(600).await;
    let proxy = Proxy::start(&world.server, &world.admin, json!([])).await;
    let faults = [400, 404, 429, 500, 503].map(|status| Some(Fault::Status(status)));
    for fault in [None, Some(Fault::ErrorFrame)].into_iter().chain(faults) {
        world.remote.misbehave(fault);
        for (path, body) in requests() {
            let direct = ask(&world.admin, path, &body).await;
            let before = world.remote.received().last().map(|request| request.text());
            let passed = ask(&proxy.api, path, &body).await;
            assert_eq!(shown(&passed), shown(&direct), "{fault:?} {path} {body}");
            assert_eq!(passed.header("x-mcpctl-failover"), "", "{path}");
            assert_eq!(passed.header("x-mcpctl-lease"), "", "a lease is for the proxy alone");
            let after = world.remote.received().last().map(|request| request.text());
            let body = |text: Option<String>| text.and_then(|text| Some(text.split_once("] ")?.1.to_owned()));
            assert_eq!(body(after), body(before), "{path}");
        }
    }
    for path in ["/v1/models", "/v1/models/gpt", "/v1/models/nowhere"] {
        let (direct, passed) = (world.admin.get(path).await, proxy.api.get(path).await);
        assert_eq!(shown(&passed), shown(&direct), "{path}");
    }
    // The server's own refusals, too.
    for body in
        ["{", "{}", r#"{"model":"nowhere","messages":[{"role":"user","content":"x"}]}"#, r#"{"model":"gpt"}"#]
    {
        let path = "/v1/chat/completions";
        let (direct, passed) = (ask(&world.admin, path, body).await, ask(&proxy.api, path, body).await);
        assert!(direct.status >= 400, "{body}");
        assert_eq!(shown(&passed), shown(&direct), "{body}");
    }
}

#[tokio::test]
async fn nothing_of_the_caller_s_goes_on_but_what_belongs_to_the_call() {
    // In the server's place is one that remembers.
    let (server, upstream) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let proxy = Proxy::start_with(&upstream.url(), &admin, json!([]), &[]).await;
    let request = proxy.api.request("POST", "/v1/messages").json(&chat("gpt", false));
    let request = request
        .header("x-api-key", proxy.api.token())
        .header("cookie", "session=of-the-caller")
        .header("impersonate-user", "somebody@example.com")
        .header("proxy-authorization", "Basic of-the-caller")
        .header("x-forwarded-for", "1.2.3.4")
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "some-beta")
        .header("x-request-id", "of-the-caller-1");
    proxy.api.send(request).await.expect(200);
    let received = upstream.last();
    let token = format!("Bearer {}", admin.token());
    assert_eq!(received.header(AUTHORIZATION.as_str()), Some(token.as_str()));
    for (name, value) in [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "some-beta"),
        ("x-request-id", "of-the-caller-1"),
    ] {
        assert_eq!(received.header(name), Some(value));
    }
    for name in ["x-api-key", "cookie", "impersonate-user", "proxy-authorization", "x-forwarded-for"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert!(!received.text().contains(proxy.api.token()), "the proxy's token went on");
    assert_eq!(received.header("host"), upstream.url().strip_prefix("http://"));
    // Nor is a redirect passed on, which would take the proxy's token elsewhere.
    upstream.redirect_to("http://127.0.0.1:1/elsewhere");
    upstream.misbehave(Fault::Redirect);
    let reply = proxy.api.post("/v1/chat/completions", &chat("gpt", false)).await;
    assert_eq!((reply.status, reply.header("location")), (503, ""), "{}", reply.text());
}

#[tokio::test]
async fn what_the_proxy_has_no_route_for_is_refused_in_the_format_of_the_api() {
    let world = World::make(600).await;
    let proxy = world.proxy().await;
    for path in [
        "/",
        "/api/v1/llms",
        "/v1/files",
        "/v1/../api/v1/secrets",
        "/v1/models/a%2fb",
        "/-/nothing",
        "//v1/models",
    ] {
        assert!(proxy.api.get(path).await.status == 404, "{path}");
    }
    let message = proxy.api.get("/v1/chat/completions").await.openai_error(405);
    assert!(message.contains("POST"), "{message}");
    assert_eq!(proxy.api.anonymous().get("/healthz").await.expect(200), json!({"status": "ok"}));
    let large = Value::from("x".repeat(11 << 20));
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": large}]}).to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {}\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
        proxy.address,
        proxy.api.token(),
        body.len()
    );
    // Its head is enough.
    let reply = tests::http1::exchange(proxy.address, head.as_bytes()).await.unwrap();
    assert_eq!((reply.status, reply.json()["error"]["type"].clone()), (413, json!("request_too_large")));
    assert_eq!(world.remote.received().len(), 0);
}
