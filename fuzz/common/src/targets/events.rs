//! What the callers of each API must be able to rely on in a stream.

use mcpctl_core::wire::{DONE, SseDecoder};
use serde_json::Value;

/// The names and data of a stream's events.
pub(super) fn frames(bytes: &[u8]) -> Vec<(String, String)> {
    let mut decoder = SseDecoder::new();
    decoder.push(bytes).unwrap();
    decoder.finish().unwrap();
    std::iter::from_fn(|| decoder.next_event()).map(|event| (event.name, event.data)).collect()
}

/// Chunks of one chat completion, and one `[DONE]`. Says whether they end in an error.
pub(super) fn chunks(bytes: &[u8]) -> bool {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    assert!(bytes.ends_with(DONE), "{}", shown());
    let mut events = frames(bytes);
    assert_eq!(events.pop().map(|(_, data)| data).as_deref(), Some("[DONE]"), "{}", shown());
    let (mut head, mut error, mut finished, mut counted) = (None, false, 0, false);
    for (_, data) in &events {
        let chunk: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}"));
        assert!(!error && !counted || chunk.get("error").is_some(), "something follows the end: {}", shown());
        assert!(!error, "something follows an error: {}", shown());
        if chunk.get("error").is_some() {
            assert!(chunk["error"]["message"].is_string(), "{data}");
            error = true;
            continue;
        }
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let this = ["id", "created", "model"].map(|key| chunk[key].clone());
        assert_eq!(*head.get_or_insert_with(|| this.clone()), this, "{}", shown());
        let choices = chunk["choices"].as_array().unwrap();
        match choices.as_slice() {
            [] => counted = chunk["usage"].is_object(),
            [choice] => {
                assert!(choice["index"] == 0 && choice["delta"].is_object(), "{data}");
                finished += usize::from(choice["finish_reason"].is_string());
            }
            _ => panic!("several choices: {data}"),
        }
    }
    assert!(finished <= 1, "{}", shown());
    error
}

fn named(bytes: &[u8]) -> Vec<Value> {
    let read = |(name, data): (String, String)| {
        let data: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("no JSON: {data}"));
        assert_eq!(data["type"], name);
        data
    };
    frames(bytes).into_iter().map(read).collect()
}

/// The events of one message, whole or broken off. Says which.
pub(super) fn messages(bytes: &[u8]) -> bool {
    let events = named(bytes);
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let count = |ty: &str| events.iter().filter(|event| event["type"] == ty).count();
    let (mut open, mut next) = (None, 0_u64);
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, event["index"].as_u64()), (None, Some(next)), "{}", shown());
                (open, next) = (Some(next), next + 1);
            }
            "content_block_delta" => {
                assert!(open.is_some() && event["index"].as_u64() == open, "{}", shown())
            }
            "content_block_stop" => {
                assert!(open.is_some() && event["index"].as_u64() == open.take(), "{}", shown())
            }
            _ => {}
        }
    }
    assert_eq!(count("message_stop") + count("error"), 1, "{}", shown());
    assert!(count("message_start") <= 1, "{}", shown());
    let broken = events[events.len() - 1]["type"] == "error";
    if !broken {
        assert_eq!(events[events.len() - 1]["type"], "message_stop", "{}", shown());
        assert_eq!((count("message_start"), count("message_delta"), open), (1, 1, None), "{}", shown());
        assert_eq!(events[events.len() - 2]["type"], "message_delta", "{}", shown());
    }
    broken
}

/// The events of one response, whole or broken off. Says which.
pub(super) fn responses(bytes: &[u8]) -> bool {
    let events = named(bytes);
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"].as_u64(), Some(index as u64), "{}", shown());
    }
    let is_end = |event: &Value| {
        let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
        ends.iter().any(|end| event["type"] == *end)
    };
    assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1, "{}", shown());
    let last = events.last().unwrap();
    assert!(is_end(last), "{}", shown());
    let of = |ty: &str| events.iter().filter(|event| event["type"] == ty).count();
    let broken = last["type"] == "error";
    if !broken {
        assert_eq!(of("response.output_item.added"), of("response.output_item.done"), "{}", shown());
        let items = last["response"]["output"].as_array().map(Vec::len);
        assert_eq!(items, Some(of("response.output_item.done")), "{}", shown());
    }
    broken
}
