//! Where events begin and end in raw bytes, and which of them are worth a closer look.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::wire::{SseDecoder, SseEvent, sse::split_field};

/// Where the last whole event of `bytes` ends; 0 when there is none.
///
/// A line that ends in CR at the very end is not over yet: an LF may follow and belong to it.
pub(super) fn last_end(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while let Some(at) = memchr::memrchr2(b'\n', b'\r', bytes.get(..end).unwrap_or_default()) {
        let head = bytes.get(..=at).unwrap_or_default();
        if is_whole(head, bytes.get(at + 1).copied()) {
            return at + 1;
        }
        end = at;
    }
    0
}

/// Where the first event of `bytes` ends; all of them when none does.
pub(super) fn first_end(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes.get(from..).unwrap_or_default()) {
        from += at + 1;
        if is_whole(bytes.get(..from).unwrap_or_default(), bytes.get(from).copied()) {
            return from;
        }
    }
    bytes.len()
}

/// Whether `head` ends with a blank line, given the byte that follows, if it is known.
pub(super) fn is_whole(head: &[u8], next: Option<u8>) -> bool {
    let before = match head {
        [before @ .., b'\r', b'\n'] | [before @ .., b'\n'] => before,
        [before @ .., b'\r'] if next.is_some_and(|next| next != b'\n') => before,
        _ => return false,
    };
    matches!(before.last(), None | Some(b'\n' | b'\r'))
}

/// Whether any event in `bytes` may be more than a piece of the answer: the end, usage, a finish reason, an error,
/// or no proper event at all. What this passes by goes to the caller unread.
pub(super) fn needs_a_look(bytes: &[u8]) -> bool {
    has_marker(bytes) || !looks_plain(bytes)
}

/// The one event of `frame`; `None` when it has no data.
pub(super) fn read(frame: &[u8]) -> Option<SseEvent> {
    let mut decoder = SseDecoder::with_limit(usize::MAX);
    decoder.push(frame).and_then(|()| decoder.finish()).ok()?;
    decoder.next_event()
}

/// Whether every line of `bytes` is a comment or a field.
pub(super) fn has_only_fields(bytes: &[u8]) -> bool {
    lines(bytes).all(is_field)
}

fn has_marker(bytes: &[u8]) -> bool {
    struct Markers {
        done: Finder<'static>,
        error: Finder<'static>,
        values: [Finder<'static>; 2],
    }
    static MARKERS: LazyLock<Markers> = LazyLock::new(|| Markers {
        done: Finder::new("[DONE]"),
        error: Finder::new("\"error\""),
        values: [Finder::new("\"finish_reason\""), Finder::new("\"usage\"")],
    });
    let has_value = |finder: &Finder<'_>| {
        let mut ends = finder.find_iter(bytes).map(|at| at + finder.needle().len());
        ends.any(|end| !is_null(bytes.get(end..).unwrap_or_default()))
    };
    MARKERS.done.find(bytes).is_some() || MARKERS.values.iter().any(has_value) || has_value(&MARKERS.error)
}

/// Whether what follows a key is `: null`.
fn is_null(rest: &[u8]) -> bool {
    let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    value.is_some_and(|value| value.starts_with(b"null"))
}

/// Whether every event is comments, or one `data:` line with something in braces.
fn looks_plain(bytes: &[u8]) -> bool {
    let mut has_data = false;
    for line in lines(bytes) {
        match split_field(line) {
            (b"", b"") => has_data = false,
            (b"", _) if line.starts_with(b":") => {}
            (b"data", value) => {
                let value = value.trim_ascii();
                if has_data || !value.starts_with(b"{") || !value.ends_with(b"}") {
                    return false;
                }
                has_data = true;
            }
            _ => return false,
        }
    }
    true
}

fn is_field(line: &[u8]) -> bool {
    let (name, _) = split_field(line);
    let known: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b""];
    known.contains(&name)
        || (name.len() < line.len()
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
}

/// The lines of `bytes` without their endings, be they LF, CR or CRLF.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, ended) = rest.split_at_checked(end)?;
        rest = match ended {
            [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
            [] => ended,
        };
        Some(line)
    })
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
