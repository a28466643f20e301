//! The tokens of every call are in its audit event: on each route, for each provider, streamed or not, whether or
//! not the caller asked for them.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Api, Provider, Server, ServerOptions, eventually, server::binary};

/// Of the prompt, of the completion, and of the prompt from a cache.
type Tokens = [Option<u64>; 3];

/// Of the stub for the gemini program, whose thinking counts as well.
const GEMINI: Tokens = [Some(12), Some(8), Some(4)];

/// The routes, the types of Llms that have them, and the tokens of the stubs' answers.
const ROUTES: [(&str, &[&str], Tokens); 8] = [
    ("chat/completions", &["openai", "deepseek", "vllm", "ollama", "anthropic"], [Some(9), Some(5), Some(2)]),
    ("completions", &["openai", "deepseek", "vllm", "ollama"], [Some(9), Some(5), Some(2)]),
    ("embeddings", &["openai", "deepseek", "vllm", "ollama"], [Some(3), None, None]),
    ("responses", &["openai", "deepseek", "vllm", "ollama", "anthropic"], [Some(9), Some(5), Some(2)]),
    ("messages", &["openai", "deepseek", "vllm", "ollama", "anthropic"], [Some(9), Some(5), Some(2)]),
    ("chat/completions", &["gemini-cli"], GEMINI),
    ("responses", &["gemini-cli"], GEMINI),
    ("messages", &["gemini-cli"], GEMINI),
];

fn ask(api: &str, llm: &str) -> Value {
    match api {
        "embeddings" | "responses" => json!({"model": llm, "input": "hello"}),
        "completions" => json!({"model": llm, "prompt": "hello"}),
        _ => {
            json!({"model": llm, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})
        }
    }
}

/// The bodies to try: plain and, where there are streams, with and without a wish for usage.
fn bodies(api: &str, llm: &str) -> Vec<Value> {
    let plain = ask(api, llm);
    let with = |more: Value| {
        let mut body = plain.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let streamed = json!({"stream": true});
    match api {
        "embeddings" => vec![plain],
        "chat/completions" | "completions" => vec![
            plain.clone(),
            with(streamed),
            with(json!({"stream": true, "stream_options": {"include_usage": true}})),
            with(json!({"stream": true, "stream_options": {"include_usage": false}})),
        ],
        _ => vec![plain.clone(), with(streamed)],
    }
}

/// The audit event of the request with this id.
async fn event_of(admin: &Api, request: &str) -> Value {
    let find = async || {
        let page = admin.get("/api/v1/auditlogs?kind=llm_inference_call&limit=5").await.expect(200);
        page["items"].as_array().unwrap().iter().find(|event| event["requestId"] == request).cloned()
    };
    eventually(&format!("the event of request {request}"), find).await
}

#[tokio::test]
async fn every_route_and_provider_tells_its_tokens() {
    // The stand-in notes what it was given in the folder it is started from.
    let (folder, provider) = (TempDir::new().unwrap(), Provider::start().await);
    let program = folder.path().join("gemini");
    symlink(binary("stub-gemini"), &program).unwrap();
    let args = vec!["--gemini-program".to_owned(), program.to_string_lossy().into_owned()];
    let server = Server::start_with(ServerOptions { args, ..ServerOptions::default() }).await;
    let admin = server.login_admin().await;
    admin.create_llm_at("gemini-cli", "gemini-cli", "", json!({})).await;
    for ty in ["openai", "deepseek", "vllm", "ollama", "anthropic"] {
        admin.create_llm(ty, ty, &provider).await;
    }
    let mut calls = 0;
    for (api, llms, tokens) in ROUTES {
        for llm in llms {
            for body in bodies(api, llm) {
                for path in [format!("/v1/{api}"), format!("/api/v1/llms/{llm}/v1/{api}")] {
                    calls += 1;
                    let id = format!("tokens-{calls}");
                    let request = admin.request("POST", &path).header("x-request-id", &id);
                    let reply = admin.send(request.json(&body)).await;
                    assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
                    let event = event_of(&admin, &id).await;
                    let told =
                        ["promptTokens", "completionTokens", "cachedTokens"].map(|name| event[name].as_u64());
                    assert_eq!(told, tokens, "{path} {body}: {event}");
                    assert_eq!(event["streaming"], body["stream"] == true, "{event}");
                    if api.ends_with("completions") && body["stream"] == true {
                        let wanted = body["stream_options"]["include_usage"] == true;
                        let usage = format!("\"prompt_tokens\":{}", tokens[0].unwrap());
                        let shown = reply.text().contains(&usage);
                        assert_eq!(shown, wanted, "{path} {body}: {}", reply.text());
                    }
                }
            }
        }
    }
    assert_eq!(calls, 2 * (5 * 4 + 4 * 4 + 4 + 5 * 2 + 5 * 2) + 2 * (4 + 2 + 2));
}
