//! Writes the chunks of a chat completion that a provider of another format answers.

use serde_json::{Value, json};

use crate::wire::DONE;

/// Writes chunks as text: what they have in common is made once, and a piece of the answer is not copied before it is
/// where it will be sent from.
#[derive(Debug, Default)]
pub(super) struct ChunkWriter {
    /// What every chunk begins with, up to its choices; empty until the answer has begun.
    head: Vec<u8>,
}

impl ChunkWriter {
    /// Whether the first chunk is out.
    pub(super) fn has_begun(&self) -> bool {
        !self.head.is_empty()
    }

    /// Begins the answer, if it has not begun: one chunk with the role.
    pub(super) fn begin(&mut self, id: &str, created: i64, model: &str, out: &mut Vec<u8>) {
        if self.has_begun() {
            return;
        }
        let head = json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": model});
        let head = head.to_string();
        self.head = [b"data: ", head.trim_end_matches('}').as_bytes(), b",\"choices\":["].concat();
        self.delta(r#"{"role":"assistant","content":""}"#, out);
    }

    /// A piece of the answer's text, or of what was thought, as `key` says.
    pub(super) fn text(&self, key: &'static str, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.open(out);
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            quote(text, out);
            out.push(b'}');
            close(None, out);
        }
    }

    /// A piece of the arguments of the tool call with this index.
    pub(super) fn arguments(&self, index: usize, part: &str, out: &mut Vec<u8>) {
        self.open(out);
        let begin = format!("{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":");
        out.extend_from_slice(begin.as_bytes());
        quote(part, out);
        out.extend_from_slice(b"}}]}");
        close(None, out);
    }

    /// Any other piece, as JSON.
    pub(super) fn delta(&self, delta: &str, out: &mut Vec<u8>) {
        self.open(out);
        out.extend_from_slice(delta.as_bytes());
        close(None, out);
    }

    /// Why the answer ended.
    pub(super) fn finish(&self, reason: &str, out: &mut Vec<u8>) {
        self.open(out);
        out.extend_from_slice(b"{}");
        close(Some(reason), out);
    }

    /// The end, behind the usage, if it is to be told.
    pub(super) fn end(&self, usage: Option<Value>, out: &mut Vec<u8>) {
        if let Some(usage) = usage {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(format!("],\"usage\":{usage}}}\n\n").as_bytes());
        }
        out.extend_from_slice(DONE);
    }

    fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":");
    }
}

fn close(finish_reason: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
    match finish_reason {
        Some(reason) => quote(reason, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}]}\n\n");
}

/// A text as a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    // Neither can a text fail to be written, nor a vector to be written to.
    let _ = serde_json::to_writer(out, text);
}
