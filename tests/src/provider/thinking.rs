//! Thinking in front of an answer, for requests that ask for it.

use serde_json::{Value, json};

use super::answer::{Api, Stream, chunk, event};

/// What the stub thinks.
pub const THOUGHT: &str = "Let me see: it is about weather.";

/// The signature of what it thinks.
pub const SIGNATURE: &str = "c3R1Yi1zaWduYXR1cmU/+w==";

/// Puts thinking first: two blocks of it in Anthropic's format, a text of its own in OpenAI's.
pub(super) fn add(api: Api, model: &str, asked: &Value, plain: &mut Value, stream: &mut Option<Stream>) {
    match api {
        Api::Anthropic if asked["thinking"]["type"] == "enabled" => {
            if let Some(content) = plain["content"].as_array_mut() {
                content.splice(0..0, blocks());
            }
            if let Some(stream) = stream {
                let events = stream.text.iter_mut().chain(&mut stream.finish);
                events.for_each(|event| *event = moved(event, blocks().len() as u64));
                stream.text.splice(1..1, streamed());
            }
        }
        Api::OpenAi if asked["reasoning_effort"].is_string() => {
            plain["choices"][0]["message"]["reasoning_content"] = THOUGHT.into();
            if let Some(stream) = stream {
                let delta = json!({"reasoning_content": THOUGHT});
                stream.text.insert(1, chunk(model, &delta, Value::Null));
            }
        }
        _ => {}
    }
}

fn blocks() -> [Value; 2] {
    [
        json!({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}),
        json!({"type": "redacted_thinking", "data": "c3R1Yi1oaWRkZW4="}),
    ]
}

fn streamed() -> Vec<String> {
    let [_, redacted] = blocks();
    let start = |index: u64, block: &Value| {
        event("content_block_start", json!({"index": index, "content_block": block}))
    };
    let delta = |delta: Value| event("content_block_delta", json!({"index": 0, "delta": delta}));
    let stop = |index: u64| event("content_block_stop", json!({"index": index}));
    let (begin, end) = THOUGHT.split_at(8);
    vec![
        start(0, &json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(json!({"type": "thinking_delta", "thinking": begin})),
        delta(json!({"type": "thinking_delta", "thinking": end})),
        delta(json!({"type": "signature_delta", "signature": SIGNATURE})),
        stop(0),
        start(1, &redacted),
        stop(1),
    ]
}

/// The event of a block that has `by` more blocks before it.
fn moved(text: &str, by: u64) -> String {
    let Some((head, data)) = text.split_once("data: ") else { return text.to_owned() };
    let mut data: Value = serde_json::from_str(data).unwrap();
    if let Some(index) = data["index"].as_u64() {
        data["index"] = (index + by).into();
    }
    format!("{head}data: {data}")
}
