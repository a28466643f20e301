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
    /// `/v1/completions`.
    Completions,
    /// `/v1/responses`.
    Responses,
}

impl Api {
    /// A whole answer of `model`.
    pub fn plain(self, model: &str) -> Value {
        match self {
            Self::OpenAi => json!({
                "id": "chatcmpl-stub", "object": "chat.completion", "created": 1_700_000_000, "model": model,
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": text()}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
                          "prompt_tokens_details": {"cached_tokens": 2}},
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
            Self::Completions => json!({
                "id": "cmpl-stub", "object": "text_completion", "created": 1_700_000_000, "model": model,
                "choices": [{"index": 0, "text": text(), "logprobs": null, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
                          "prompt_tokens_details": {"cached_tokens": 2}},
            }),
            Self::Responses => json!({
                "id": "resp_stub", "object": "response", "created_at": 1_700_000_000, "model": model,
                "status": "completed", "error": null, "incomplete_details": null,
                "output": [{"type": "message", "id": "msg_stub", "status": "completed", "role": "assistant",
                            "content": [{"type": "output_text", "text": text(), "annotations": []}]}],
                "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
                "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 5,
                          "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14},
            }),
        }
    }

    /// The events of a whole streamed answer, each without its blank line.
    pub fn stream(self, model: &str, with_usage: bool) -> Stream {
        match self {
            Self::OpenAi => openai_stream(model, with_usage),
            Self::Anthropic => anthropic_stream(model),
            Self::Completions => completions_stream(model, with_usage),
            Self::Responses => responses_stream(model),
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
            Self::Completions => {
                let mut piece = self.plain(model);
                piece["choices"][0]["text"] = part.into();
                piece["choices"][0]["finish_reason"] = Value::Null;
                piece["usage"] = Value::Null;
                format!("data: {piece}")
            }
            Self::Responses => event(
                "response.output_text.delta",
                json!({"item_id": "msg_stub", "output_index": 0, "content_index": 0, "delta": part,
                       "logprobs": [], "sequence_number": 4}),
            ),
        }
    }

    /// An error's body.
    pub fn error(self, status: u16, message: &str) -> Value {
        match self {
            Self::OpenAi | Self::Completions | Self::Responses => {
                json!({"error": {"message": message, "type": "stub_error", "param": "model",
                                             "code": format!("stub_{status}")}})
            }
            Self::Anthropic => json!({"type": "error", "error": {"type": "stub_error", "message": message}}),
        }
    }

    /// An error in the middle of a stream.
    pub fn error_event(self, message: &str) -> String {
        match self {
            Self::OpenAi | Self::Completions => format!("data: {}", self.error(500, message)),
            Self::Responses => event(
                "error",
                json!({"code": "server_error", "message": message, "param": null, "sequence_number": 9}),
            ),
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

fn completions_stream(model: &str, with_usage: bool) -> Stream {
    let api = Api::Completions;
    let text = PARTS.iter().map(|part| api.delta(model, part)).collect();
    let mut last = api.plain(model);
    last["choices"][0]["text"] = "".into();
    let usage = last["usage"].take();
    let mut finish = vec![format!("data: {last}")];
    if with_usage {
        (last["choices"], last["usage"]) = (json!([]), usage);
        finish.push(format!("data: {last}"));
    }
    Stream { text, finish, end: "data: [DONE]".into() }
}

fn responses_stream(model: &str) -> Stream {
    let whole = Api::Responses.plain(model);
    let mut begun = whole.clone();
    (begun["status"], begun["output"], begun["usage"]) = ("in_progress".into(), json!([]), Value::Null);
    let mut item = whole["output"][0].clone();
    (item["content"], item["status"]) = (json!([]), "in_progress".into());
    let place = |mut data: Value| {
        data["item_id"] = "msg_stub".into();
        (data["output_index"], data["content_index"]) = (0.into(), 0.into());
        data
    };
    let part = json!({"type": "output_text", "text": "", "annotations": []});
    let mut text_events = vec![
        event("response.created", json!({"response": begun, "sequence_number": 0})),
        event("response.output_item.added", json!({"output_index": 0, "item": item, "sequence_number": 1})),
        event("response.content_part.added", place(json!({"part": part, "sequence_number": 2}))),
    ];
    text_events.extend(PARTS.iter().map(|part| Api::Responses.delta(model, part)));
    let full = whole["output"][0]["content"][0].clone();
    let finish = vec![
        event(
            "response.output_text.done",
            place(json!({"text": text(), "logprobs": [], "sequence_number": 5})),
        ),
        event("response.content_part.done", place(json!({"part": full, "sequence_number": 6}))),
        event(
            "response.output_item.done",
            json!({"output_index": 0, "item": whole["output"][0], "sequence_number": 7}),
        ),
    ];
    let end = event("response.completed", json!({"response": whole, "sequence_number": 8}));
    Stream { text: text_events, finish, end }
}

fn head(model: &str) -> Value {
    json!({"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model})
}

pub(super) fn chunk(model: &str, delta: &Value, finish_reason: Value) -> String {
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

pub(super) fn event(name: &str, mut data: Value) -> String {
    data["type"] = name.into();
    format!("event: {name}\ndata: {data}")
}
