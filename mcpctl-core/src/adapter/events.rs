//! Streams of named events that pass through: Anthropic's messages and OpenAI's responses.
//!
//! As with chunks, whole events leave as they came, and the beginning of an event waits for its rest. Only events that
//! may tell of usage, the end or an error are read.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{
    DecodeContext, Summary,
    anthropic::{Usage, finish_reason},
    failure,
    openai::frames,
};
use crate::wire::{SseDecoder, sse};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Messages,
    Responses,
}

/// A stream of events that passes through.
#[derive(Debug)]
pub(super) struct EventStream {
    flavour: Flavour,
    context: DecodeContext,
    summary: Summary,
    usage: Usage,
    /// The beginning of an event.
    begun: Vec<u8>,
    at_start: bool,
    done: bool,
}

/// What an event means for the stream.
enum Meaning {
    Piece,
    /// The last one.
    Last,
    /// The provider's own error, which ends the stream.
    Error,
    /// The same, and not to be repeated: it may hold our key.
    Secret,
    /// A mark of another API's.
    Unwanted,
    Garbage,
}

impl EventStream {
    pub(super) fn new(flavour: Flavour, context: DecodeContext) -> Self {
        Self {
            flavour,
            context,
            summary: Summary::default(),
            usage: Usage::default(),
            begun: Vec::new(),
            at_start: true,
            done: false,
        }
    }

    pub(super) fn push(&mut self, mut input: Bytes, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        if memchr::memchr2(b'\n', b'\r', &input).is_none() && !self.begun.ends_with(b"\r") {
            // No event can end here: a long line is put together without being looked at again and again.
            self.begun.extend_from_slice(&input);
            return self.check_size(out);
        }
        if !self.begun.is_empty() {
            let mut whole = std::mem::take(&mut self.begun);
            whole.extend_from_slice(&input);
            input = whole.into();
        }
        let begun = input.split_off(frames::last_end(&input));
        self.relay(input, out);
        if self.done {
            return;
        }
        self.begun = begun.to_vec();
        self.check_size(out);
    }

    fn check_size(&mut self, out: &mut Vec<Bytes>) {
        if self.begun.len() > SseDecoder::DEFAULT_LIMIT {
            let message = self.context.message("the provider sent an event that is too large");
            self.fail(&message, "provider_error", out);
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        let mut last = std::mem::take(&mut self.begun);
        if !last.trim_ascii().is_empty() {
            last.truncate(last.trim_ascii_end().len());
            last.extend_from_slice(b"\n\n");
            // Half an event says nothing that may be shown.
            let data = frames::read(&last).map(|event| event.data);
            if data.is_some_and(|data| serde_json::from_str::<IgnoredAny>(&data).is_ok()) {
                self.relay(last.into(), out);
            }
        }
        let message = self.context.message("the provider closed the stream before the answer was complete");
        self.fail(&message, "provider_error", out);
    }

    pub(super) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        self.summary.error.get_or_insert_with(|| message.to_owned());
        let mut event = Vec::new();
        self.write_error(message, error_type, &mut event);
        out.push(event.into());
        self.done = true;
        self.begun = Vec::new();
    }

    pub(super) fn write_error(&self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        match self.flavour {
            Flavour::Messages => failure::anthropic_error_event(out, message, error_type),
            Flavour::Responses => response_error(out, message, error_type, None),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Sends whole events on, up to the last one of the answer.
    fn relay(&mut self, mut events: Bytes, out: &mut Vec<Bytes>) {
        if events.is_empty() {
            return;
        }
        if std::mem::take(&mut self.at_start) && events.starts_with(BOM) {
            let _ = events.split_to(BOM.len());
        }
        if !has_marker(&events) && frames::has_only_fields(&events) {
            out.extend(Some(events).filter(|events| !events.is_empty()));
            return;
        }
        let mut looked = 0;
        while looked < events.len() {
            let rest = events.get(looked..).unwrap_or_default();
            let event = rest.get(..frames::first_end(rest)).unwrap_or_default();
            let length = event.len();
            let meaning = self.meaning(event);
            match meaning {
                Meaning::Piece => looked += length,
                Meaning::Last | Meaning::Error => {
                    out.push(events.split_to(looked + length));
                    self.done = true;
                    return;
                }
                Meaning::Unwanted | Meaning::Secret | Meaning::Garbage => {
                    out.extend(Some(events.split_to(looked)).filter(|sent| !sent.is_empty()));
                    let _ = events.split_to(length.min(events.len()));
                    looked = 0;
                }
            }
            let failed = match meaning {
                Meaning::Secret => Some(self.context.message("provider refused the server's credentials")),
                Meaning::Garbage => Some(
                    self.context
                        .message("the provider's stream broke: it sent something that is not an event"),
                ),
                _ => None,
            };
            if let Some(message) = failed {
                self.summary.error = None;
                self.fail(&message, "api_error", out);
                return;
            }
        }
        out.extend(Some(events).filter(|events| !events.is_empty()));
    }

    /// What the event means; what it says about the answer is noted.
    fn meaning(&mut self, event: &[u8]) -> Meaning {
        if !frames::has_only_fields(event) {
            return Meaning::Garbage;
        }
        if !has_marker(event) {
            return Meaning::Piece;
        }
        let Some(event) = frames::read(event) else { return Meaning::Piece };
        if event.data.trim() == "[DONE]" {
            return Meaning::Unwanted;
        }
        let Ok(data @ Value::Object(_)) = serde_json::from_str::<Value>(&event.data) else {
            return Meaning::Garbage;
        };
        match self.flavour {
            Flavour::Messages => self.message_event(&data),
            Flavour::Responses => self.response_event(&data),
        }
    }

    fn message_event(&mut self, data: &Value) -> Meaning {
        match text(data, "/type") {
            "message_start" => self.count(data.pointer("/message/usage")),
            "message_delta" => {
                self.count(data.get("usage"));
                if let Some(reason) = data.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    self.summary.finish_reason = Some(finish_reason(reason).to_owned());
                }
            }
            "message_stop" => return Meaning::Last,
            "error" => {
                self.summary.error = failure::message_in(data);
                let is_ours =
                    matches!(text(data, "/error/type"), "authentication_error" | "permission_error");
                return if is_ours { Meaning::Secret } else { Meaning::Error };
            }
            _ => {}
        }
        Meaning::Piece
    }

    fn count(&mut self, usage: Option<&Value>) {
        self.usage.merge(Usage::read(usage));
        self.usage.tell(&mut self.summary);
    }

    fn response_event(&mut self, data: &Value) -> Meaning {
        match text(data, "/type") {
            "response.completed" | "response.incomplete" | "response.failed" => {
                read_response(data.get("response").unwrap_or(&Value::Null), &mut self.summary);
                Meaning::Last
            }
            "error" => {
                self.summary.error = failure::message_in(data);
                Meaning::Error
            }
            _ => Meaning::Piece,
        }
    }
}

/// Takes over what a response object says.
pub(super) fn read_response(response: &Value, summary: &mut Summary) {
    if let Some(usage) = response.get("usage") {
        summary.read_usage(usage);
    }
    summary.finish_reason = match text(response, "/status") {
        "completed" => Some("stop".to_owned()),
        "incomplete" => Some(match text(response, "/incomplete_details/reason") {
            "max_output_tokens" => "length".to_owned(),
            other => other.to_owned(),
        }),
        _ => None,
    };
    if response.get("error").is_some_and(|error| !error.is_null()) {
        summary.error = failure::message_in(response);
    }
}

/// Takes over what a whole message says.
pub(super) fn read_message(message: &Value, summary: &mut Summary) {
    Usage::read(message.get("usage")).tell(summary);
    let reason = message.get("stop_reason").and_then(Value::as_str);
    summary.finish_reason = reason.map(|reason| finish_reason(reason).to_owned());
    if message.get("error").is_some_and(|error| !error.is_null()) {
        summary.error = failure::message_in(message);
    }
}

/// One `error` event of the responses API, after which nothing comes.
pub(super) fn response_error(out: &mut Vec<u8>, message: &str, code: &str, sequence: Option<u64>) {
    let event = json!({
        "type": "error",
        "code": code,
        "message": message,
        "param": null,
        "sequence_number": sequence,
    });
    sse::write_event(out, "error", &event.to_string());
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether any event may be more than a piece of the answer.
fn has_marker(bytes: &[u8]) -> bool {
    static MARKERS: LazyLock<[Finder<'static>; 9]> = LazyLock::new(|| {
        [
            "\"message_start\"",
            "\"message_delta\"",
            "\"message_stop\"",
            "\"response.completed\"",
            "\"response.incomplete\"",
            "\"response.failed\"",
            "\"error\"",
            "event: error",
            "[DONE]",
        ]
        .map(Finder::new)
    });
    MARKERS.iter().any(|marker| marker.find(bytes).is_some())
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
