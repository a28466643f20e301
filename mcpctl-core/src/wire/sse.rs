//! Server-sent events, as the WHATWG HTML standard defines the stream, with one difference: a last event that
//! lacks its blank line is delivered, because providers do close that way.

use std::{borrow::Cow, collections::VecDeque, error::Error as StdError, fmt};

/// The frame that ends every stream in OpenAI's format.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event: what stood between two blank lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` field; empty when there was none.
    pub name: String,
    /// The `data:` lines, joined by `\n`. Bytes that are not UTF-8 have become U+FFFD, as the standard says.
    pub data: String,
}

/// An event is larger than the decoder's limit; the stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseError {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Turns bytes, split anywhere, into events.
///
/// The same bytes give the same events however they are split, in time linear in their number. Push what a read
/// brought, then take events until there are none; call [`finish`](Self::finish) when the stream has ended.
///
/// ```
/// use mcpctl_core::wire::SseDecoder;
///
/// let mut decoder = SseDecoder::new();
/// decoder.push(b"data: {\"a\":1}\r\n\r\ndata: [DO").unwrap();
/// assert_eq!(decoder.next_event().unwrap().data, "{\"a\":1}");
/// assert!(decoder.next_event().is_none());
/// decoder.push(b"NE]").unwrap();
/// decoder.finish().unwrap();
/// assert_eq!(decoder.next_event().unwrap().data, "[DONE]");
/// ```
#[derive(Debug)]
pub struct SseDecoder {
    limit: usize,
    /// The line that has begun and not ended.
    line: Vec<u8>,
    /// The `data:` lines of the event that has begun and not ended.
    data: Vec<u8>,
    name: String,
    has_data: bool,
    /// A CR ended the last line: an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet, so the line may begin with a byte order mark.
    at_start: bool,
    events: VecDeque<SseEvent>,
    failed: Option<SseError>,
}

impl SseDecoder {
    /// What one event may hold unless told otherwise: 16 MiB.
    pub const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

    /// A decoder with the default limit.
    pub fn new() -> Self {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// A decoder that refuses an event (or a line outside of one) of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            name: String::new(),
            has_data: false,
            after_cr: false,
            at_start: true,
            events: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes the bytes of one read.
    ///
    /// # Errors
    ///
    /// When an event is over the limit, now and on every later call. Events before it can still be taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        let mut rest = bytes;
        loop {
            self.check()?;
            if std::mem::take(&mut self.after_cr) {
                match rest.split_first() {
                    Some((b'\n', after)) => rest = after,
                    Some(_) => {}
                    None => {
                        self.after_cr = true;
                        return Ok(());
                    }
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                return self.check();
            };
            let (line, ended) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.after_cr = ended.first() == Some(&b'\r');
            rest = ended.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.end_line(line)?;
            } else {
                self.line.extend_from_slice(line);
                let whole = std::mem::take(&mut self.line);
                self.end_line(&whole)?;
                // Hand the allocation back: streams have many lines of one size.
                self.line = whole;
                self.line.clear();
            }
        }
    }

    /// The next event, or `None` until more bytes arrive.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        self.events.pop_front()
    }

    /// The stream has ended: an event without its blank line counts.
    ///
    /// # Errors
    ///
    /// When that event is over the limit, or an earlier one was.
    pub fn finish(&mut self) -> Result<(), SseError> {
        self.check()?;
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            self.end_line(&last)?;
        }
        self.end_event();
        Ok(())
    }

    fn check(&mut self) -> Result<(), SseError> {
        if self.failed.is_none() && self.line.len().saturating_add(self.data.len()) > self.limit {
            self.fail();
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn fail(&mut self) {
        self.failed = Some(SseError { limit: self.limit });
        (self.line, self.data) = (Vec::new(), Vec::new());
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), SseError> {
        if line.len().saturating_add(self.data.len()) > self.limit {
            self.fail();
            return self.check();
        }
        let line = match std::mem::take(&mut self.at_start) {
            true => line.strip_prefix(BOM).unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            self.end_event();
            return Ok(());
        }
        let (field, value) = split_field(line);
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // A comment, `id:`, `retry:` or an unknown field: of no use to a reader that does not reconnect.
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let data = String::from_utf8(data)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            self.events.push_back(SseEvent { name, data });
        }
    }
}

impl Default for SseDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of the stream is larger than {} bytes", self.limit)
    }
}

impl StdError for SseError {}

/// A line's field name and value: one space after the colon is not part of the value. A comment has no name.
pub(crate) fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr::memchr(b':', line) else { return (line, b"") };
    let (field, value) = line.split_at_checked(colon).unwrap_or((line, b""));
    let value = value.strip_prefix(b":").unwrap_or(value);
    (field, value.strip_prefix(b" ").unwrap_or(value))
}

/// Writes `data` as one event.
///
/// A line break inside `data` makes it several `data:` lines, so that no text can end the event early.
pub fn write_data(out: &mut Vec<u8>, data: &str) {
    for line in lines(data).split('\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Writes `data` as one event of the name `name`; line breaks in the name are left out.
pub fn write_event(out: &mut Vec<u8>, name: &str, data: &str) {
    out.extend_from_slice(b"event: ");
    out.extend(name.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
    out.push(b'\n');
    write_data(out, data);
}

/// The text with LF for every kind of line break.
fn lines(text: &str) -> Cow<'_, str> {
    match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
pub(crate) mod tests;
