//! A whole message → a chat completion.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::usage::Usage;
use crate::{
    Result,
    adapter::{DecodeContext, Decoded, Summary, failure},
};

pub(in crate::adapter) fn decode(body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
    let answer: Map<String, Value> = context.read_object(body)?;
    let answer = Value::Object(answer);
    if let Some(message) = answer.get("error").and_then(|_| failure::message_in(&answer)) {
        return Err(context.provider_error(message));
    }
    let Some(blocks) = answer.get("content").and_then(Value::as_array) else {
        return Err(context.provider_error("the provider answered with JSON that is not a message"));
    };
    let finish = answer.get("stop_reason").and_then(Value::as_str).map(finish_reason);
    let usage = Usage::read(answer.get("usage"));
    let mut completion = json!({
        "id": completion_id(answer.get("id").and_then(Value::as_str)),
        "object": "chat.completion",
        "created": context.created,
        "model": served_model(&answer, context),
        "choices": [{
            "index": 0,
            "message": message(blocks, context),
            "logprobs": null,
            "finish_reason": finish,
        }],
    });
    if let (Some(usage), Some(completion)) = (usage.to_openai(), completion.as_object_mut()) {
        completion.insert("usage".to_owned(), usage);
    }
    let mut summary = Summary { finish_reason: finish.map(str::to_owned), ..Summary::default() };
    usage.tell(&mut summary);
    Ok(Decoded { body: completion.to_string().into(), summary })
}

/// Why an answer ended, in OpenAI's words; a reason that is not known passes as it is.
pub(super) fn finish_reason(stop_reason: &str) -> &str {
    match stop_reason {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        other => other,
    }
}

pub(super) fn completion_id(id: Option<&str>) -> String {
    format!("chatcmpl-{}", id.unwrap_or("unknown"))
}

/// The model that answered, which may be more exact than the one asked for.
pub(super) fn served_model<'a>(message: &'a Value, context: &'a DecodeContext) -> &'a str {
    message.get("model").and_then(Value::as_str).unwrap_or(&context.model)
}

fn message(blocks: &[Value], context: &DecodeContext) -> Value {
    let (mut text, mut reasoning) = (None, None);
    let (mut thinking, mut calls) = (Vec::new(), Vec::new());
    for block in blocks {
        let part = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        match part("type") {
            "text" => text.get_or_insert_with(String::new).push_str(part("text")),
            "thinking" => {
                reasoning.get_or_insert_with(String::new).push_str(part("thinking"));
                thinking.push(block.clone());
            }
            "redacted_thinking" => thinking.push(block.clone()),
            "tool_use" => calls.push(call(block, calls.len(), context)),
            // A tool that the provider ran itself, and its result: no call that the caller should answer.
            _ => {}
        }
    }
    if calls.is_empty() {
        text.get_or_insert_default();
    }
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if let Some(message) = message.as_object_mut() {
        if let Some(reasoning) = reasoning {
            message.insert("reasoning_content".to_owned(), reasoning.into());
        }
        if !thinking.is_empty() {
            message.insert("thinking_blocks".to_owned(), thinking.into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.into());
        }
    }
    message
}

fn call(block: &Value, index: usize, context: &DecodeContext) -> Value {
    json!({
        "id": call_id(block, index),
        "type": "function",
        "function": {
            "name": call_name(block, context),
            "arguments": arguments(block.get("input")),
        },
    })
}

pub(super) fn call_id(block: &Value, index: usize) -> String {
    block.get("id").and_then(Value::as_str).map_or_else(|| format!("call_{index}"), str::to_owned)
}

/// The tool's name as the caller knows it.
pub(super) fn call_name<'a>(block: &'a Value, context: &'a DecodeContext) -> &'a str {
    let name = block.get("name").and_then(Value::as_str).unwrap_or_default();
    context.names.get(name).map_or(name, String::as_str)
}

/// A tool's input as the JSON text that OpenAI's format has in its place.
pub(super) fn arguments(input: Option<&Value>) -> String {
    input.filter(|input| !input.is_null()).map_or_else(|| "{}".to_owned(), Value::to_string)
}
