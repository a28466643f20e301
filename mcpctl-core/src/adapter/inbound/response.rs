//! A chat answer → a response, whole or as events.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    chunks::{Kind, Writer},
    completion::{Block, Completion, Counts, Head},
};
use crate::{
    Result,
    adapter::{DecodeContext, events},
    wire::sse,
};

/// The chat completion `body` as a response.
pub(in crate::adapter) fn encode(body: &[u8], context: &DecodeContext) -> Result<Bytes> {
    let Completion { head, blocks, finish, counts } = Completion::read(body, context)?;
    let mut events = ResponseEvents::new(context);
    // The same items as a stream's, so that both ways say the same.
    let mut unsent = Vec::new();
    events.start(&head, &mut unsent);
    for block in &blocks {
        let (kind, text) = match block {
            Block::Thinking(text) => (Kind::Thinking, text),
            Block::Text(text) => (Kind::Text, text),
            Block::Tool { id, name, arguments } => (Kind::Tool { id, name }, arguments),
        };
        events.open(&kind, &mut unsent);
        events.delta(text, &mut unsent);
        events.close(&mut unsent);
        unsent.clear();
    }
    events.finish(finish.as_deref(), &counts, &mut unsent);
    Ok(events.response(events.status()).to_string().into())
}

/// Writes the events of a response.
#[derive(Debug)]
pub(in crate::adapter) struct ResponseEvents {
    echo: Map<String, Value>,
    created: i64,
    id: String,
    model: String,
    sequence: u64,
    items: Vec<Value>,
    open: Option<Item>,
    reason: Option<String>,
    counts: Counts,
}

/// An item of the output that is not whole yet.
#[derive(Debug)]
struct Item {
    id: String,
    what: What,
    text: String,
}

#[derive(Debug)]
enum What {
    Reasoning,
    Message,
    Call { id: String, name: String },
}

impl Item {
    fn shown(&self, status: &str) -> Value {
        let done = status == "completed";
        match &self.what {
            What::Reasoning => json!({
                "type": "reasoning", "id": self.id, "summary": [], "status": status,
                "content": if done { json!([self.part()]) } else { json!([]) },
            }),
            What::Message => json!({
                "type": "message", "id": self.id, "status": status, "role": "assistant",
                "content": if done { json!([self.part()]) } else { json!([]) },
            }),
            What::Call { id, name } => json!({
                "type": "function_call", "id": self.id, "call_id": id, "name": name,
                "arguments": if done { self.arguments() } else { "" }, "status": status,
            }),
        }
    }

    fn part(&self) -> Value {
        match self.what {
            What::Reasoning => json!({"type": "reasoning_text", "text": self.text}),
            _ => json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}),
        }
    }

    fn arguments(&self) -> &str {
        if self.text.trim().is_empty() { "{}" } else { &self.text }
    }
}

impl ResponseEvents {
    pub(in crate::adapter) fn new(context: &DecodeContext) -> Self {
        Self {
            echo: context.echo.clone(),
            created: context.created,
            id: String::new(),
            model: String::new(),
            sequence: 0,
            items: Vec::new(),
            open: None,
            reason: None,
            counts: Counts::default(),
        }
    }

    fn status(&self) -> &'static str {
        match self.reason.as_deref() {
            Some("length" | "content_filter") => "incomplete",
            _ => "completed",
        }
    }

    fn response(&self, status: &str) -> Value {
        let begun = status == "in_progress";
        let incomplete = match self.reason.as_deref() {
            Some("length") => json!({"reason": "max_output_tokens"}),
            Some("content_filter") => json!({"reason": "content_filter"}),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": incomplete,
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "model": self.model,
            "output": self.items,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": null,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "truncation": "disabled",
            "usage": if begun { Value::Null } else { self.usage() },
            "user": null,
        });
        if let Some(response) = response.as_object_mut() {
            for (key, value) in &self.echo {
                response.insert(key.clone(), value.clone());
            }
        }
        response
    }

    /// `null` when the provider counted nothing.
    fn usage(&self) -> Value {
        let Counts { prompt, cached, completion, reasoning } = self.counts;
        let Some((prompt, completion)) = prompt.zip(completion) else { return Value::Null };
        json!({
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached.unwrap_or_default()},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": reasoning.unwrap_or_default()},
            "total_tokens": prompt.saturating_add(completion),
        })
    }

    /// Sends an event about the open item.
    fn tell(&mut self, name: &str, with: Value, out: &mut Vec<u8>) {
        let mut data = json!({"output_index": self.items.len()});
        if let (Some(data), Value::Object(mut with)) = (data.as_object_mut(), with) {
            if let Some(item) = self.open.as_ref().filter(|_| !with.contains_key("item")) {
                data.insert("item_id".to_owned(), item.id.clone().into());
            }
            data.append(&mut with);
        }
        self.event(name, data, out);
    }

    fn event(&mut self, name: &str, data: Value, out: &mut Vec<u8>) {
        let mut whole = Map::from_iter([("type".to_owned(), Value::from(name))]);
        whole.insert("sequence_number".to_owned(), self.sequence.into());
        self.sequence += 1;
        if let Value::Object(mut data) = data {
            whole.append(&mut data);
        }
        sse::write_event(out, name, &Value::Object(whole).to_string());
    }
}

impl Writer for ResponseEvents {
    fn start(&mut self, head: &Head, out: &mut Vec<u8>) {
        (self.id, self.model) = (head.id.clone(), head.model.clone());
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress");
            self.event(name, json!({"response": response}), out);
        }
    }

    fn open(&mut self, kind: &Kind<'_>, out: &mut Vec<u8>) {
        let (prefix, what) = match kind {
            Kind::Thinking => ("rs", What::Reasoning),
            Kind::Text => ("msg", What::Message),
            Kind::Tool { id, name } => ("fc", What::Call { id: (*id).to_owned(), name: (*name).to_owned() }),
        };
        let id = format!("{prefix}_{}_{}", self.id, self.items.len());
        let item = Item { id, what, text: String::new() };
        let (shown, part) = (item.shown("in_progress"), item.part());
        let has_part = !matches!(item.what, What::Call { .. });
        self.open = Some(item);
        self.tell("response.output_item.added", json!({"item": shown}), out);
        if has_part {
            self.tell("response.content_part.added", json!({"content_index": 0, "part": part}), out);
        }
    }

    fn delta(&mut self, text: &str, out: &mut Vec<u8>) {
        let Some(item) = self.open.as_mut().filter(|_| !text.is_empty()) else { return };
        item.text.push_str(text);
        let (name, with) = match item.what {
            What::Reasoning => ("response.reasoning_text.delta", json!({"content_index": 0, "delta": text})),
            What::Message => {
                ("response.output_text.delta", json!({"content_index": 0, "delta": text, "logprobs": []}))
            }
            What::Call { .. } => ("response.function_call_arguments.delta", json!({"delta": text})),
        };
        self.tell(name, with, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(item) = &self.open else { return };
        let (whole, part, text) = (item.shown("completed"), item.part(), item.text.clone());
        let (name, with) = match &item.what {
            What::Reasoning => ("response.reasoning_text.done", json!({"content_index": 0, "text": text})),
            What::Message => {
                ("response.output_text.done", json!({"content_index": 0, "text": text, "logprobs": []}))
            }
            What::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"name": name, "arguments": item.arguments()}),
            ),
        };
        let has_part = !matches!(item.what, What::Call { .. });
        self.tell(name, with, out);
        if has_part {
            self.tell("response.content_part.done", json!({"content_index": 0, "part": part}), out);
        }
        self.tell("response.output_item.done", json!({"item": whole.clone()}), out);
        self.open = None;
        self.items.push(whole);
    }

    fn finish(&mut self, reason: Option<&str>, counts: &Counts, _: &mut Vec<u8>) {
        (self.reason, self.counts) = (reason.map(str::to_owned), *counts);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let status = self.status();
        let response = self.response(status);
        self.event(&format!("response.{status}"), json!({"response": response}), out);
    }

    fn error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        events::response_error(out, message, error_type, Some(self.sequence));
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
