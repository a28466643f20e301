use bytes::Bytes;
use serde_json::Value;

use super::frames;
use crate::{
    adapter::{DecodeContext, Summary, failure},
    wire::{DONE, SseDecoder},
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A stream that passes through.
///
/// Whole events leave as they came. The beginning of an event at the end of a read waits for its rest: half an
/// event is of no use to the caller, and if the provider breaks off there it must not stand before the error.
#[derive(Debug)]
pub(in crate::adapter) struct OpenAiStream {
    context: DecodeContext,
    summary: Summary,
    /// The beginning of an event.
    begun: Vec<u8>,
    at_start: bool,
    done: bool,
}

/// What an event means for the stream.
enum Meaning {
    /// A piece of the answer, or a comment.
    Piece,
    /// Nothing that the caller should see.
    Unwanted,
    /// `[DONE]`.
    Done,
    /// The provider's own error.
    Error,
    /// The same in words that callers would take for a piece, or for nothing.
    Told,
    /// No event of a chat completion.
    Garbage,
}

impl OpenAiStream {
    pub(in crate::adapter) fn new(context: DecodeContext) -> Self {
        Self { context, summary: Summary::default(), begun: Vec::new(), at_start: true, done: false }
    }

    pub(in crate::adapter) fn push(&mut self, mut input: Bytes, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        if !self.begun.is_empty() {
            let Some(event) = self.complete(&mut input) else {
                self.check_size(out);
                return;
            };
            self.relay(event, out);
        }
        if self.done {
            return;
        }
        let end = frames::last_end(&input);
        let begun = input.split_off(end);
        self.relay(input, out);
        if !self.done {
            self.begun.extend_from_slice(&begun);
            self.check_size(out);
        }
    }

    pub(in crate::adapter) fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        let last = std::mem::take(&mut self.begun);
        let text = last.trim_ascii_end();
        let finished = self.summary.finish_reason.is_some();
        if !text.is_empty() {
            let mut event = text.to_vec();
            event.extend_from_slice(b"\n\n");
            // Half an event behind the finish reason takes nothing from the answer.
            if !finished || !matches!(self.meaning(&event), Meaning::Garbage) {
                self.relay(event.into(), out);
            }
        }
        if self.done {
            return;
        }
        if self.summary.finish_reason.is_some() {
            out.push(Bytes::from_static(DONE));
            self.done = true;
        } else {
            let message =
                self.context.message("the provider closed the stream before the answer was complete");
            self.fail(&message, "provider_error", out);
        }
    }

    pub(in crate::adapter) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        self.summary.error.get_or_insert_with(|| message.to_owned());
        let mut frame = Vec::new();
        failure::error_frame(&mut frame, message, error_type, None);
        out.push(frame.into());
        self.done = true;
        self.begun = Vec::new();
    }

    pub(in crate::adapter) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::adapter) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Moves the rest of the event that has begun out of `input`; `None` when it is not whole yet.
    fn complete(&mut self, input: &mut Bytes) -> Option<Bytes> {
        // A CR ended the last read, and only now is it known whether an LF belongs to it.
        if input.first().is_some_and(|next| frames::is_whole(&self.begun, Some(*next))) {
            return Some(std::mem::take(&mut self.begun).into());
        }
        while !input.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', input).map_or(input.len(), |at| at + 1);
            self.begun.extend_from_slice(&input.split_to(end));
            if frames::is_whole(&self.begun, input.first().copied()) {
                return Some(std::mem::take(&mut self.begun).into());
            }
        }
        None
    }

    fn check_size(&mut self, out: &mut Vec<Bytes>) {
        if self.begun.len() > SseDecoder::DEFAULT_LIMIT {
            let message = self.context.message("the provider sent an event that is too large");
            self.fail(&message, "provider_error", out);
        }
    }

    /// Sends whole events on.
    fn relay(&mut self, mut events: Bytes, out: &mut Vec<Bytes>) {
        if events.is_empty() {
            return;
        }
        if std::mem::take(&mut self.at_start) && events.starts_with(BOM) {
            events = events.slice(BOM.len()..);
        }
        if !frames::needs_a_look(&events) {
            out.extend(Some(events).filter(|events| !events.is_empty()));
            return;
        }
        // Everything up to `looked` may go, and goes at once.
        let mut looked = 0;
        while looked < events.len() {
            let rest = events.get(looked..).unwrap_or_default();
            let event = rest.get(..frames::first_end(rest)).unwrap_or_default();
            let (length, is_canonical) = (event.len(), event == DONE);
            match self.meaning(event) {
                Meaning::Piece => looked += length,
                Meaning::Unwanted => {
                    send(&mut events, looked, length, out);
                    looked = 0;
                }
                Meaning::Done if is_canonical => {
                    send(&mut events, looked + length, 0, out);
                    self.done = true;
                    return;
                }
                Meaning::Done => {
                    send(&mut events, looked, length, out);
                    out.push(Bytes::from_static(DONE));
                    self.done = true;
                    return;
                }
                Meaning::Error => {
                    send(&mut events, looked + length, 0, out);
                    out.push(Bytes::from_static(DONE));
                    self.done = true;
                    return;
                }
                Meaning::Told => {
                    let message = self.summary.error.take().unwrap_or_default();
                    send(&mut events, looked, length, out);
                    self.fail(&message, "provider_error", out);
                    return;
                }
                Meaning::Garbage => {
                    let message = self.garbage(event);
                    send(&mut events, looked, length, out);
                    self.fail(&message, "provider_error", out);
                    return;
                }
            }
        }
        send(&mut events, looked, 0, out);
    }

    /// What the event means; what it says about the answer is noted.
    fn meaning(&mut self, event: &[u8]) -> Meaning {
        if !frames::needs_a_look(event) {
            return Meaning::Piece;
        }
        if !frames::has_only_fields(event) {
            return Meaning::Garbage;
        }
        let Some(event) = frames::read(event) else { return Meaning::Piece };
        match event.data.trim() {
            "" => return Meaning::Unwanted,
            "[DONE]" => return Meaning::Done,
            _ => {}
        }
        let Ok(chunk @ Value::Object(_)) = serde_json::from_str::<Value>(&event.data) else {
            return Meaning::Garbage;
        };
        self.summary.error = None;
        self.summary.read_answer(&chunk);
        if event.name == "error" {
            self.summary.error.get_or_insert_with(|| failure::cut(&event.data, 200));
        }
        if self.summary.error.is_some() {
            // What callers look for, wherever the stream came from.
            let is_plain = chunk.get("error").is_some_and(|error| !error.is_null());
            return if is_plain { Meaning::Error } else { Meaning::Told };
        }
        let is_usage_only = chunk.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty)
            && chunk.get("usage").is_some_and(Value::is_object);
        if is_usage_only && self.context.strip_usage { Meaning::Unwanted } else { Meaning::Piece }
    }

    /// What to say about bytes that are no event; an error object without its `data:` is still worth showing.
    fn garbage(&self, event: &[u8]) -> String {
        let told = serde_json::from_slice::<Value>(event).ok().and_then(|told| failure::message_in(&told));
        let what = match told {
            Some(message) => message,
            None if failure::looks_like_html(event) => "the provider's stream turned into HTML".to_owned(),
            None => "the provider's stream broke: it sent something that is not a chunk".to_owned(),
        };
        self.context.message(what)
    }
}

/// Sends the first `length` bytes and drops the `unwanted` ones after them.
fn send(events: &mut Bytes, length: usize, unwanted: usize, out: &mut Vec<Bytes>) {
    let sent = events.split_to(length.min(events.len()));
    out.extend(Some(sent).filter(|sent| !sent.is_empty()));
    let _ = events.split_to(unwanted.min(events.len()));
}
