//! What must hold for any input: splits make no difference, nothing panics, streams end exactly once. `make fuzz` looks
//! for such inputs for longer, and among damaged cases of the corpus.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

use super::*;
use crate::wire::{ChatRequest, SseDecoder, request::tests::any_json, sse::tests::stream_bytes};

const DONE: &[u8] = b"data: [DONE]\n\n";

pub(super) fn words(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(words).prop_map(Value::from)
}

/// An object with some of these keys, each with a likely value or any.
pub(super) fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| {
            let value =
                prop_oneof![12 => value.prop_map(Some), 1 => any_json().prop_map(Some), 4 => Just(None)];
            value.prop_map(move |value| value.map(|value| (key.to_owned(), value)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

pub(super) fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..most).prop_map(Value::from).boxed()
}

pub(super) fn text() -> BoxedStrategy<Value> {
    prop_oneof![words(&["", " ", "a", "é\n", "t1", "a.b"]), ".{0,6}".prop_map(Value::from)].boxed()
}

fn part() -> BoxedStrategy<Value> {
    let urls =
        words(&["data:image/png;base64,AA==", "https://x/a.pdf", "data:", "data:a,b", "ftp:", ""]).boxed();
    object(vec![
        ("type", words(&["text", "image_url", "file", "refusal", "input_audio"]).boxed()),
        ("text", text()),
        ("image_url", object(vec![("url", urls.clone()), ("detail", text())])),
        ("file", object(vec![("file_data", urls), ("filename", text())])),
        ("cache_control", object(vec![("type", text())])),
    ])
}

fn message() -> BoxedStrategy<Value> {
    let arguments = words(&["", "{}", "{\"b\":1,\"a\":2}", "[", "null"]).boxed();
    let function = object(vec![("name", text()), ("arguments", arguments)]);
    let call = object(vec![("id", text()), ("type", words(&["function"]).boxed()), ("function", function)]);
    let thought = object(vec![
        ("type", words(&["thinking", "redacted_thinking"]).boxed()),
        ("thinking", text()),
        ("signature", text()),
        ("data", text()),
    ]);
    object(vec![
        ("role", words(&["system", "developer", "user", "assistant", "tool"]).boxed()),
        ("content", prop_oneof![text(), list(part(), 4)].boxed()),
        ("tool_calls", list(call, 3)),
        ("tool_call_id", text()),
        ("thinking_blocks", list(thought, 3)),
        ("cache_control", Just(json!({"type": "ephemeral"})).boxed()),
    ])
}

fn request() -> BoxedStrategy<Value> {
    let function =
        object(vec![("name", text()), ("parameters", any_json().boxed()), ("description", text())]);
    let tool = object(vec![("type", words(&["function", "custom"]).boxed()), ("function", function)]);
    let count = prop_oneof![Just(json!(null)), (0_i64..9000).prop_map(Value::from)].boxed();
    let flag = any::<bool>().prop_map(Value::from).boxed();
    object(vec![
        ("model", text()),
        ("messages", list(message(), 6)),
        ("stream", flag.clone()),
        ("tools", list(tool, 3)),
        ("tool_choice", words(&["auto", "none", "required"]).boxed()),
        ("parallel_tool_calls", flag),
        ("max_tokens", count.clone()),
        ("max_completion_tokens", count),
        ("temperature", (0.0..2.5_f64).prop_map(Value::from).boxed()),
        ("stop", prop_oneof![text(), list(text(), 3)].boxed()),
        ("reasoning_effort", words(&["none", "low", "high"]).boxed()),
        ("response_format", Just(json!({"type": "json_object"})).boxed()),
        ("seed", any_json().boxed()),
    ])
}

/// The event of a provider's stream.
fn event() -> BoxedStrategy<Vec<u8>> {
    let block = object(vec![
        ("type", words(&["text", "tool_use", "thinking", "redacted_thinking", "server_tool_use"]).boxed()),
        ("id", text()),
        ("name", text()),
        ("input", any_json().boxed()),
        ("data", text()),
    ]);
    const DELTAS: [&str; 4] = ["text_delta", "input_json_delta", "thinking_delta", "signature_delta"];
    let delta = (proptest::sample::select(&DELTAS), text()).prop_map(|(ty, text)| {
        json!({"type": ty, "text": text, "partial_json": text, "thinking": text, "signature": text})
    });
    let stop = words(&["end_turn", "tool_use"]).prop_map(|reason| json!({"stop_reason": reason}));
    let types = &[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ];
    let anthropic = object(vec![
        ("type", words(types).boxed()),
        ("index", (0_u64..3).prop_map(Value::from).boxed()),
        ("content_block", block),
        ("delta", prop_oneof![3 => delta, 1 => stop].boxed()),
        (
            "usage",
            object(vec![("input_tokens", Just(json!(3)).boxed()), ("output_tokens", Just(json!(4)).boxed())]),
        ),
    ]);
    let reason = prop_oneof![3 => Just(json!(null)), 1 => Just(json!("stop"))].boxed();
    let choice = object(vec![("delta", object(vec![("content", text())])), ("finish_reason", reason)]);
    let openai = object(vec![
        ("choices", list(choice, 3)),
        ("usage", prop_oneof![Just(json!(null)), Just(json!({"prompt_tokens": 3}))].boxed()),
    ]);
    let events = prop_oneof![
        6 => anthropic.prop_map(|event| format!("data: {event}").into_bytes()),
        6 => openai.prop_map(|event| format!("data: {event}").into_bytes()),
        1 => Just(b"data: [DONE]".to_vec()),
        1 => Just(b": ping".to_vec()),
        1 => Just(b"data: {\"error\":{\"message\":\"m\"}}".to_vec()),
        1 => stream_bytes(),
    ];
    (events, proptest::sample::select(&["\n\n", "\n\n", "\r\n\r\n", "\r\r", "\n", ""]))
        .prop_map(|(mut event, end)| {
            event.extend_from_slice(end.as_bytes());
            event
        })
        .boxed()
}

pub(super) fn stream() -> BoxedStrategy<Vec<u8>> {
    proptest::collection::vec(event(), 0..8).prop_map(|events| events.concat()).boxed()
}

/// The caller's bytes and the summary, for the provider's bytes split after every so many.
fn relay(adapter: Adapter, context: &DecodeContext, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Summary) {
    let mut decoder = adapter.stream(context.clone());
    let (mut out, mut rest) = (Vec::new(), bytes);
    for cut in cuts.iter().cycle() {
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        decoder.push(Bytes::copy_from_slice(head), &mut out);
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    decoder.finish(&mut out);
    assert!(decoder.is_done());
    (out.concat(), decoder.summary().clone())
}

fn context(strip_usage: bool, include_usage: bool) -> DecodeContext {
    DecodeContext { strip_usage, ..DecodeContext::new("l", "m", 1).with_usage(include_usage) }
}

/// Everything that takes a caller's bytes.
fn translate(body: &[u8], strict: bool) {
    let Ok(request) = ChatRequest::scan(&Bytes::copy_from_slice(body)) else { return };
    for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
        let settings = Settings { llm_name: "l", model: "m", strict, ask_usage: true, ..Settings::default() };
        let Ok(sent) = adapter.encode(&request, &settings) else { continue };
        // What passes through may hold numbers that a `Value` cannot.
        serde_json::from_slice::<&RawValue>(&sent.body).unwrap();
        assert!(
            sent.dropped.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','))
        );
        if adapter == Adapter::Anthropic {
            let sent_body: Value = serde_json::from_slice(&sent.body).unwrap();
            assert!(sent_body["max_tokens"].as_u64().unwrap() > 0);
            let turns = sent_body["messages"].as_array().unwrap();
            for (index, turn) in turns.iter().enumerate() {
                assert_eq!(turn["role"], if index % 2 == 0 { "user" } else { "assistant" });
                assert!(turn["content"] != json!([]) && turn["content"] != "");
            }
            assert!(sent_body.to_string().matches("\"cache_control\":").count() <= 4 || body.len() > 4000);
        }
    }
}

/// Everything that takes a provider's bytes.
fn read(bytes: &[u8]) {
    let context = context(false, true);
    for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
        let (out, _) = relay(adapter, &context, bytes, &[3, 1, 40]);
        assert!(out.ends_with(DONE));
        let _ = adapter.decode(&Bytes::copy_from_slice(bytes), &context);
        for status in [200, 302, 400, 401, 500, 529] {
            let error = adapter.decode_error(status, bytes, "l");
            serde_json::from_slice::<Value>(&error.body_json).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_stream(
        bytes in stream(),
        cuts in proptest::collection::vec(1_usize..40, 1..20),
        strip_usage in any::<bool>(),
        include_usage in any::<bool>(),
    ) {
        let context = context(strip_usage, include_usage);
        for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
            let whole = relay(adapter, &context, &bytes, &[usize::MAX]);
            prop_assert!(whole.0.ends_with(DONE));
            let shown = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&whole, &relay(adapter, &context, &bytes, &cuts), "{:?} {}", adapter, shown);
            prop_assert_eq!(&whole, &relay(adapter, &context, &bytes, &[1]), "{:?} {}", adapter, shown);
        }
    }

    #[test]
    fn a_stream_says_that_it_is_done_once(bytes in stream()) {
        for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
            let (out, _) = relay(adapter, &context(false, false), &bytes, &[7]);
            let mut decoder = SseDecoder::new();
            decoder.push(&out).unwrap();
            decoder.finish().unwrap();
            let ends = std::iter::from_fn(|| decoder.next_event()).filter(|event| event.data == "[DONE]");
            prop_assert_eq!(ends.count(), 1);
        }
    }

    #[test]
    fn no_request_panics(body in request(), strict in any::<bool>()) {
        translate(body.to_string().as_bytes(), strict);
    }

    #[test]
    fn no_answer_panics(bytes in stream(), answer in any_json()) {
        read(&bytes);
        read(answer.to_string().as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        translate(&bytes, false);
        read(&bytes);
    }
}
