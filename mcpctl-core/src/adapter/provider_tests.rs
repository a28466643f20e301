use serde_json::json;

use super::*;
use crate::ErrorKind;

fn request(body: &Value) -> ChatRequest {
    ChatRequest::scan(&Bytes::from(body.to_string())).unwrap()
}

#[test]
fn every_type_has_its_adapter() {
    assert_eq!(Adapter::of(LlmType::Vllm), Adapter::OpenAi);
    assert_eq!(Adapter::of(LlmType::Anthropic), Adapter::Anthropic);
    assert_eq!(Adapter::of(LlmType::GeminiCli), Adapter::Gemini);
}

#[test]
fn a_base_url_keeps_its_own_path() {
    assert_eq!(Adapter::endpoint("http://h/proxy", "/v1/x"), "http://h/proxy/v1/x");
    assert_eq!(Adapter::endpoint("http://h/proxy/v1//", "/v1/x"), "http://h/proxy/v1/x");
    assert_eq!(Adapter::endpoint("http://h/v1", "/health"), "http://h/v1/health");
    assert_eq!(Adapter::endpoint("http://h/apiv1", "/v1/x"), "http://h/apiv1/v1/x");
}

#[test]
fn openai_requests_are_spliced() {
    let request = request(&json!({"model": "fast", "messages": [1], "stream": true, "unknown": [1]}));
    let settings = Settings { llm_name: "fast", model: "m-1", ask_usage: true, ..Settings::default() };
    let sent = Adapter::OpenAi.encode(&request, &settings).unwrap();
    assert_eq!(
        sent.body,
        r#"{"model":"m-1","messages":[1],"stream":true,"unknown":[1],"stream_options":{"include_usage":true}}"#
    );
    assert!(sent.context.strip_usage && !sent.context.include_usage);
}

#[test]
fn openai_answers_are_the_same_bytes() {
    let body = Bytes::from(
        r#" {"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":null}}"#,
    );
    let decoded = Adapter::OpenAi.decode(&body, &DecodeContext::new("fast", "m", 1)).unwrap();
    assert_eq!(decoded.body.as_ptr(), body.as_ptr());
    assert_eq!(decoded.summary.finish_reason.as_deref(), Some("length"));
    assert_eq!((decoded.summary.prompt_tokens, decoded.summary.completion_tokens), (Some(5), None));
}

#[test]
fn answers_that_are_no_json_name_the_llm() {
    let context = DecodeContext::new("fast", "m", 1);
    for (body, cause) in [
        ("<!doctype html>", "HTML"),
        ("", "an empty body"),
        ("[1]", "something that is not a JSON object"),
        ("{\"a\":", "something that is not a JSON object"),
    ] {
        for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
            let error = adapter.decode(&Bytes::from(body), &context).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert_eq!(error.message(), format!("llm `fast`: the provider answered with {cause}"));
        }
    }
}
