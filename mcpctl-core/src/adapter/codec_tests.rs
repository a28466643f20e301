use super::*;
use crate::ErrorKind;

const TYPES: [LlmType; 6] = [
    LlmType::Anthropic,
    LlmType::OpenAi,
    LlmType::DeepSeek,
    LlmType::Vllm,
    LlmType::Ollama,
    LlmType::GeminiCli,
];

#[test]
fn every_api_has_a_way_or_a_clear_refusal() {
    for ty in TYPES {
        for api in Api::ALL {
            match Codec::new(api, ty) {
                Ok(codec) => assert!(codec.path().starts_with("/v1/"), "{api} {ty:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotImplemented);
                    assert!(error.message().contains(ty.as_str()), "{}", error.message());
                }
            }
        }
    }
    let refused = Codec::new(Api::Embeddings, LlmType::Anthropic).unwrap_err();
    assert_eq!(refused.message(), "/v1/embeddings is not supported by provider type anthropic");
}

#[test]
fn what_passes_through_keeps_every_byte_but_the_model() {
    for (api, ty) in [
        (Api::Messages, LlmType::Anthropic),
        (Api::CountTokens, LlmType::Anthropic),
        (Api::Responses, LlmType::OpenAi),
        (Api::Embeddings, LlmType::Vllm),
    ] {
        let text = r#" { "messages" : [ 1.50 ], "model":"a","input":"x", "stream":true, "x": 1e2 }"#;
        let body = Bytes::from_static(text.as_bytes());
        let request = ChatRequest::scan_for(&body, api.required()).unwrap();
        let defaults = serde_json::json!({"temperature": 1});
        let settings = Settings {
            llm_name: "l",
            model: "b",
            ask_usage: true,
            defaults: defaults.as_object(),
            ..Settings::default()
        };
        let sent = Codec::new(api, ty).unwrap().encode(&request, &settings).unwrap();
        assert_eq!(sent.body, text.replace("\"a\"", "\"b\""), "{api}");
    }
}

#[test]
fn errors_look_as_the_callers_api_has_them() {
    let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"r"}"#;
    let messages = Codec::new(Api::Messages, LlmType::Anthropic).unwrap();
    let error = messages.decode_error(529, body, "l");
    assert_eq!((error.status, &error.body_json[..]), (503, &body[..]), "the provider's own bytes");
    let error = messages.decode_error(401, body, "l");
    let shown: Value = serde_json::from_slice(&error.body_json).unwrap();
    assert_eq!((error.status, &shown["error"]["type"]), (502, &"api_error".into()));
    assert_eq!(shown["type"], "error");
    let chat = Codec::new(Api::ChatCompletions, LlmType::Anthropic).unwrap().decode_error(529, body, "l");
    let shown: Value = serde_json::from_slice(&chat.body_json).unwrap();
    assert_eq!(shown["error"]["code"], Value::Null);
}
