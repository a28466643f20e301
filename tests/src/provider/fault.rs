//! What a provider can do wrong.

use std::{fmt, str::FromStr};

/// What the stub does instead of answering well.
///
/// Chosen for a whole stub with [`Provider::misbehave`](super::Provider::misbehave), or for one request by a model
/// name that ends in `fault-<name>`: `fault-status-429`, `fault-reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads the request and never answers.
    Silent,
    /// An error in the API's own format, with a body and headers that reflect the caller's key.
    Status(u16),
    /// 429 that asks for a second of patience, to the first request with the same body; then good answers.
    Busy,
    /// 200 with a web page.
    Html,
    /// 200 with `application/json` that is none.
    NotJson,
    /// 200 without a body.
    Empty,
    /// 302 to the place given by [`Provider::redirect_to`](super::Provider::redirect_to).
    Redirect,
    /// The connection is reset in the middle of the body.
    Reset,
    /// The connection is closed in the middle of the body, where its framing says more must come.
    Truncated,
    /// A stream that ends well, but without `[DONE]` (for Anthropic: without `message_stop`).
    NoDone,
    /// A stream that ends, as far as its framing goes well, before any finish reason.
    NoFinish,
    /// Data after the end of the stream.
    AfterDone,
    /// A stream cut into writes in the middle of each character that has more than one byte.
    HalfCodePoints,
    /// An answer written one byte at a time.
    ByteByByte,
    /// A stream with a line of 10 MiB.
    LongLine,
    /// A stream whose lines end in CR LF.
    CrLf,
    /// A stream whose lines end in CR.
    Cr,
    /// A stream whose lines end now in LF, now in CR LF, now in CR, with comments between.
    MixedLines,
    /// A stream that never ends, an event every 20 ms.
    Endless,
    /// An answer that never ends, written as fast as it is taken.
    Flood,
    /// A stream whose second line never ends, written as fast as it is taken.
    EndlessLine,
    /// A stream whose second event never ends, line after line, written as fast as it is taken.
    NoBlankLine,
    /// Headers without end, written as fast as they are taken.
    EndlessHeaders,
    /// An answer compressed with gzip, which nobody asked for.
    Compressed,
    /// The same without end: each of its bytes would be a thousand.
    CompressedBomb,
    /// A stream that begins well and then stalls.
    Stall,
    /// An error event in the middle of a stream, then the end.
    ErrorFrame,
}

const NAMED: &[(&str, Fault)] = &[
    ("silent", Fault::Silent),
    ("busy", Fault::Busy),
    ("html", Fault::Html),
    ("not-json", Fault::NotJson),
    ("empty", Fault::Empty),
    ("redirect", Fault::Redirect),
    ("reset", Fault::Reset),
    ("truncated", Fault::Truncated),
    ("no-done", Fault::NoDone),
    ("no-finish", Fault::NoFinish),
    ("after-done", Fault::AfterDone),
    ("half-code-points", Fault::HalfCodePoints),
    ("byte-by-byte", Fault::ByteByByte),
    ("long-line", Fault::LongLine),
    ("crlf", Fault::CrLf),
    ("cr", Fault::Cr),
    ("mixed-lines", Fault::MixedLines),
    ("endless", Fault::Endless),
    ("flood", Fault::Flood),
    ("endless-line", Fault::EndlessLine),
    ("no-blank-line", Fault::NoBlankLine),
    ("endless-headers", Fault::EndlessHeaders),
    ("compressed", Fault::Compressed),
    ("compressed-bomb", Fault::CompressedBomb),
    ("stall", Fault::Stall),
    ("error-frame", Fault::ErrorFrame),
];

impl Fault {
    /// Every fault, with the most usual of the refusals.
    pub fn all() -> impl Iterator<Item = Self> {
        [429, 500].map(Self::Status).into_iter().chain(NAMED.iter().map(|(_, fault)| *fault))
    }

    /// The fault that a model's name asks for.
    pub fn of_model(model: &str) -> Option<Self> {
        let (_, name) = model.rsplit_once("fault-")?;
        Some(name.parse().unwrap_or_else(|()| panic!("no such fault: {name}")))
    }
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(status) = text.strip_prefix("status-") {
            return status.parse().map(Self::Status).map_err(drop);
        }
        NAMED.iter().find(|(name, _)| *name == text).map(|(_, fault)| *fault).ok_or(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Status(status) = self {
            return write!(f, "status-{status}");
        }
        let name = NAMED.iter().find(|(_, fault)| fault == self).map(|(name, _)| name);
        f.write_str(name.expect("every fault but Status is in the table"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (name, fault) in NAMED {
            assert_eq!(name.parse(), Ok(*fault));
            assert_eq!(fault.to_string(), *name);
        }
        assert_eq!(Fault::of_model("gpt-fault-status-429"), Some(Fault::Status(429)));
        assert_eq!(Fault::of_model("gpt-4o"), None);
    }
}
