//! A stream of message events → a stream of chunks.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    response::{arguments, call_id, call_name, completion_id, finish_reason, served_model},
    usage::Usage,
};
use crate::{
    adapter::{DecodeContext, Summary, chunk::ChunkWriter, failure},
    wire::SseDecoder,
};

/// How much thinking is remembered to be sent back as signed blocks; a longer one is streamed all the same.
const MAX_REMEMBERED: usize = 16 * 1024 * 1024;

/// A stream that is translated, event by event; all chunks of one read leave together.
#[derive(Debug)]
pub(in crate::adapter) struct AnthropicStream {
    context: DecodeContext,
    summary: Summary,
    decoder: SseDecoder,
    chunks: ChunkWriter,
    usage: Usage,
    open: BTreeMap<u64, Block>,
    /// Thinking that is over. It leaves as one list: of a field that they do not know, the official SDKs keep the
    /// last piece alone, or fail at the second one.
    thinking: Vec<Value>,
    tools: usize,
    remembered: usize,
    done: bool,
}

/// A block of content that has started and not stopped.
#[derive(Debug)]
enum Block {
    Tool { index: usize, has_arguments: bool, input: Option<Value> },
    Thinking { text: String, signature: String },
    Redacted(Value),
}

/// One event. What is seen once per stream is left as a `Value`.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    ty: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    content_block: Option<Value>,
    message: Option<Value>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(rename = "type", borrow)]
    ty: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    partial_json: Cow<'a, str>,
    #[serde(borrow)]
    thinking: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    stop_reason: Option<String>,
}

impl AnthropicStream {
    pub(in crate::adapter) fn new(context: DecodeContext) -> Self {
        Self {
            context,
            summary: Summary::default(),
            decoder: SseDecoder::new(),
            chunks: ChunkWriter::default(),
            usage: Usage::default(),
            open: BTreeMap::new(),
            thinking: Vec::new(),
            tools: 0,
            remembered: 0,
            done: false,
        }
    }

    pub(in crate::adapter) fn push(&mut self, input: &[u8], out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        let pushed = self.decoder.push(input);
        let mut chunks = Vec::new();
        self.read_events(&mut chunks);
        if let Err(error) = pushed {
            let message = self.context.message(format_args!("the provider's stream broke: {error}"));
            self.end_in_error(&message, "provider_error", &mut chunks);
        }
        send(chunks, out);
    }

    pub(in crate::adapter) fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        let mut chunks = Vec::new();
        // An event over the limit has been reported by `push`.
        let _ = self.decoder.finish();
        self.read_events(&mut chunks);
        let message = self.context.message("the provider closed the stream before the answer was complete");
        self.end_in_error(&message, "provider_error", &mut chunks);
        send(chunks, out);
    }

    pub(in crate::adapter) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        let mut chunks = Vec::new();
        self.end_in_error(message, error_type, &mut chunks);
        send(chunks, out);
    }

    pub(in crate::adapter) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::adapter) fn summary(&self) -> &Summary {
        &self.summary
    }

    fn read_events(&mut self, out: &mut Vec<u8>) {
        while let Some(event) = self.decoder.next_event() {
            if self.done {
                return;
            }
            // Some gateways in front of Anthropic end its streams as OpenAI does.
            if matches!(event.data.trim(), "" | "[DONE]") {
                continue;
            }
            match serde_json::from_str::<Event<'_>>(&event.data) {
                Ok(event) => self.on_event(event, out),
                Err(_) => {
                    let what = "the provider's stream broke: it sent something that is not a message event";
                    let message = self.context.message(what);
                    self.end_in_error(&message, "provider_error", out);
                }
            }
        }
    }

    fn on_event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event.ty.as_ref() {
            "message_start" => self.start(event.message.unwrap_or_default(), out),
            "content_block_start" => {
                self.open_block(event.index, event.content_block.unwrap_or_default(), out)
            }
            "content_block_delta" => self.on_delta(event.index, event.delta.unwrap_or_default(), out),
            "content_block_stop" => self.close_block(event.index, out),
            "message_delta" => {
                self.usage.merge(Usage::read(event.usage.as_ref()));
                self.usage.tell(&mut self.summary);
                let reason = event.delta.unwrap_or_default().stop_reason;
                self.on_stop_reason(reason.as_deref(), out);
            }
            "message_stop" => self.end(out),
            "error" => self.on_error(&event.error.unwrap_or_default(), out),
            // `ping`, and events that are yet to be invented.
            _ => {}
        }
    }

    fn start(&mut self, message: Value, out: &mut Vec<u8>) {
        if self.chunks.has_begun() {
            return;
        }
        self.usage.merge(Usage::read(message.get("usage")));
        self.usage.tell(&mut self.summary);
        let id = completion_id(message.get("id").and_then(Value::as_str));
        let model = served_model(&message, &self.context);
        self.chunks.begin(&id, self.context.created, model, out);
    }

    /// Where chunks are written; a stream that forgot its `message_start` gets one.
    fn begun(&mut self, out: &mut Vec<u8>) -> &ChunkWriter {
        if !self.chunks.has_begun() {
            self.start(Value::Null, out);
        }
        &self.chunks
    }

    fn open_block(&mut self, at: u64, block: Value, out: &mut Vec<u8>) {
        self.close_block(at, out);
        let part = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        match part("type") {
            "tool_use" => {
                let index = self.tools;
                self.tools += 1;
                let call = json!({"tool_calls": [{
                    "index": index,
                    "id": call_id(&block, index),
                    "type": "function",
                    "function": {"name": call_name(&block, &self.context), "arguments": ""},
                }]});
                self.begun(out).delta(&call.to_string(), out);
                // Empty when the arguments follow as deltas, which is always, except for imitations of the API.
                let full = |input: &Value| input.as_object().is_some_and(|input| !input.is_empty());
                let input = block.get("input").filter(|input| full(input)).cloned();
                self.open.insert(at, Block::Tool { index, has_arguments: false, input });
            }
            "thinking" => {
                self.open.insert(at, Block::Thinking { text: String::new(), signature: String::new() });
                let (thinking, signature) = (part("thinking"), part("signature"));
                let delta = |ty: &'static str| Delta { ty: ty.into(), ..Delta::default() };
                self.on_delta(at, Delta { thinking: thinking.into(), ..delta("thinking_delta") }, out);
                self.on_delta(at, Delta { signature: signature.into(), ..delta("signature_delta") }, out);
            }
            "redacted_thinking" => {
                self.remembered += part("data").len();
                if self.remembered <= MAX_REMEMBERED {
                    self.open.insert(at, Block::Redacted(block));
                }
            }
            "text" => self.begun(out).text("content", part("text"), out),
            // A tool that the provider runs itself, and its result: no call that the caller should answer.
            _ => {}
        }
    }

    fn on_delta(&mut self, at: u64, delta: Delta<'_>, out: &mut Vec<u8>) {
        match delta.ty.as_ref() {
            "text_delta" => self.begun(out).text("content", &delta.text, out),
            "thinking_delta" => {
                self.begun(out).text("reasoning_content", &delta.thinking, out);
                if let Some(Block::Thinking { text, .. }) = self.open.get_mut(&at) {
                    self.remembered += delta.thinking.len();
                    if self.remembered <= MAX_REMEMBERED {
                        text.push_str(&delta.thinking);
                    }
                }
            }
            "signature_delta" => {
                if let Some(Block::Thinking { signature, .. }) = self.open.get_mut(&at) {
                    self.remembered += delta.signature.len();
                    if self.remembered <= MAX_REMEMBERED {
                        signature.push_str(&delta.signature);
                    }
                }
            }
            "input_json_delta" if !delta.partial_json.is_empty() => {
                if let Some(Block::Tool { index, has_arguments, .. }) = self.open.get_mut(&at) {
                    *has_arguments = true;
                    let index = *index;
                    self.begun(out).arguments(index, &delta.partial_json, out);
                }
            }
            // Citations, and deltas that are yet to be invented.
            _ => {}
        }
    }

    fn close_block(&mut self, at: u64, out: &mut Vec<u8>) {
        match self.open.remove(&at) {
            Some(Block::Tool { index, has_arguments: false, input }) => {
                self.begun(out).arguments(index, &arguments(input.as_ref()), out);
            }
            Some(Block::Thinking { text, signature }) if self.remembered <= MAX_REMEMBERED => {
                self.thinking.push(json!({"type": "thinking", "thinking": text, "signature": signature}));
            }
            Some(Block::Redacted(block)) => self.thinking.push(block),
            _ => {}
        }
    }

    /// Ends all blocks that nobody ended, and sends what was thought.
    fn close_blocks(&mut self, out: &mut Vec<u8>) {
        while let Some(at) = self.open.keys().next().copied() {
            self.close_block(at, out);
        }
        if !self.thinking.is_empty() {
            let blocks = std::mem::take(&mut self.thinking);
            self.begun(out).delta(&json!({ "thinking_blocks": blocks }).to_string(), out);
        }
    }

    fn on_stop_reason(&mut self, reason: Option<&str>, out: &mut Vec<u8>) {
        let Some(reason) = reason.filter(|_| self.summary.finish_reason.is_none()) else { return };
        self.close_blocks(out);
        let reason = finish_reason(reason);
        self.begun(out).finish(reason, out);
        self.summary.finish_reason = Some(reason.to_owned());
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close_blocks(out);
        let usage = self.usage.to_openai().filter(|_| self.context.include_usage);
        self.begun(out).end(usage, out);
        self.done = true;
    }

    fn on_error(&mut self, error: &Value, out: &mut Vec<u8>) {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let error_type = text("type").unwrap_or("api_error");
        let message = match error_type {
            // What is said about our key may hold it.
            "authentication_error" | "permission_error" => {
                self.context.message("provider refused the server's credentials")
            }
            _ => failure::cut(text("message").unwrap_or("the provider reported an error"), 4096),
        };
        self.end_in_error(&message, error_type, out);
    }

    fn end_in_error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        self.summary.error = Some(message.to_owned());
        failure::error_frame(out, message, error_type, None);
        self.done = true;
    }
}

fn send(chunks: Vec<u8>, out: &mut Vec<Bytes>) {
    if !chunks.is_empty() {
        out.push(chunks.into());
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
