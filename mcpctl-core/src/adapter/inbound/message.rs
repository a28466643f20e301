//! A chat answer → a message, whole or as events.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    chunks::{Kind, Writer},
    completion::{Block, Completion, Counts, Head},
};
use crate::{
    Result,
    adapter::{DecodeContext, failure},
    wire::sse,
};

/// The chat completion `body` as a message.
pub(in crate::adapter) fn encode(body: &[u8], context: &DecodeContext) -> Result<Bytes> {
    let Completion { head, blocks, finish, counts } = Completion::read(body, context)?;
    let mut content = Vec::with_capacity(blocks.len());
    for block in blocks {
        content.push(match block {
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Tool { id, name, arguments } => {
                let input = input(&arguments).ok_or_else(|| {
                    context.provider_error(format_args!(
                        "the provider called a tool with arguments that are not a JSON object (call `{id}`)"
                    ))
                })?;
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        });
    }
    let mut message = started(&head);
    if let Some(message) = message.as_object_mut() {
        message.insert("content".to_owned(), content.into());
        message.insert("stop_reason".to_owned(), finish.as_deref().map(stop_reason).into());
        message.insert("usage".to_owned(), usage(&counts));
    }
    Ok(message.to_string().into())
}

/// Writes the events of a message.
#[derive(Debug, Default)]
pub(in crate::adapter) struct MessageEvents {
    /// How many blocks were opened.
    opened: usize,
    /// The type of the open block's deltas, and the key of their text.
    delta: (&'static str, &'static str),
}

impl MessageEvents {
    fn index(&self) -> usize {
        self.opened.saturating_sub(1)
    }
}

impl Writer for MessageEvents {
    fn start(&mut self, head: &Head, out: &mut Vec<u8>) {
        event(out, "message_start", json!({"message": started(head)}));
    }

    fn open(&mut self, kind: &Kind<'_>, out: &mut Vec<u8>) {
        let block = match kind {
            Kind::Thinking => {
                self.delta = ("thinking_delta", "thinking");
                json!({"type": "thinking", "thinking": "", "signature": ""})
            }
            Kind::Text => {
                self.delta = ("text_delta", "text");
                json!({"type": "text", "text": ""})
            }
            Kind::Tool { id, name } => {
                self.delta = ("input_json_delta", "partial_json");
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        };
        self.opened += 1;
        event(out, "content_block_start", json!({"index": self.index(), "content_block": block}));
    }

    fn delta(&mut self, text: &str, out: &mut Vec<u8>) {
        let (ty, key) = self.delta;
        let delta = Map::from_iter([("type".to_owned(), ty.into()), (key.to_owned(), text.into())]);
        event(out, "content_block_delta", json!({"index": self.index(), "delta": delta}));
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop", json!({"index": self.index()}));
    }

    fn finish(&mut self, reason: Option<&str>, counts: &Counts, out: &mut Vec<u8>) {
        let delta = json!({"stop_reason": reason.map(stop_reason), "stop_sequence": null});
        event(out, "message_delta", json!({"delta": delta, "usage": usage(counts)}));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        event(out, "message_stop", json!({}));
    }

    fn error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        failure::anthropic_error_event(out, message, error_type);
    }
}

/// A message that has begun. How many tokens it took is known at its end; clients demand numbers, and take the later
/// ones.
fn started(head: &Head) -> Value {
    json!({
        "id": format!("msg_{}", head.id.strip_prefix("msg_").unwrap_or(&head.id)),
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    })
}

/// Why an answer ended, in Anthropic's words; a reason that is not known passes as it is.
fn stop_reason(reason: &str) -> &str {
    match reason {
        "stop" => "end_turn",
        "length" => "max_tokens",
        "tool_calls" | "function_call" => "tool_use",
        "content_filter" => "refusal",
        other => other,
    }
}

/// Anthropic's `usage`: what was read from a cache is no part of `input_tokens`. Unknown numbers are null.
fn usage(counts: &Counts) -> Value {
    let cached = counts.cached.unwrap_or_default();
    json!({
        "input_tokens": counts.prompt.map(|prompt| prompt.saturating_sub(cached)),
        "cache_creation_input_tokens": null,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.completion,
    })
}

/// The object that a call's arguments stand for.
fn input(arguments: &str) -> Option<Value> {
    if arguments.trim().is_empty() {
        return Some(json!({}));
    }
    serde_json::from_str(arguments).ok().filter(Value::is_object)
}

fn event(out: &mut Vec<u8>, name: &str, data: Value) {
    let mut whole = Map::from_iter([("type".to_owned(), Value::from(name))]);
    if let Value::Object(mut data) = data {
        whole.append(&mut data);
    }
    sse::write_event(out, name, &Value::Object(whole).to_string());
}
