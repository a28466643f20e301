//! The other APIs of both vendors: the same pipeline behind every route.

use serde_json::{Value, json};
use tests::{
    Api, Fault, Provider, Server, eventually,
    provider::answer::{self, Api as Spoken},
};

async fn with_llms() -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for ty in ["openai", "anthropic"] {
        admin.create_llm(ty, ty, &provider).await;
    }
    (server, admin, provider)
}

/// The two paths of an API: with the Llm in the body, and in the path.
fn ways(llm: &str, api: &str) -> [String; 2] {
    [format!("/v1/{api}"), format!("/api/v1/llms/{llm}/v1/{api}")]
}

fn messages(llm: &str) -> Value {
    json!({"model": llm, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})
}

/// The newest audit event of a call.
async fn last_call(admin: &Api) -> Value {
    let one = async || {
        let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call&limit=1").await.expect(200);
        events["items"].get(0).cloned()
    };
    eventually("the audit event of the call", one).await
}

#[tokio::test]
async fn openais_other_apis_pass_through() {
    let (_server, admin, provider) = with_llms().await;
    for path in ways("openai", "completions") {
        let body = json!({"model": "openai", "prompt": "hi", "suffix": {"x": 1.50}});
        let reply = admin.post(&path, &body).await;
        assert_eq!(reply.expect(200), Spoken::Completions.plain("openai-model"), "{path}");
        assert_eq!(
            (provider.last().path.as_str(), &provider.last().json()["suffix"]["x"]),
            ("/v1/completions", &json!(1.5))
        );
        let stream = json!({"model": "openai", "prompt": "hi", "stream": true});
        let text = admin.post(&path, &stream).await.text();
        assert!(text.ends_with("data: [DONE]\n\n") && text.contains("from the stub"), "{text}");
    }
    for path in ways("openai", "embeddings") {
        let reply = admin.post(&path, &json!({"model": "openai", "input": ["a", "b"]})).await.expect(200);
        assert_eq!(reply["data"].as_array().unwrap().len(), 2);
        assert_eq!(provider.last().json(), json!({"model": "openai-model", "input": ["a", "b"]}));
    }
    let event = last_call(&admin).await;
    assert_eq!((&event["status"], &event["promptTokens"]), (&json!(200), &json!(3)), "{event}");
    for path in ways("openai", "responses") {
        let reply = admin.post(&path, &json!({"model": "openai", "input": "hi"})).await;
        assert_eq!(reply.expect(200), Spoken::Responses.plain("openai-model"), "{path}");
    }
    for (api, missing) in [("completions", "prompt"), ("embeddings", "input"), ("messages", "messages")] {
        let reply = admin.post(&format!("/v1/{api}"), &json!({"model": "openai"})).await;
        assert!(reply.status == 400 && reply.text().contains(missing), "{}", reply.text());
    }
}

#[tokio::test]
async fn what_a_provider_lacks_is_a_501_that_names_it() {
    let (_server, admin, provider) = with_llms().await;
    for (llm, api, body) in [
        ("anthropic", "embeddings", json!({"model": "anthropic", "input": "a"})),
        ("anthropic", "completions", json!({"model": "anthropic", "prompt": "a"})),
        ("openai", "messages/count_tokens", messages("openai")),
    ] {
        for path in ways(llm, api) {
            let reply = admin.post(&path, &body).await;
            let message = if api.starts_with("messages") {
                reply.anthropic_error(501)
            } else {
                reply.openai_error(501)
            };
            assert!(message.contains(&format!("not supported by provider type {llm}")), "{message}");
        }
    }
    assert!(provider.received().is_empty());
}

#[tokio::test]
async fn a_message_to_anthropic_keeps_every_byte() {
    let (_server, admin, provider) = with_llms().await;
    for path in ways("anthropic", "messages") {
        let body = r#"{ "model":"anthropic", "max_tokens":50,"x":[1.50,{"b":1,"a":2}],"messages":[{"role":"user","content":"é"}] }"#;
        let request = admin.request("POST", &path).header("content-type", "application/json");
        let request = request.header("anthropic-beta", "one,two").header("anthropic-version", "2024-02-02");
        let reply = admin.send(request.header("x-custom", "callers").body(body)).await;
        assert_eq!(reply.expect(200), Spoken::Anthropic.plain("anthropic-model"));
        let sent = provider.last();
        assert_eq!(sent.body, body.replace("\"anthropic\"", "\"anthropic-model\"").into_bytes());
        assert_eq!(
            (sent.header("anthropic-beta"), sent.header("anthropic-version"), sent.header("x-custom")),
            (Some("one,two"), Some("2024-02-02"), None)
        );
        assert!(!sent.text().contains(admin.token()));
        let mut stream = messages("anthropic");
        stream["stream"] = true.into();
        let reply = admin.post(&path, &stream).await;
        let whole = Spoken::Anthropic.stream("anthropic-model", false).all();
        assert_eq!(reply.text(), whole.iter().map(|event| format!("{event}\n\n")).collect::<String>());
        assert_eq!(provider.last().header("anthropic-beta"), None);
        let event = last_call(&admin).await;
        assert_eq!(
            [&event["promptTokens"], &event["completionTokens"], &event["cachedTokens"]],
            [&json!(9), &json!(5), &json!(2)],
            "{event}"
        );
        assert_eq!((&event["finishReason"], &event["streaming"]), (&json!("stop"), &json!(true)), "{event}");
    }
    for path in ways("anthropic", "messages/count_tokens") {
        assert_eq!(admin.post(&path, &messages("anthropic")).await.expect(200), json!({"input_tokens": 12}));
        assert_eq!(provider.last().path, "/v1/messages/count_tokens");
    }
}

#[tokio::test]
async fn a_stream_of_events_that_breaks_off_ends_in_an_error() {
    let (_server, admin, provider) = with_llms().await;
    let ask = |llm: &str| json!({"model": llm, "stream": true, "input": "hi", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5});
    for (llm, api, end) in
        [("anthropic", "messages", "message_stop"), ("openai", "responses", "response.completed")]
    {
        let path = format!("/v1/{api}");
        for fault in [Fault::NoFinish, Fault::NoDone, Fault::Truncated, Fault::Reset, Fault::ErrorFrame] {
            provider.misbehave(fault);
            let text = admin.post(&path, &ask(llm)).await.text();
            assert_eq!(text.matches("event: error\n").count(), 1, "{api} {fault}: {text}");
            assert!(!text.contains(end) && !text.contains("[DONE]"), "{api} {fault}: {text}");
        }
        for fault in [
            Fault::CrLf,
            Fault::Cr,
            Fault::MixedLines,
            Fault::HalfCodePoints,
            Fault::ByteByByte,
            Fault::AfterDone,
        ] {
            provider.misbehave(fault);
            let text = admin.post(&path, &ask(llm)).await.text();
            assert!(
                text.contains(end) && !text.contains("LATE") && !text.contains("event: error"),
                "{fault}: {text}"
            );
        }
        provider.misbehave(Fault::LongLine);
        let text = admin.post(&path, &ask(llm)).await.text();
        assert!(text.len() > 10 << 20 && text.contains(end), "{api}: {}", text.len());
    }
}

#[tokio::test]
async fn a_token_may_come_in_either_header_but_not_in_two_minds() {
    let (server, admin, _provider) = with_llms().await;
    let (token, anonymous) = (admin.token().to_owned(), server.client());
    let bearer = format!("Bearer {token}");
    let cases: [(&[(&str, &str)], u16); 8] = [
        (&[("x-api-key", &token)], 200),
        (&[("authorization", &bearer)], 200),
        (&[("authorization", &bearer), ("x-api-key", &token)], 200),
        (&[("authorization", &bearer), ("x-api-key", "other")], 401),
        (&[("authorization", "Bearer other"), ("x-api-key", &token)], 401),
        (&[("authorization", "Basic eDp5"), ("x-api-key", &token)], 401),
        (&[("x-api-key", &token), ("x-api-key", &token)], 401),
        (&[("x-api-key", "")], 401),
    ];
    for path in ["/v1/messages", "/v1/messages/count_tokens", "/api/v1/llms/anthropic/v1/messages"] {
        for (headers, status) in cases {
            let mut request = anonymous.request("POST", path).json(&messages("anthropic"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let reply = anonymous.send(request).await;
            assert_eq!(reply.status, status, "{path} {headers:?}: {}", reply.text());
            if status == 401 {
                reply.anthropic_error(401);
            }
        }
    }
    let elsewhere = anonymous.request("GET", "/v1/models").header("x-api-key", &token);
    anonymous.send(elsewhere).await.openai_error(401);
}

#[tokio::test]
async fn models_one_by_one_and_of_one_llm() {
    let (_server, admin, _provider) = with_llms().await;
    let one = admin.get("/v1/models/openai").await.expect(200);
    assert_eq!(
        (&one["id"], &one["object"], &one["owned_by"]),
        (&json!("openai"), &json!("model"), &json!("openai"))
    );
    let listed = admin.get("/v1/models").await.expect(200);
    assert!(listed["data"].as_array().unwrap().contains(&one));
    assert_eq!(admin.get("/api/v1/llms/openai/v1/models").await.expect(200)["data"], json!([one]));
    admin.get("/v1/models/nowhere").await.openai_error(404);
    let runner = json!([{"role": "run", "resource": "llms", "name": "openai"}]);
    let user = admin.create_user_with(&runner).await;
    user.get("/v1/models/openai").await.expect(200);
    for name in ["anthropic", "nowhere"] {
        assert!(user.get(&format!("/v1/models/{name}")).await.openai_error(403).contains("run:llms:"));
    }
}

#[tokio::test]
async fn the_model_is_free_below_an_llms_own_path() {
    let (_server, admin, provider) = with_llms().await;
    for (api, body) in
        [("chat/completions", messages("other")), ("embeddings", json!({"model": "other", "input": "x"}))]
    {
        admin.post(&format!("/api/v1/llms/openai/v1/{api}"), &body).await.expect(200);
        assert_eq!(provider.last().json()["model"], "other");
    }
    assert!(!answer::text().is_empty());
}

/// The events of a whole stream in Anthropic's format.
fn message_events(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter(|event| !event.is_empty()).map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(Some(data["type"].as_str().unwrap()), name.strip_prefix("event: "));
        data
    });
    data.collect()
}

#[tokio::test]
async fn a_message_to_an_openai_format_provider_is_translated() {
    let (_server, admin, provider) = with_llms().await;
    for path in ways("openai", "messages") {
        let mut body = messages("openai");
        body["system"] = "be brief".into();
        body["top_k"] = 5.into();
        let request = admin.request("POST", &path).header("anthropic-beta", "one").json(&body);
        let reply = admin.send(request).await;
        let answer = reply.expect(200);
        assert_eq!(answer["content"], json!([{"type": "text", "text": answer::text()}]));
        assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("end_turn")));
        assert_eq!(
            (&answer["usage"]["input_tokens"], &answer["usage"]["cache_read_input_tokens"]),
            (&json!(7), &json!(2))
        );
        assert_eq!(reply.header("x-mcpctl-dropped"), "top_k");
        let sent = provider.last();
        assert_eq!((sent.path.as_str(), sent.header("anthropic-beta")), ("/v1/chat/completions", None));
        assert_eq!(sent.json()["messages"][0], json!({"role": "system", "content": "be brief"}));
        body["stream"] = true.into();
        let reply = admin.post(&path, &body).await;
        assert_eq!(reply.header("content-type"), "text/event-stream");
        let events = message_events(&reply.text());
        let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        assert_eq!(text, answer::text());
        let last = &events[events.len() - 2];
        assert_eq!((&last["usage"]["input_tokens"], &last["usage"]["output_tokens"]), (&json!(7), &json!(5)));
        assert_eq!(events.last().unwrap()["type"], "message_stop");
        assert_eq!(provider.last().json()["stream_options"]["include_usage"], true);
        let event = last_call(&admin).await;
        assert_eq!(
            [&event["promptTokens"], &event["completionTokens"], &event["finishReason"]],
            [&json!(9), &json!(5), &json!("stop")],
            "{event}"
        );
    }
    admin.patch("/api/v1/llms/openai", &json!({"extraConfig": {"strict": true}})).await.expect(200);
    let mut strict = messages("openai");
    strict["top_k"] = 5.into();
    assert!(admin.post("/v1/messages", &strict).await.anthropic_error(400).contains("top_k"));
}

#[tokio::test]
async fn a_translated_stream_that_breaks_off_is_no_finished_message() {
    let (_server, admin, provider) = with_llms().await;
    let mut body = messages("openai");
    body["stream"] = true.into();
    for fault in [Fault::NoFinish, Fault::Truncated, Fault::Reset, Fault::ErrorFrame] {
        provider.misbehave(fault);
        let events = message_events(&admin.post("/v1/messages", &body).await.text());
        assert_eq!(events.last().unwrap()["type"], "error", "{fault}");
        let stops =
            events.iter().filter(|event| event["type"] == "message_stop" || event["type"] == "message_delta");
        assert_eq!(stops.count(), 0, "{fault}: {events:#?}");
    }
    for (fault, status) in
        [(Fault::Status(400), 400), (Fault::Status(401), 502), (Fault::Status(429), 429), (Fault::Html, 502)]
    {
        provider.misbehave(fault);
        for llm in ["openai", "anthropic"] {
            let mut body = body.clone();
            body["model"] = llm.into();
            let reply = admin.post("/v1/messages", &body).await;
            assert_eq!(
                (reply.status, &reply.json()["type"]),
                (status, &json!("error")),
                "{llm} {fault}: {}",
                reply.text()
            );
            assert_eq!(reply.header("retry-after"), if status == 429 { "7" } else { "" });
        }
    }
}

#[tokio::test]
async fn a_response_of_a_provider_that_has_none_is_translated() {
    let (_server, admin, provider) = with_llms().await;
    for path in ways("anthropic", "responses") {
        let body = json!({"model": "anthropic", "input": "hi", "instructions": "be brief"});
        let answer = admin.post(&path, &body).await.expect(200);
        assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
        assert_eq!(answer["output"][0]["content"][0]["text"], answer::text());
        assert_eq!(answer["usage"]["input_tokens_details"]["cached_tokens"], 2);
        assert_eq!(
            (provider.last().path.as_str(), &provider.last().json()["system"]),
            ("/v1/messages", &json!("be brief"))
        );
        let kept = json!({"model": "anthropic", "input": "hi", "previous_response_id": "r"});
        assert!(admin.post(&path, &kept).await.openai_error(400).contains("previous_response_id"));
        let stream = json!({"model": "anthropic", "input": "hi", "stream": true});
        let text = admin.post(&path, &stream).await.text();
        let events = message_events(&text);
        assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], answer::text());
        assert!(!text.contains("[DONE]"));
        provider.misbehave(Fault::Truncated);
        let events = message_events(&admin.post(&path, &stream).await.text());
        assert_eq!(events.last().unwrap()["type"], "error");
        provider.misbehave(None);
    }
}
