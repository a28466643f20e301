//! Plain calls: what goes to the provider, what comes back.

use serde_json::{Value, json};
use tests::{Api, Fault, Provider, Server, provider::answer, server::unique};

fn messages() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

async fn with_llm(ty: &str) -> (Server, Api, Provider, String) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let key = admin.create_llm("gpt", ty, &provider).await;
    (server, admin, provider, key)
}

/// The ways to ask one Llm: a path, and the model that must be in the body there.
const WAYS: [(&str, Option<&str>); 3] = [
    ("/api/v1/llms/gpt/infer", None),
    ("/api/v1/llms/gpt/infer", Some("gpt")),
    ("/v1/chat/completions", Some("gpt")),
];

#[tokio::test]
async fn an_openai_answer_comes_back_as_it_is() {
    let (_server, admin, provider, key) = with_llm("openai").await;
    for (path, model) in WAYS {
        let mut body = json!({"messages": messages(), "temperature": 0.5, "x_unknown": {"kept": [1, 2.50]}});
        if let Some(model) = model {
            body["model"] = model.into();
        }
        let reply = admin.post(path, &body).await;
        assert_eq!(reply.expect(200), answer::Api::OpenAi.plain("gpt-model"), "{path}");
        assert!(reply.header("content-type").starts_with("application/json"));
        let sent = provider.last();
        assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(sent.header("authorization"), Some(format!("Bearer {key}").as_str()));
        body["model"] = "gpt-model".into();
        assert_eq!(sent.json(), body, "unknown fields pass, the model is the Llm's");
    }
}

#[tokio::test]
async fn the_model_is_the_llms_own_unless_another_is_named() {
    let (_server, admin, provider, _key) = with_llm("openai").await;
    for (asked, sent) in [(json!(""), "gpt-model"), (json!("gpt"), "gpt-model"), (json!("other"), "other")] {
        let body = json!({"model": asked, "messages": messages()});
        admin.infer("gpt", &body).await.expect(200);
        assert_eq!(provider.last().json()["model"], sent);
    }
    let extra = json!({"allowedModels": ["good", "fine-*"]});
    admin.patch("/api/v1/llms/gpt", &json!({"extraConfig": extra})).await.expect(200);
    let seen = provider.received().len();
    for (model, status) in
        [("good", 200), ("fine-1", 200), ("gpt", 200), ("bad", 403), ("goods", 403), ("fine", 403)]
    {
        let reply = admin.infer("gpt", &json!({"model": model, "messages": messages()})).await;
        assert_eq!(reply.status, status, "{model}: {}", reply.text());
    }
    assert_eq!(provider.received().len(), seen + 3, "what is not allowed is not sent");
}

#[tokio::test]
async fn what_is_asked_must_be_askable() {
    let (_server, admin, provider, _key) = with_llm("openai").await;
    assert!(admin.infer("nowhere", &json!({"messages": messages()})).await.error(404).contains("nowhere"));
    let of_nowhere = json!({"model": "nowhere", "messages": messages()});
    assert!(admin.post("/v1/chat/completions", &of_nowhere).await.openai_error(404).contains("nowhere"));
    admin.post("/v1/chat/completions", &json!({"messages": messages()})).await.openai_error(400);
    for bad in [
        json!({}),
        json!({"messages": []}),
        json!({"messages": "x"}),
        json!({"messages": {}}),
        json!({"messages": null}),
    ] {
        let message = admin.infer("gpt", &bad).await;
        assert!(
            message.status == 400 && message.text().contains("messages is required"),
            "{}",
            message.text()
        );
        let mut bad = bad;
        bad["model"] = "gpt".into();
        let message = admin.post("/v1/chat/completions", &bad).await.openai_error(400);
        assert!(message.contains("messages is required"), "{message}");
    }
    for bad in [json!({"messages": messages(), "model": 7}), json!({"messages": messages(), "stream": "yes"})]
    {
        assert_eq!(admin.infer("gpt", &bad).await.status, 400, "{bad}");
    }
    assert!(provider.received().is_empty());
}

#[tokio::test]
async fn a_url_that_ends_in_v1_is_not_doubled() {
    let (_server, admin, provider, _key) = with_llm("openai").await;
    for end in ["", "/", "/v1", "/v1/"] {
        let url = format!("{}{end}", provider.url());
        admin.patch("/api/v1/llms/gpt", &json!({"url": url})).await.expect(200);
        admin.infer("gpt", &json!({"messages": messages()})).await.expect(200);
        assert_eq!(provider.last().path, "/v1/chat/completions", "{end:?}");
    }
    let before = format!("{}/prefix/v1", provider.url());
    admin.patch("/api/v1/llms/gpt", &json!({"url": before})).await.expect(200);
    admin.infer("gpt", &json!({"messages": messages()})).await;
    assert_eq!(provider.last().path, "/prefix/v1/chat/completions");
}

#[tokio::test]
async fn a_caller_chooses_neither_the_destination_nor_the_credential() {
    let (_server, admin, provider, key) = with_llm("openai").await;
    let elsewhere = Provider::start().await;
    let planted = unique("callers-own-key");
    let body = json!({
        "messages": messages(), "api_base": elsewhere.url(), "base_url": elsewhere.url(), "url": elsewhere.url(),
        "api_key": "callers-own", "headers": {"Authorization": "callers-own"}, "apiKeyRef": {"name": "x", "key": "y"},
    });
    let request = admin
        .request("POST", "/api/v1/llms/gpt/infer")
        .header("cookie", format!("session={planted}"))
        .header("x-api-key", &planted)
        .header("api-key", &planted)
        .header("x-forwarded-host", "elsewhere.example")
        .header("x-base-url", elsewhere.url())
        .header("openai-organization", "org-of-the-caller")
        .header("x-custom", &planted)
        .json(&body);
    admin.send(request).await.expect(200);
    assert!(elsewhere.received().is_empty());
    let sent = provider.last();
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {key}").as_str()));
    for text in [planted.as_str(), admin.token()] {
        assert!(!sent.text().contains(text), "{}", sent.text());
    }
    for name in ["cookie", "x-api-key", "api-key", "x-forwarded-host", "x-base-url", "x-custom"] {
        assert!(sent.header(name).is_none(), "{name} was forwarded");
    }
    assert_eq!(sent.header("host"), Some(provider.url().trim_start_matches("http://")));
}

#[tokio::test]
async fn without_a_reference_no_credential_is_sent() {
    let (_server, admin, provider, _key) = with_llm("openai").await;
    for ty in ["openai", "deepseek", "vllm", "ollama", "anthropic"] {
        let llm = json!({"name": format!("open-{ty}"), "type": ty, "model": "m", "url": provider.url()});
        admin.create("llms", &llm).await;
        admin.infer(&format!("open-{ty}"), &json!({"messages": messages()})).await.expect(200);
        let sent = provider.last();
        for name in ["authorization", "x-api-key", "cookie"] {
            assert!(sent.header(name).is_none(), "{ty}: {name} was sent");
        }
    }
}

#[tokio::test]
async fn configured_headers_and_defaults_are_added() {
    let (_server, admin, provider, key) = with_llm("openai").await;
    let extra = json!({"headers": {"X-Team": "blue"}, "defaults": {"temperature": 0.1, "top_p": 0.9}, "mine": "kept"});
    admin.patch("/api/v1/llms/gpt", &json!({"extraConfig": extra})).await.expect(200);
    admin.infer("gpt", &json!({"messages": messages(), "temperature": 1})).await.expect(200);
    let sent = provider.last();
    assert_eq!(sent.header("x-team"), Some("blue"));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {key}").as_str()));
    assert_eq!((&sent.json()["temperature"], &sent.json()["top_p"]), (&json!(1), &json!(0.9)));
    assert!(!sent.text().contains("kept"), "other keys go to nobody: {}", sent.text());
}

#[tokio::test]
async fn an_anthropic_answer_is_translated() {
    let (_server, admin, provider, key) = with_llm("anthropic").await;
    let body = json!({
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"},
                     {"role": "user", "content": "b"}],
        "temperature": 0.5, "top_p": 0.9, "stop": "END", "user": "u-1",
    });
    for (path, _) in WAYS {
        let mut body = body.clone();
        body["model"] = "gpt".into();
        let answer = admin.post(path, &body).await.expect(200);
        assert_eq!(answer["id"], "chatcmpl-msg_stub");
        assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("gpt-model")));
        assert!(answer["created"].as_i64().unwrap() > 1_700_000_000);
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], answer::text(), "every text block, in order");
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
        assert_eq!(choice["message"]["role"], "assistant");
        let usage = &answer["usage"];
        assert_eq!(
            [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]],
            [&json!(9), &json!(5), &json!(14)],
            "cached tokens are part of the prompt: {usage}"
        );
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 2);
    }
    let sent = provider.last();
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!(sent.header("x-api-key"), Some(key.as_str()));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    assert!(sent.header("authorization").is_none());
    let body = sent.json();
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("gpt-model"), &json!(1024)));
    assert!(body["system"].to_string().contains("be brief"), "{body}");
    assert_eq!(body["messages"].as_array().unwrap().len(), 1, "neighbours are merged: {body}");
    assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.5), &json!(0.9)));
    assert_eq!((&body["stop_sequences"], &body["metadata"]["user_id"]), (&json!(["END"]), &json!("u-1")));
    assert!(body.get("stop").is_none() && body.get("user").is_none());
}

#[tokio::test]
async fn what_anthropic_cannot_do_is_named_or_refused() {
    let (_server, admin, provider, _key) = with_llm("anthropic").await;
    let reply = admin.infer("gpt", &json!({"messages": messages(), "seed": 1, "logit_bias": {"1": 2}})).await;
    reply.expect(200);
    let dropped = reply.header("x-mcpctl-dropped");
    assert!(dropped.contains("seed") && dropped.contains("logit_bias"), "{dropped:?}");
    for bad in [
        json!({"messages": messages(), "n": 2}),
        json!({"messages": [{"role": "system", "content": "only this"}]}),
    ] {
        let seen = provider.received().len();
        let reply = admin.infer("gpt", &bad).await;
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
        assert_eq!(provider.received().len(), seen);
    }
    for (asked, sent) in
        [(json!({"max_completion_tokens": 7, "max_tokens": 9}), 7), (json!({"max_tokens": 9}), 9)]
    {
        let mut body = json!({"messages": messages()});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        admin.infer("gpt", &body).await.expect(200);
        assert_eq!(provider.last().json()["max_tokens"], sent);
    }
    let extra = json!({"maxTokens": 77, "anthropicVersion": "2024-01-01"});
    admin.patch("/api/v1/llms/gpt", &json!({"extraConfig": extra})).await.expect(200);
    admin.infer("gpt", &json!({"messages": messages()})).await.expect(200);
    assert_eq!(provider.last().json()["max_tokens"], 77);
    assert_eq!(provider.last().header("anthropic-version"), Some("2024-01-01"));
}

#[tokio::test]
async fn the_keys_change_counts_for_the_next_call() {
    let (server, admin, provider, _key) = with_llm("openai").await;
    admin.infer("gpt", &json!({"messages": messages()})).await.expect(200);
    let new = unique("sk-rotated");
    server.canary.keep_secret("the rotated key", &new);
    admin.put("/api/v1/secrets/gpt-key", &json!({"data": {"api-key": new}})).await.expect(200);
    admin.infer("gpt", &json!({"messages": messages()})).await.expect(200);
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {new}").as_str()));
    admin.delete("/api/v1/secrets/gpt-key").await;
    admin.infer("gpt", &json!({"messages": messages()})).await.expect(200);
    assert_eq!(provider.last().header("authorization"), None, "an unlinked key is not sent");
}

#[tokio::test]
async fn only_harmless_headers_of_the_provider_come_back() {
    let (_server, admin, provider, _key) = with_llm("openai").await;
    provider.misbehave(Fault::Status(400));
    let reply = admin.infer("gpt", &json!({"messages": messages()})).await;
    assert_eq!(reply.status, 400);
    for name in ["x-reflected", "set-cookie"] {
        assert_eq!(reply.header(name), "", "{name}");
    }
}
