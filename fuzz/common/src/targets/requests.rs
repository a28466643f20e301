//! Requests of each API, to each type of provider that needs them translated.

use bytes::Bytes;
use mcpctl_core::{
    ErrorKind,
    adapter::{Api, Codec, ProviderRequest, Settings},
    resource::LlmType,
    wire::ChatRequest,
};
use serde_json::{Value, json};

use crate::digest;

/// The provider's request for the caller's; `None` when it was refused in words.
fn encode(api: Api, ty: LlmType, input: &[u8]) -> Option<ProviderRequest> {
    let digest = digest(input);
    let defaults = json!({"temperature": 0.5, "stop": ["x"], "top_k": 3});
    let settings = Settings {
        llm_name: "l",
        model: "m",
        max_tokens: (digest.is_multiple_of(3)).then_some(77),
        strict: digest.is_multiple_of(5),
        defaults: defaults.as_object().filter(|_| digest.is_multiple_of(2)),
        ask_usage: digest.is_multiple_of(7),
        ty: Some(ty),
        ..Settings::default()
    };
    let codec = Codec::new(api, ty).unwrap();
    let request = ChatRequest::scan_for(&Bytes::copy_from_slice(input), api.required());
    match request.and_then(|request| codec.encode(&request, &settings)) {
        Ok(sent) => {
            assert!(!settings.strict || sent.dropped.is_empty());
            for name in &sent.dropped {
                let harmless = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
                assert!(harmless && !name.is_empty() && name.len() <= 64, "{name:?}");
            }
            Some(sent)
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge), "{error}");
            // Most messages quote a name at most; a name of a field may be long, and is not repeated at length.
            assert!(!error.message().is_empty() && error.message().len() < 4000, "{error}");
            None
        }
    }
}

pub(super) fn openai_to_anthropic(input: &[u8]) {
    if let Some(sent) = encode(Api::ChatCompletions, LlmType::Anthropic, input) {
        message_request(&sent.body, has_thinking(input));
    }
}

/// Whether the request has a parameter of this name, or may have one.
fn has_thinking(input: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(input).ok();
    body.is_none_or(|body| body.get("thinking").is_some())
}

pub(super) fn anthropic_to_openai(input: &[u8]) {
    for ty in [LlmType::OpenAi, LlmType::DeepSeek, LlmType::Vllm] {
        if let Some(sent) = encode(Api::Messages, ty, input) {
            chat_request(&sent.body);
        }
    }
    let _ = encode(Api::Messages, LlmType::GeminiCli, input);
}

pub(super) fn responses(input: &[u8]) {
    for ty in [LlmType::Vllm, LlmType::DeepSeek] {
        if let Some(sent) = encode(Api::Responses, ty, input) {
            chat_request(&sent.body);
        }
    }
    if let Some(sent) = encode(Api::Responses, LlmType::Anthropic, input) {
        message_request(&sent.body, false);
    }
}

pub(super) fn gemini(input: &[u8]) {
    if let Some(sent) = encode(Api::ChatCompletions, LlmType::GeminiCli, input) {
        assert!(!std::str::from_utf8(&sent.body).unwrap().trim().is_empty());
    }
}

/// What Anthropic would refuse, or misunderstand.
fn message_request(body: &[u8], is_native: bool) {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["model"], "m");
    assert!(body["max_tokens"].as_u64().unwrap() > 0, "{body}");
    let turns = body["messages"].as_array().unwrap();
    assert!(!turns.is_empty());
    let mut marks = 0;
    for (index, turn) in turns.iter().enumerate() {
        assert_eq!(turn["role"], if index % 2 == 0 { "user" } else { "assistant" }, "{body}");
        match &turn["content"] {
            Value::String(text) => assert!(!text.trim().is_empty(), "{body}"),
            Value::Array(blocks) => {
                assert!(!blocks.is_empty(), "{body}");
                marks += marked(blocks);
                blocks.iter().for_each(|block| message_block(block, turn["role"] == "user"));
                let is_result = |block: &Value| block["type"] == "tool_result";
                assert!(blocks.is_sorted_by_key(|block| !is_result(block)), "results are not first: {body}");
            }
            other => panic!("a turn's content is {other}"),
        }
    }
    marks += body["system"].as_array().map_or(0, |blocks| marked(blocks));
    marks += body["tools"].as_array().map_or(0, |tools| marked(tools));
    assert!(marks <= 4, "{marks} marks: {body}");
    for tool in body["tools"].as_array().into_iter().flatten() {
        name(&tool["name"]);
        assert!(tool["input_schema"].is_object(), "{body}");
    }
    assert!(body["tool_choice"].is_null() || body["tools"].is_array(), "{body}");
    // A wish for an effort is ours to fit in; Anthropic's own parameter is the caller's business.
    if let Some(budget) = body["thinking"]["budget_tokens"].as_u64().filter(|_| !is_native) {
        assert!(budget < body["max_tokens"].as_u64().unwrap(), "{body}");
    }
    for stop in body["stop_sequences"].as_array().into_iter().flatten() {
        assert!(!stop.as_str().unwrap().trim().is_empty(), "{body}");
    }
    assert!(
        body["temperature"].as_f64().is_none_or(|temperature| (0.0..=1.0).contains(&temperature)),
        "{body}"
    );
}

fn marked(blocks: &[Value]) -> usize {
    blocks.iter().filter(|block| block.get("cache_control").is_some()).count()
}

fn message_block(block: &Value, is_user: bool) {
    match block["type"].as_str().unwrap() {
        "text" => assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{block}"),
        "tool_use" => {
            assert!(!is_user && block["input"].is_object(), "{block}");
            name(&block["name"]);
            name(&block["id"]);
        }
        "tool_result" => {
            assert!(is_user, "{block}");
            name(&block["tool_use_id"]);
        }
        "image" | "document" => assert!(is_user && block["source"].is_object(), "{block}"),
        "thinking" | "redacted_thinking" => assert!(!is_user, "{block}"),
        other => panic!("a block of type {other}"),
    }
}

fn name(name: &Value) {
    let name = name.as_str().unwrap();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
}

/// What an OpenAI-format provider would refuse, or misunderstand.
fn chat_request(body: &[u8]) {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        // A tool's schema may be as deep as a request may be, and stands one level deeper than it did.
        Err(error) if error.to_string().contains("recursion limit") => return,
        Err(error) => panic!("no JSON: {error}"),
    };
    assert_eq!(body["model"], "m");
    let messages = body["messages"].as_array().unwrap();
    assert!(!messages.is_empty());
    for message in messages {
        let (role, content) = (message["role"].as_str().unwrap(), &message["content"]);
        assert!(matches!(role, "system" | "user" | "assistant" | "tool"), "{body}");
        let says = content.is_string() || content.as_array().is_some_and(|parts| !parts.is_empty());
        assert!(says || (role == "assistant" && !message["tool_calls"].is_null()), "{body}");
        assert!(role != "tool" || message["tool_call_id"].is_string(), "{body}");
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            assert!(call["id"].is_string() && call["function"]["name"].is_string(), "{body}");
            assert!(call["function"]["arguments"].is_string(), "{body}");
        }
    }
}
