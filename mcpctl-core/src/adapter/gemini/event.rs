//! The lines that the program prints.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Result, adapter::DecodeContext, adapter::failure};

/// The longest line, in bytes. The program repeats its prompt in one.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// One line. Calls of tools and their results are the program's own business, and are read as nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) ty: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Cow<'a, str>,
    pub(super) session_id: Option<String>,
    pub(super) model: Option<String>,
    /// Of a result: `success` or `error`.
    #[serde(borrow)]
    pub(super) status: Cow<'a, str>,
    /// Of an error: `warning` or `error`.
    #[serde(borrow)]
    pub(super) severity: Cow<'a, str>,
    /// Of an error on its way to a result.
    #[serde(borrow)]
    pub(super) message: Cow<'a, str>,
    error: Option<Value>,
    pub(super) stats: Option<Stats>,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Stats {
    total_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached: Option<u64>,
}

/// What a line means for an answer.
pub(super) enum Said<'a> {
    /// Nothing.
    Nothing,
    /// The answer is about to begin.
    Begin { session: Option<String>, model: Option<String> },
    /// More of it.
    Text(Cow<'a, str>),
    /// Why it is about to fail.
    Complaint(Cow<'a, str>),
    /// It is whole.
    Done(Stats),
    /// It failed.
    Failed(Failure),
}

/// Why the program failed, in the terms of an HTTP provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) message: String,
}

impl<'a> Event<'a> {
    /// Reads a line; `None` when it looks like an event and is none. What does not even look like one is a notice.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Some(Self::default());
        }
        serde_json::from_slice(line).ok()
    }

    /// What it means.
    pub(super) fn said(self) -> Said<'a> {
        match self.ty.as_ref() {
            "init" => Said::Begin { session: self.session_id, model: self.model },
            "message" if self.role == "assistant" && !self.content.is_empty() => Said::Text(self.content),
            "error" if self.severity == "error" => Said::Complaint(self.message),
            "result" if self.status == "success" => Said::Done(self.stats.unwrap_or_default()),
            "result" => Said::Failed(Failure::read(&self.error.unwrap_or_default())),
            _ => Said::Nothing,
        }
    }
}

impl Failure {
    /// What the `error` of a result says: a class, and a text that may hold the answer of Google's API.
    fn read(error: &Value) -> Self {
        let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let (ty, told) = (part("type"), part("message"));
        let inner = told
            .trim()
            .strip_prefix("[API Error:")
            .map_or(told, |inner| inner.rsplit_once(']').map_or(inner, |(inner, _)| inner));
        let api: Option<Value> = serde_json::from_str(inner.trim()).ok();
        let api = api.as_ref().and_then(|answer| answer.get("error"));
        let message = api.and_then(|error| error.get("message")).and_then(Value::as_str);
        let message = failure::cut(message.unwrap_or(inner).trim(), 4096);
        let code = api.and_then(|error| error.get("code")).and_then(Value::as_u64);
        let status = status_of(ty, code, told);
        Self { status, message }
    }

    /// The failure as it may be shown: what is said about our key may hold it.
    pub(super) fn shown(&self, complaint: Option<&str>, context: &DecodeContext) -> String {
        match self.status {
            401 | 403 => context.message("provider refused the server's credentials"),
            _ if self.message.is_empty() => {
                context.message(complaint.unwrap_or("the gemini program reported an error"))
            }
            _ => context.message(&self.message),
        }
    }
}

fn status_of(ty: &str, code: Option<u64>, told: &str) -> u16 {
    let told = told.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    match code.and_then(|code| u16::try_from(code).ok()) {
        // Google answers a wrong key with 400.
        _ if ty == "FatalAuthenticationError"
            || says(&["api key not valid", "api_key_invalid", "api key expired"]) =>
        {
            401
        }
        Some(code @ (400 | 401 | 403 | 404 | 413 | 429 | 500 | 503 | 504)) => code,
        _ if ty == "FatalInputError" => 400,
        _ if says(&["quota", "resource_exhausted", "rate limit"]) => 429,
        _ if says(&["permission denied", "permission_denied", "unauthenticated"]) => 403,
        _ if says(&["is not found", "not_found"]) => 404,
        _ => 502,
    }
}

impl Stats {
    /// OpenAI's `usage` object; `None` when no number is known.
    pub(super) fn to_openai(self) -> Option<Value> {
        let mut usage = Map::new();
        let mut put = |key: &str, number: Option<u64>| {
            usage.extend(number.map(|number| (key.to_owned(), Value::from(number))));
        };
        put("prompt_tokens", self.input_tokens);
        put("completion_tokens", self.completion());
        put("total_tokens", self.total_tokens);
        if let Some(cached) = self.cached {
            let details = Map::from_iter([("cached_tokens".to_owned(), cached.into())]);
            usage.insert("prompt_tokens_details".to_owned(), details.into());
        }
        (!usage.is_empty()).then(|| usage.into())
    }

    /// Tokens of the answer. The program leaves thinking out of its own number.
    fn completion(self) -> Option<u64> {
        let with_thinking =
            self.total_tokens.zip(self.input_tokens).and_then(|(all, of)| all.checked_sub(of));
        self.output_tokens.max(with_thinking)
    }
}

/// Puts lines together from reads.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// How much of what is held was handed out.
    taken: usize,
    /// How much of what is held has no line end in it, for sure.
    searched: usize,
}

impl Lines {
    /// Takes the bytes of one read.
    ///
    /// # Errors
    ///
    /// When a line is too long.
    pub(super) fn push(&mut self, bytes: &[u8], context: &DecodeContext) -> Result<()> {
        self.held.drain(..self.taken);
        self.searched = self.searched.saturating_sub(self.taken);
        self.taken = 0;
        if self.held.len() + bytes.len() > MAX_LINE {
            self.held = Vec::new();
            return Err(context.provider_error("the gemini program printed a line that is too long"));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let start = self.searched.max(self.taken);
        match memchr::memchr(b'\n', self.held.get(start..)?) {
            None => {
                self.searched = self.held.len();
                None
            }
            Some(at) => {
                let (from, end) = (self.taken, start + at);
                (self.taken, self.searched) = (end + 1, end + 1);
                self.held.get(from..end)
            }
        }
    }

    /// What is held and was not handed out: a last line without its end.
    pub(super) fn rest(&self) -> &[u8] {
        self.held.get(self.taken..).unwrap_or_default()
    }
}
