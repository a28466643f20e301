//! The canned answers, always the same: what the stub says when nothing is wrong.

use serde_json::{Value, json};

/// The parts that a streamed answer comes in; joined, they are the plain answer.
pub const PARTS: [&str; 4] = ["Grüße", ", ", "🦀", " from the stub"];

/// The answer's text.
pub fn text() -> String {
    PARTS.concat()
}

/// Which API a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
}

impl Api {
    /// A whole answer of `model`.
    pub fn plain(self, model: &str) -> Value {
        match self {
            Self::OpenAi => json!({
                "id": "chatcmpl-stub", "object": "chat.completion", "created": 1_700_000_000, "model": model,
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": text()}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
                "x_stub": {"kept": [1, 2.50, "as it is"]},
            }),
            Self::Anthropic => json!({
                "id": "msg_stub", "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "text", "text": PARTS[..2].concat()},
                            {"type": "text", "text": PARTS[2..].concat()}],
                "stop_reason": "end_turn", "stop_sequence": null,
                "usage": {"input_tokens": 6, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 2,
                          "output_tokens": 5},
            }),
        }
    }

    /// The events of a whole streamed answer, each without its blank line.
    pub fn stream(self, model: &str, with_usage: bool) -> Stream {
        match self {
            Self::OpenAi => openai_stream(model, with_usage),
            Self::Anthropic => anthropic_stream(model),
        }
    }

    /// An event that goes on with the text.
    pub fn delta(self, model: &str, part: &str) -> String {
        match self {
            Self::OpenAi => chunk(model, &json!({"content": part}), Value::Null),
            Self::Anthropic => event(
                "content_block_delta",
                json!({"index": 0, "delta": {"type": "text_delta", "text": part}}),
            ),
        }
    }

    /// An error's body.
    pub fn error(self, status: u16, message: &str) -> Value {
        match self {
            Self::OpenAi => json!({"error": {"message": message, "type": "stub_error", "param": "model",
                                             "code": format!("stub_{status}")}}),
            Self::Anthropic => json!({"type": "error", "error": {"type": "stub_error", "message": message}}),
        }
    }

    /// An error in the middle of a stream.
    pub fn error_event(self, message: &str) -> String {
        match self {
            Self::OpenAi => format!("data: {}", self.error(500, message)),
            Self::Anthropic => {
                event("error", json!({"error": {"type": "overloaded_error", "message": message}}))
            }
        }
    }
}

/// A streamed answer, in the parts that faults cut it at.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Up to and including the last piece of text.
    pub text: Vec<String>,
    /// From there to the finish reason and the usage.
    pub finish: Vec<String>,
    /// The mark of the end.
    pub end: String,
}

impl Stream {
    /// All events.
    pub fn all(&self) -> Vec<String> {
        [self.text.clone(), self.finish.clone(), vec![self.end.clone()]].concat()
    }
}

fn openai_stream(model: &str, with_usage: bool) -> Stream {
    let mut text = vec![chunk(model, &json!({"role": "assistant", "content": ""}), Value::Null)];
    text.extend(PARTS.iter().map(|part| Api::OpenAi.delta(model, part)));
    let mut finish = vec![chunk(model, &json!({}), "stop".into())];
    if with_usage {
        let mut usage = head(model);
        usage["choices"] = json!([]);
        usage["usage"] = Api::OpenAi.plain(model)["usage"].take();
        finish.push(format!("data: {usage}"));
    }
    Stream { text, finish, end: "data: [DONE]".into() }
}

fn head(model: &str) -> Value {
    json!({"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model})
}

fn chunk(model: &str, delta: &Value, finish_reason: Value) -> String {
    let mut chunk = head(model);
    chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
    format!("data: {chunk}")
}

fn anthropic_stream(model: &str) -> Stream {
    let mut message = Api::Anthropic.plain(model);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = 1.into();
    let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
    let mut text = vec![
        event("message_start", json!({"message": message})),
        event("content_block_start", block),
        event("ping", json!({})),
    ];
    text.extend(PARTS.iter().map(|part| Api::Anthropic.delta(model, part)));
    let delta = json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null},
                       "usage": {"output_tokens": 5}});
    let finish = vec![event("content_block_stop", json!({"index": 0})), event("message_delta", delta)];
    Stream { text, finish, end: event("message_stop", json!({})) }
}

fn event(name: &str, mut data: Value) -> String {
    data["type"] = name.into();
    format!("event: {name}\ndata: {data}")
}
