//! A stream of chat chunks → blocks that come one after the other.

use std::collections::VecDeque;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::completion::{Counts, Head, arguments, reasoning, settled};
use crate::{
    adapter::{DecodeContext, failure},
    wire::SseDecoder,
};

/// How much may be kept of calls that come mixed.
const MAX_KEPT: usize = 16 * 1024 * 1024;

/// A block that begins.
pub(in crate::adapter) enum Kind<'a> {
    Thinking,
    Text,
    Tool { id: &'a str, name: &'a str },
}

/// Writes an answer in the caller's format. Blocks are opened and closed in turn, and never two at once.
pub(in crate::adapter) trait Writer: std::fmt::Debug + Send + Sync {
    fn start(&mut self, head: &Head, out: &mut Vec<u8>);
    fn open(&mut self, kind: &Kind<'_>, out: &mut Vec<u8>);
    fn delta(&mut self, text: &str, out: &mut Vec<u8>);
    fn close(&mut self, out: &mut Vec<u8>);
    /// The answer is complete, for this reason, with these numbers.
    fn finish(&mut self, reason: Option<&str>, counts: &Counts, out: &mut Vec<u8>);
    /// Nothing more comes.
    fn end(&mut self, out: &mut Vec<u8>);
    /// The answer broke off, and nothing more comes.
    fn error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>);
}

/// Reads chunks and tells a writer.
#[derive(Debug)]
pub(super) struct Chunks {
    context: DecodeContext,
    writer: Box<dyn Writer>,
    decoder: SseDecoder,
    started: bool,
    open: Option<Open>,
    /// What came while a call was not whole: one block is open at a time, and none is opened twice.
    waiting: VecDeque<Item>,
    calls: Vec<Call>,
    refused: bool,
    kept: usize,
    reason: Option<String>,
    finished: bool,
    counts: Counts,
    done: bool,
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    Call(usize),
}

#[derive(Debug)]
enum Item {
    Said(Open, String),
    Call(usize),
}

/// A call of a tool.
#[derive(Debug)]
struct Call {
    /// The provider's number.
    number: u64,
    id: String,
    name: String,
    arguments: String,
    state: State,
    /// Whether the arguments are whole, once that was looked at.
    whole: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Open,
    Closed,
}

impl Call {
    fn is_whole(&mut self) -> bool {
        let arguments = &self.arguments;
        let is_whole = || {
            arguments.trim_ascii_end().ends_with('}') && serde_json::from_str::<IgnoredAny>(arguments).is_ok()
        };
        *self.whole.get_or_insert_with(is_whole)
    }

    fn is_proper(&self) -> bool {
        self.arguments.trim().is_empty()
            || serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok()
    }
}

impl Chunks {
    pub(super) fn new(context: DecodeContext, writer: Box<dyn Writer>) -> Self {
        Self {
            context,
            writer,
            decoder: SseDecoder::with_limit(usize::MAX),
            started: false,
            open: None,
            waiting: VecDeque::new(),
            calls: Vec::new(),
            refused: false,
            kept: 0,
            reason: None,
            finished: false,
            counts: Counts::default(),
            done: false,
            error: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes bytes of a chat stream that ends properly: in `[DONE]`, after an error if there was one.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        // There is no limit to go over: the stream before this one has its own.
        let _ = self.decoder.push(bytes);
        while let Some(event) = self.decoder.next_event() {
            if self.done {
                return;
            }
            if event.data.trim() == "[DONE]" {
                self.end(out);
            } else if let Ok(chunk) = serde_json::from_str::<Value>(&event.data) {
                self.on_chunk(&chunk, out);
            }
        }
    }

    fn on_chunk(&mut self, chunk: &Value, out: &mut Vec<u8>) {
        if let Some(message) = failure::message_in(chunk) {
            let ty = chunk.pointer("/error/type").and_then(Value::as_str).unwrap_or("api_error");
            self.fail(&message, ty, out);
            return;
        }
        if !self.started {
            self.started = true;
            self.writer.start(&Head::read(chunk, &self.context), out);
        }
        let usage = chunk.get("usage").filter(|usage| usage.is_object());
        if let Some(usage) = usage {
            self.counts.merge(usage);
            if self.reason.is_some() {
                self.finish(out);
            }
        }
        let over = self.finished || self.done;
        let Some(choice) = chunk.pointer("/choices/0").filter(|_| !over) else { return };
        if let Some(delta) = choice.get("delta") {
            self.on_delta(delta, out);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.reason.get_or_insert_with(|| reason.to_owned());
        }
    }

    fn on_delta(&mut self, delta: &Value, out: &mut Vec<u8>) {
        let text = |key: &str| delta.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(text) = reasoning(delta) {
            self.say(Open::Thinking, text, out);
        }
        if let Some(text) = text("content") {
            self.say(Open::Text, text, out);
        }
        if let Some(text) = text("refusal") {
            self.refused = true;
            self.say(Open::Text, text, out);
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.on_call(call, out);
        }
        if self.kept > MAX_KEPT {
            let message = self.context.message("the provider's tool calls are too large");
            self.fail(&message, "api_error", out);
        }
    }

    fn say(&mut self, what: Open, text: &str, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        if self.must_wait() {
            self.kept += text.len();
            match self.waiting.back_mut() {
                Some(Item::Said(last, said)) if *last == what => said.push_str(text),
                _ => self.waiting.push_back(Item::Said(what, text.to_owned())),
            }
            return;
        }
        if self.open != Some(what) {
            self.close(out);
            let kind = if what == Open::Thinking { Kind::Thinking } else { Kind::Text };
            self.writer.open(&kind, out);
            self.open = Some(what);
        }
        self.writer.delta(text, out);
    }

    /// Whether what comes now must wait for a call that is open and not whole.
    fn must_wait(&mut self) -> bool {
        !self.waiting.is_empty() || self.is_in_a_call()
    }

    fn is_in_a_call(&mut self) -> bool {
        let Some(Open::Call(at)) = self.open else { return false };
        self.calls.get_mut(at).is_some_and(|call| !call.is_whole())
    }

    fn on_call(&mut self, piece: &Value, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        let function = piece.get("function").unwrap_or(&Value::Null);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, name, more) = (text(piece.get("id")), text(function.get("name")), arguments(function));
        let number = piece.get("index").and_then(Value::as_u64);
        let number = number.or(self.calls.last().map(|call| call.number)).unwrap_or_default();
        // Some servers give all calls one number; then a new id makes a new call.
        let known = self.calls.iter().rposition(|call| call.number == number);
        let known = known.filter(|at| {
            let same = |call: &Call| id.is_empty() || name.is_empty() || call.id == id;
            self.calls.get(*at).is_some_and(same)
        });
        let at = known.unwrap_or_else(|| {
            let id = if id.is_empty() { format!("call_{}", self.calls.len()) } else { id };
            let (arguments, state) = (String::new(), State::Waiting);
            self.calls.push(Call { number, id, name: String::new(), arguments, state, whole: None });
            self.calls.len() - 1
        });
        self.kept += more.len();
        let Some(call) = self.calls.get_mut(at) else { return };
        if call.name.is_empty() {
            call.name = self.context.caller_names.get(&name).cloned().unwrap_or(name);
        }
        if !more.is_empty() {
            call.arguments.push_str(&more);
            call.whole = None;
        }
        match call.state {
            State::Open => {
                if !more.is_empty() {
                    self.writer.delta(&more, out);
                    if !self.waiting.is_empty() {
                        self.go_on(false, out);
                    }
                }
            }
            State::Closed if more.trim().is_empty() => {}
            State::Closed => self.broken(at, out),
            State::Waiting if known.is_none() => {
                self.waiting.push_back(Item::Call(at));
                self.go_on(false, out);
            }
            State::Waiting => self.go_on(false, out),
        }
    }

    /// Opens what waits, as far as it can be; with `all`, no more will come.
    fn go_on(&mut self, all: bool, out: &mut Vec<u8>) {
        while !self.done && (all || !self.is_in_a_call()) {
            match self.waiting.pop_front() {
                None => return,
                Some(Item::Said(what, text)) => {
                    let rest = std::mem::take(&mut self.waiting);
                    if all {
                        self.close(out);
                    }
                    self.say(what, &text, out);
                    self.waiting = rest;
                }
                Some(Item::Call(at)) => {
                    if self.calls.get(at).is_some_and(|call| call.name.is_empty()) {
                        if all {
                            self.broken(at, out);
                        } else {
                            self.waiting.push_front(Item::Call(at));
                        }
                        return;
                    }
                    self.open_call(at, out);
                }
            }
        }
    }

    fn open_call(&mut self, at: usize, out: &mut Vec<u8>) {
        self.close(out);
        let Some(call) = self.calls.get_mut(at) else { return };
        call.state = State::Open;
        self.open = Some(Open::Call(at));
        self.writer.open(&Kind::Tool { id: &call.id, name: &call.name }, out);
        if !call.arguments.is_empty() {
            self.writer.delta(&call.arguments, out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        if let Open::Call(at) = open
            && let Some(call) = self.calls.get_mut(at)
        {
            call.state = State::Closed;
        }
        self.writer.close(out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.finished || self.done {
            return;
        }
        self.go_on(true, out);
        // An answer that was cut short may end inside a call; any other must not.
        let cut = matches!(self.reason.as_deref(), Some("length" | "content_filter"));
        if let Some(at) = self.calls.iter().position(|call| !cut && !call.is_proper()) {
            self.broken(at, out);
        }
        if self.done {
            return;
        }
        self.close(out);
        let reason = self.reason.as_deref();
        // An explicit end without a reason is an end all the same.
        let reason = settled(reason.unwrap_or("stop"), !self.calls.is_empty(), self.refused);
        self.writer.finish(Some(reason), &self.counts, out);
        self.finished = true;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            let message = self.context.message("the provider's stream was empty");
            self.fail(&message, "api_error", out);
            return;
        }
        self.finish(out);
        if !self.done {
            self.writer.end(out);
            self.done = true;
        }
    }

    fn broken(&mut self, at: usize, out: &mut Vec<u8>) {
        let id = self.calls.get(at).map(|call| call.id.as_str()).unwrap_or_default();
        let message = self
            .context
            .message(format_args!("the provider's tool call `{id}` has no proper name or arguments"));
        self.fail(&message, "api_error", out);
    }

    pub(super) fn write_error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        self.writer.error(message, error_type, out);
    }

    pub(super) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        self.error = Some(message.to_owned());
        self.write_error(message, error_type, out);
        self.done = true;
        self.waiting = VecDeque::new();
    }
}
