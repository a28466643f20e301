//! What must hold for any input of callers who speak another API than chat completions.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    property_tests::{list, object, stream, text, words},
    *,
};
use crate::{
    resource::LlmType,
    wire::{ChatRequest, SseDecoder, request::tests::any_json},
};

fn codec(api: Api, ty: LlmType) -> Codec {
    Codec::new(api, ty).unwrap()
}

fn relay(codec: Codec, bytes: &[u8], size: usize) -> (Vec<u8>, Summary) {
    let mut decoder = codec.stream(DecodeContext::new("l", "m", 1).with_usage(true));
    let mut out = Vec::new();
    for read in bytes.chunks(size.max(1)) {
        decoder.push(Bytes::copy_from_slice(read), &mut out);
    }
    decoder.finish(&mut out);
    assert!(decoder.is_done());
    (out.concat(), decoder.summary().clone())
}

fn events(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = SseDecoder::new();
    decoder.push(bytes).unwrap();
    decoder.finish().unwrap();
    std::iter::from_fn(|| decoder.next_event())
        .map(|event| {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(data["type"], event.name);
            data
        })
        .collect()
}

/// Chunks with calls that come in any order and shape.
fn calls() -> BoxedStrategy<Vec<u8>> {
    let function = object(vec![
        ("name", words(&["f", "g"]).boxed()),
        ("arguments", words(&["", "{", "}", "{}", "{\"a\":1}", "\"a\":", " "]).boxed()),
    ]);
    let call = object(vec![
        ("index", (0_u64..3).prop_map(Value::from).boxed()),
        ("id", words(&["c1", "c2", "c3"]).boxed()),
        ("function", function),
    ]);
    let delta = object(vec![
        ("content", text()),
        ("reasoning_content", text()),
        ("refusal", words(&["no"]).boxed()),
        ("tool_calls", list(call, 3)),
    ]);
    let reason = prop_oneof![6 => Just(json!(null)), 1 => words(&["stop", "length", "tool_calls"])].boxed();
    let choice = object(vec![("delta", delta), ("finish_reason", reason)]);
    let usage = prop_oneof![4 => Just(json!(null)), 1 => Just(json!({"prompt_tokens": 3}))].boxed();
    let chunk = object(vec![("choices", list(choice, 2)), ("usage", usage)]);
    proptest::collection::vec(chunk, 0..9)
        .prop_map(|chunks| {
            let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
            [text.as_bytes(), b"data: [DONE]\n\n"].concat()
        })
        .boxed()
}

/// Asserts that these are the events of one message, whole or broken off.
fn assert_message(events: &[Value]) {
    let count = |ty: &str| events.iter().filter(|event| event["type"] == ty).count();
    let (mut open, mut next) = (None, 0);
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, &event["index"]), (None, &json!(next)), "{events:#?}");
                (open, next) = (Some(next), next + 1);
            }
            "content_block_delta" => assert_eq!(event["index"], json!(open.unwrap())),
            "content_block_stop" => assert_eq!(event["index"], json!(open.take().unwrap())),
            _ => {}
        }
    }
    let last = events.last().unwrap()["type"].as_str().unwrap();
    assert_eq!(count("message_stop") + count("error"), 1, "{events:#?}");
    assert!(count("message_start") <= 1);
    if last == "message_stop" {
        assert_eq!((count("message_start"), count("message_delta"), open), (1, 1, None), "{events:#?}");
        assert_eq!(events[events.len() - 2]["type"], "message_delta");
    } else {
        assert_eq!(last, "error");
    }
}

#[test]
fn nothing_follows_an_error() {
    let broken = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": null}]},
                                     "finish_reason": "stop"}]});
    let late = json!({"choices": [{"delta": {"content": "late"}}], "usage": {"prompt_tokens": 3}});
    let stream = format!("data: {broken}\n\ndata: {late}\n\ndata: [DONE]\n\n");
    let events = events(&relay(codec(Api::Messages, LlmType::OpenAi), stream.as_bytes(), 50).0);
    assert_message(&events);
    assert_eq!(events.last().unwrap()["type"], "error");
}

fn block() -> BoxedStrategy<Value> {
    let source = object(vec![
        ("type", words(&["base64", "url", "text", "content"]).boxed()),
        ("media_type", words(&["image/png", "application/pdf"]).boxed()),
        ("data", text()),
        ("url", text()),
        ("content", text()),
    ]);
    object(vec![
        (
            "type",
            words(&["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"])
                .boxed(),
        ),
        ("text", text()),
        ("source", source),
        ("id", text()),
        ("name", text()),
        ("input", Just(json!({"b": 1, "a": 2})).boxed()),
        ("tool_use_id", text()),
        ("content", text()),
        ("thinking", text()),
        ("cache_control", Just(json!({"type": "ephemeral"})).boxed()),
    ])
}

fn message_request() -> BoxedStrategy<Value> {
    let message = object(vec![
        ("role", words(&["user", "assistant", "system"]).boxed()),
        ("content", prop_oneof![text(), list(block(), 4)].boxed()),
    ]);
    let tool = object(vec![("name", text()), ("input_schema", Just(json!({"type": "object"})).boxed())]);
    let choice = object(vec![("type", words(&["auto", "any", "tool", "none"]).boxed()), ("name", text())]);
    object(vec![
        ("model", text()),
        ("max_tokens", (1_u64..9000).prop_map(Value::from).boxed()),
        ("messages", list(message, 5)),
        ("system", prop_oneof![text(), list(block(), 3)].boxed()),
        ("tools", list(tool, 3)),
        ("tool_choice", choice),
        ("thinking", any_json().boxed()),
        ("output_config", any_json().boxed()),
        ("stop_sequences", list(text(), 6)),
        ("metadata", any_json().boxed()),
    ])
}

/// A chat request that both formats can express, in the words that come back.
fn common_request() -> BoxedStrategy<Value> {
    let word = || proptest::sample::select(&["a", "b c", "é"]);
    let turn = (word(), proptest::option::of(word()), 0_usize..3, word());
    let turns = proptest::collection::vec(turn, 1..4);
    let options = (any::<bool>(), any::<bool>(), 0_usize..4, 1_u64..5000, any::<bool>());
    (turns, proptest::option::of(word()), options).prop_map(|(turns, system, options)| {
        let (has_stop, stream, choice, limit, sequential) = options;
        let mut messages: Vec<Value> =
            system.iter().map(|text| json!({"role": "system", "content": text})).collect();
        for (index, (asked, answered, calls, result)) in turns.iter().enumerate() {
            messages.push(json!({"role": "user", "content": asked}));
            let ids: Vec<String> = (0..*calls).map(|call| format!("c{index}_{call}")).collect();
            let call = |id: &String| {
                json!({"id": id, "type": "function",
                       "function": {"name": "f", "arguments": r#"{"b":[1.5],"a":"x"}"#}})
            };
            let mut said = json!({"role": "assistant", "content": answered});
            if !ids.is_empty() {
                said["tool_calls"] = ids.iter().map(call).collect();
            }
            if answered.is_some() || !ids.is_empty() {
                messages.push(said);
                messages.extend(
                    ids.iter().map(|id| json!({"role": "tool", "tool_call_id": id, "content": result})),
                );
            }
            if ids.is_empty() {
                // Without an answer the next turn would be merged into this one.
                messages.push(json!({"role": "assistant", "content": "so"}));
            }
        }
        // Text of neighbours is merged, which is the same thing said in other words.
        messages.dedup_by(|next, last| next["role"] == "assistant" && last["role"] == "assistant");
        messages.push(json!({"role": "user", "content": "end"}));
        let tool = json!({"type": "function", "function": {"name": "f", "description": "d",
                          "parameters": {"type": "object", "properties": {"b": {}, "a": {"type": "string"}}}}});
        let mut request = json!({"model": "m", "messages": messages, "tools": [tool],
                                 "max_completion_tokens": limit, "temperature": 0.5, "user": "u"});
        if has_stop {
            request["stop"] = json!(["END"]);
        }
        if stream {
            request["stream"] = true.into();
        }
        let function = json!({"type": "function", "function": {"name": "f"}});
        let choices = [json!("auto"), json!("none"), json!("required"), function];
        request["tool_choice"] = choices[choice].clone();
        if sequential && choice != 1 {
            request["parallel_tool_calls"] = false.into();
        }
        request
    })
    .boxed()
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(bytes in prop_oneof![stream(), calls()], size in 1_usize..60) {
        for codec in [codec(Api::Messages, LlmType::OpenAi), codec(Api::Messages, LlmType::Anthropic),
                      codec(Api::Responses, LlmType::OpenAi), codec(Api::Responses, LlmType::Vllm),
                      codec(Api::Responses, LlmType::Anthropic)] {
            let whole = relay(codec, &bytes, usize::MAX);
            prop_assert_eq!(&whole, &relay(codec, &bytes, size), "{}", String::from_utf8_lossy(&bytes));
            prop_assert_eq!(&whole, &relay(codec, &bytes, 1));
        }
    }

    #[test]
    fn events_are_one_message(bytes in prop_oneof![stream(), calls()]) {
        assert_message(&events(&relay(codec(Api::Messages, LlmType::OpenAi), &bytes, 50).0));
    }

    #[test]
    fn no_request_panics(body in prop_oneof![message_request(), any_json().boxed()]) {
        let body = Bytes::from(body.to_string());
        if let Ok(request) = ChatRequest::scan(&body) {
            for ty in [LlmType::OpenAi, LlmType::DeepSeek, LlmType::Vllm] {
                let settings = Settings { llm_name: "l", model: "m", ty: Some(ty), ..Settings::default() };
                if let Ok(sent) = codec(Api::Messages, ty).encode(&request, &settings) {
                    let sent: Value = serde_json::from_slice(&sent.body).unwrap();
                    prop_assert!(!sent["messages"].as_array().unwrap().is_empty());
                }
            }
        }
    }

    #[test]
    fn no_answer_panics(answer in any_json(), bytes in calls()) {
        let context = DecodeContext::new("l", "m", 1);
        for body in [answer.to_string().into(), Bytes::from(bytes)] {
            let _ = codec(Api::Messages, LlmType::OpenAi).decode(&body, &context);
            let _ = codec(Api::Messages, LlmType::Anthropic).decode(&body, &context);
            let _ = codec(Api::Responses, LlmType::OpenAi).decode(&body, &context);
            let _ = codec(Api::Responses, LlmType::Vllm).decode(&body, &context);
        }
    }

    #[test]
    fn there_and_back_loses_nothing(request in common_request()) {
        let settings = Settings { llm_name: "l", model: "m", ..Settings::default() };
        let scan = |body: &Value| ChatRequest::scan(&Bytes::from(body.to_string())).unwrap();
        let there = Adapter::Anthropic.encode(&scan(&request), &settings).unwrap();
        prop_assert!(there.dropped.is_empty());
        let message: Value = serde_json::from_slice(&there.body).unwrap();
        let back = codec(Api::Messages, LlmType::OpenAi).encode(&scan(&message), &settings).unwrap();
        prop_assert!(back.dropped.is_empty(), "{:?}", back.dropped);
        let back: Value = serde_json::from_slice(&back.body).unwrap();
        prop_assert_eq!(&back, &request);
        let again = Adapter::Anthropic.encode(&scan(&back), &settings).unwrap();
        prop_assert_eq!(again.body, there.body);
    }
}
