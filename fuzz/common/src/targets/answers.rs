//! Whole answers and refusals of each provider, for callers of each API.

use bytes::Bytes;
use mcpctl_core::{
    ErrorKind,
    adapter::{Api, Codec, DecodeContext, Summary},
    resource::LlmType,
};
use serde_json::Value;

/// What a provider might say about our key, and must not reach anybody.
const SECRET: &str = "sk-not-to-be-seen";

/// The caller's answer for the provider's; `None` when it was not one.
fn decode(api: Api, ty: LlmType, input: &[u8]) -> Option<(Value, Summary)> {
    let codec = Codec::new(api, ty).unwrap();
    for status in [200, 302, 400, 401, 403, 404, 429, 500, 529] {
        let error = codec.decode_error(status, input, "l");
        assert!((400..600).contains(&error.status), "{status} became {}", error.status);
        let body: Value = serde_json::from_slice(&error.body_json).unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
        assert!(body["type"] == "error" || !api.is_anthropic(), "{body}");
        assert!(!matches!(status, 401 | 403) || error.message.contains("credentials"), "{body}");
        let told = error.redact(SECRET);
        assert!(!told.message.contains(SECRET) && !contains(&told.body_json, SECRET));
    }
    let decoded = codec.decode(&Bytes::copy_from_slice(input), &DecodeContext::new("l", "m", 1));
    match decoded {
        Ok(decoded) => {
            let body: Value = serde_json::from_slice(&decoded.body).unwrap();
            assert!(body.is_object());
            Some((body, decoded.summary))
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert!(error.message().contains('l') && error.message().len() < 5000, "{error}");
            None
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub(super) fn openai_to_anthropic(input: &[u8]) {
    if let Some((answer, summary)) = decode(Api::ChatCompletions, LlmType::Anthropic, input) {
        completion(&answer, &summary);
    }
}

pub(super) fn anthropic_to_openai(input: &[u8]) {
    if let Some((answer, summary)) = decode(Api::Messages, LlmType::OpenAi, input) {
        message(&answer, &summary);
    }
    // The same format in and out.
    let _ = Codec::new(Api::ChatCompletions, LlmType::OpenAi)
        .unwrap()
        .decode(&Bytes::copy_from_slice(input), &DecodeContext::new("l", "m", 1));
}

pub(super) fn responses(input: &[u8]) {
    for ty in [LlmType::Vllm, LlmType::Anthropic] {
        if let Some((answer, summary)) = decode(Api::Responses, ty, input) {
            response(&answer, &summary);
        }
    }
}

fn completion(answer: &Value, summary: &Summary) {
    assert_eq!((&answer["object"], &answer["created"]), (&"chat.completion".into(), &1.into()));
    assert!(
        answer["id"].as_str().unwrap().starts_with("chatcmpl-") && answer["model"].is_string(),
        "{answer}"
    );
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!((choices.len(), &choices[0]["index"]), (1, &0.into()));
    let message = &choices[0]["message"];
    assert_eq!(message["role"], "assistant");
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(message["content"].is_string() || !calls.is_empty(), "{answer}");
    for call in calls {
        assert!(call["id"].is_string() && call["type"] == "function", "{answer}");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{answer}");
    }
    assert_eq!(choices[0]["finish_reason"].as_str(), summary.finish_reason.as_deref());
    let usage = &answer["usage"];
    let count = |name: &str| usage[name].as_u64();
    assert_eq!(
        (count("prompt_tokens"), count("completion_tokens")),
        (summary.prompt_tokens, summary.completion_tokens)
    );
    let sum = summary.prompt_tokens.zip(summary.completion_tokens);
    assert_eq!(count("total_tokens"), sum.map(|(prompt, completion)| prompt.saturating_add(completion)));
    assert!(summary.cached_tokens <= summary.prompt_tokens || summary.prompt_tokens.is_none(), "{answer}");
}

fn message(answer: &Value, summary: &Summary) {
    assert_eq!((&answer["type"], &answer["role"]), (&"message".into(), &"assistant".into()));
    assert!(answer["id"].is_string() && answer["model"].is_string(), "{answer}");
    for block in answer["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "text" => assert!(block["text"].is_string(), "{answer}"),
            "thinking" => {
                assert!(block["thinking"].is_string() && block["signature"].is_string(), "{answer}")
            }
            "tool_use" => assert!(block["input"].is_object() && block["name"].is_string(), "{answer}"),
            other => panic!("a block of type {other}"),
        }
    }
    // What is unknown is not 0.
    let count = |name: &str| answer["usage"][name].as_u64();
    assert_eq!(count("output_tokens"), summary.completion_tokens, "{answer}");
    assert!(count("input_tokens") <= summary.prompt_tokens, "{answer}");
}

fn response(answer: &Value, _: &Summary) {
    assert_eq!(answer["object"], "response");
    assert!(matches!(answer["status"].as_str(), Some("completed" | "incomplete")), "{answer}");
    for item in answer["output"].as_array().unwrap() {
        assert!(item["id"].is_string() && item["status"] == "completed", "{answer}");
        if item["type"] == "function_call" {
            assert!(item["arguments"].is_string() && item["name"].is_string(), "{answer}");
        }
    }
}
