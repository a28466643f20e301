//! A request's body, read just far enough to route it and to change a few fields without serialising it again.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::{Error, Result};

/// How deep arrays and objects may nest in a request: as deep as common JSON parsers go.
pub const MAX_DEPTH: usize = 128;

/// How many top-level fields a request may have; real ones have about ten.
pub const MAX_FIELDS: usize = 256;

/// Fields that `extraConfig.defaults` cannot set: they are the caller's, or decide how the answer is framed.
pub(crate) const NO_DEFAULT: [&str; 4] = ["model", "messages", "stream", "stream_options"];

/// Which field a body must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// None.
    Nothing,
    /// This one, with any value but `null`.
    Field(&'static str),
    /// This one, a list that is not empty.
    List(&'static str),
}

/// A valid request: a JSON object with no duplicate field and no deep nesting, whose `model`, `stream` and
/// `stream_options` have their types.
///
/// The body is kept as it came; nothing of it is copied but the model's name.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    body: Bytes,
    fields: Vec<FieldAt>,
    model: Option<String>,
    stream: bool,
    include_usage: bool,
}

/// What to change in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// The model to ask for.
    pub model: Option<&'a str>,
    /// Set `stream_options.include_usage`, if the request streams.
    pub include_usage: bool,
    /// Fields to add where the request lacks them. `model`, `messages`, `stream` and `stream_options` are passed
    /// over, and so is one spelling of the token limit when the request has the other.
    pub defaults: Option<&'a Map<String, Value>>,
}

/// Where a top-level field stands in the body.
#[derive(Clone, Debug)]
struct FieldAt {
    /// Between its quotes.
    key: Range<usize>,
    /// The key when it is written with escapes.
    decoded: Option<Box<str>>,
    value: Range<usize>,
}

impl ChatRequest {
    /// Reads a chat completion's body: `messages` must be a list with something in it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field, or the line and column of malformed JSON. The
    /// body's own text is not repeated.
    pub fn scan(body: &Bytes) -> Result<Self> {
        Self::scan_for(body, Required::List("messages"))
    }

    /// Reads the body of another endpoint, which requires another field.
    ///
    /// # Errors
    ///
    /// As [`scan`](Self::scan).
    pub fn scan_for(body: &Bytes, required: Required) -> Result<Self> {
        let text = text_of(body)?;
        let fields = fields_of(text)?;
        let mut request =
            Self { body: body.clone(), fields, model: None, stream: false, include_usage: false };
        request.check_duplicates()?;
        request.check_types()?;
        request.check_required(required)?;
        Ok(request)
    }

    /// The body, as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The model asked for, which may be the empty string; `None` when it is absent or `null`.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the answer is to be streamed.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Whether `stream_options.include_usage` is set: the caller wants a last chunk with the usage.
    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// Whether a top-level field is present, be it `null`.
    pub fn has(&self, key: &str) -> bool {
        self.field(key).is_some()
    }

    /// A top-level field's value as the JSON text that the body has.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.field(key).map(|field| self.slice(&field.value))
    }

    /// The same as bytes: reading them as text again would cost another look at every one.
    fn raw_bytes(&self, key: &str) -> Option<&[u8]> {
        self.field(key).and_then(|field| self.body.get(field.value.clone()))
    }

    /// The body with these changes, spliced in by offset; the same bytes, not a copy, when nothing changes.
    pub fn rewrite(&self, edits: &Edits<'_>) -> Bytes {
        let mut splices: Vec<(Range<usize>, String)> = Vec::new();
        let mut added: Vec<(&str, String)> = Vec::new();
        let mut set = |key: &'static str, json: String| match self.field(key) {
            Some(field) => splices.push((field.value.clone(), json)),
            None => added.push((key, json)),
        };
        if let Some(model) = edits.model.filter(|model| self.model() != Some(model)) {
            set("model", Value::from(model).to_string());
        }
        if edits.include_usage && self.stream && !self.include_usage {
            set("stream_options", self.options_with_usage());
        }
        for (key, value) in edits.defaults.into_iter().flatten() {
            if self.lacks(key) {
                added.push((key, value.to_string()));
            }
        }
        if splices.is_empty() && added.is_empty() {
            return self.body.clone();
        }
        splices.sort_by_key(|(range, _)| range.start);
        self.splice(&splices, &added)
    }

    /// Whether a default may be added for this field.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        let twin = match key {
            "max_tokens" => "max_completion_tokens",
            "max_completion_tokens" => "max_tokens",
            other => other,
        };
        !NO_DEFAULT.contains(&key) && !self.has(key) && !self.has(twin)
    }

    fn splice(&self, splices: &[(Range<usize>, String)], added: &[(&str, String)]) -> Bytes {
        let extra: usize = splices.iter().map(|(_, json)| json.len()).sum::<usize>()
            + added.iter().map(|(key, json)| key.len() + json.len() + 8).sum::<usize>();
        let mut out = Vec::with_capacity(self.body.len() + extra);
        let mut copied = 0;
        let mut copy_to = |out: &mut Vec<u8>, end: usize, resume: usize| {
            out.extend_from_slice(self.body.get(copied..end).unwrap_or_default());
            copied = resume;
        };
        for (range, json) in splices {
            copy_to(&mut out, range.start, range.end);
            out.extend_from_slice(json.as_bytes());
        }
        // New fields go behind the last one, or into the empty object.
        let brace = memchr::memchr(b'{', &self.body).map_or(0, |at| at + 1);
        let end = self.fields.last().map_or(brace, |last| last.value.end);
        if !added.is_empty() {
            copy_to(&mut out, end, end);
        }
        for (index, (key, json)) in added.iter().enumerate() {
            if index > 0 || !self.fields.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(Value::from(*key).to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(json.as_bytes());
        }
        copy_to(&mut out, self.body.len(), self.body.len());
        out.into()
    }

    /// `stream_options` with the usage asked for; what else is in it stays as it is written.
    fn options_with_usage(&self) -> String {
        const ASKED: &str = "\"include_usage\":true";
        let Some(json) = self.raw("stream_options").filter(|json| *json != "null") else {
            return format!("{{{ASKED}}}");
        };
        let fields = fields_of(json).unwrap_or_default();
        let is_it = |field: &FieldAt| match &field.decoded {
            Some(key) => &**key == "include_usage",
            None => json.get(field.key.clone()) == Some("include_usage"),
        };
        let (head, middle, tail) = match (fields.iter().find(|field| is_it(field)), fields.is_empty()) {
            (Some(field), _) => {
                (json.get(..field.value.start), "true".to_owned(), json.get(field.value.end..))
            }
            (None, true) => (Some("{"), ASKED.to_owned(), Some("}")),
            (None, false) => (Some("{"), format!("{ASKED},"), json.get(1..)),
        };
        [head.unwrap_or_default(), &middle, tail.unwrap_or_default()].concat()
    }

    fn field(&self, key: &str) -> Option<&FieldAt> {
        self.fields.iter().find(|field| self.key(field) == key.as_bytes())
    }

    fn key<'a>(&'a self, field: &'a FieldAt) -> &'a [u8] {
        match &field.decoded {
            Some(key) => key.as_bytes(),
            None => self.body.get(field.key.clone()).unwrap_or_default(),
        }
    }

    fn slice(&self, range: &Range<usize>) -> &str {
        self.body.get(range.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn check_duplicates(&self) -> Result<()> {
        for (index, field) in self.fields.iter().enumerate() {
            let key = self.key(field);
            if self.fields.iter().take(index).any(|earlier| self.key(earlier) == key) {
                let key = String::from_utf8_lossy(key);
                return Err(Error::invalid(format!("the field `{}` occurs twice", shown(&key))));
            }
        }
        Ok(())
    }

    fn check_types(&mut self) -> Result<()> {
        let typed = |key: &str| self.raw(key).filter(|json| *json != "null");
        let model = match typed("model") {
            None => None,
            Some(json) => Some(
                serde_json::from_str::<String>(json)
                    .map_err(|_| Error::invalid("model: must be a string or null"))?,
            ),
        };
        let stream = match typed("stream") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Error::invalid("stream: must be true, false or null")),
        };
        let include_usage = match typed("stream_options") {
            None => false,
            Some(json) => include_usage_of(json)?,
        };
        (self.model, self.stream, self.include_usage) = (model, stream, include_usage);
        Ok(())
    }

    fn check_required(&self, required: Required) -> Result<()> {
        let (key, fits) = match required {
            Required::Nothing => return Ok(()),
            Required::Field(key) => (key, self.raw_bytes(key).is_some_and(|json| json != b"null")),
            Required::List(key) => (key, self.raw_bytes(key).is_some_and(is_full_list)),
        };
        if fits { Ok(()) } else { Err(Error::invalid(format!("{key} is required"))) }
    }
}

/// `key` for a message: short, and without control characters.
pub(crate) fn shown(key: &str) -> String {
    let mut text: String = key.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    if key.chars().nth(64).is_some() {
        text.push('…');
    }
    text
}

fn is_full_list(json: &[u8]) -> bool {
    let inside = json.strip_prefix(b"[").and_then(|json| json.strip_suffix(b"]"));
    inside.is_some_and(|inside| !inside.trim_ascii().is_empty())
}

fn include_usage_of(json: &str) -> Result<bool> {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }
    if !json.starts_with('{') {
        return Err(Error::invalid("stream_options: must be an object or null"));
    }
    fields_of(json).map_err(|error| error.context("stream_options"))?;
    let options: Options = serde_json::from_str(json)
        .map_err(|_| Error::invalid("stream_options.include_usage: must be true or false, once"))?;
    Ok(options.include_usage.unwrap_or_default())
}

fn text_of(body: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Error::invalid(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
    let start = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if start.is_empty() {
        return Err(Error::invalid("the body is empty; a JSON object is required"));
    }
    if too_deep(text.as_bytes()) {
        return Err(Error::invalid(format!("the body nests deeper than {MAX_DEPTH} levels")));
    }
    if !start.starts_with('{') {
        return Err(Error::invalid("the body must be a JSON object"));
    }
    Ok(text)
}

/// Whether brackets nest deeper than [`MAX_DEPTH`], counted without recursion.
fn too_deep(mut rest: &[u8]) -> bool {
    // Most bodies have fewer brackets than levels are allowed, wherever they stand.
    if memchr::memchr2_iter(b'[', b'{', rest).take(MAX_DEPTH + 1).count() <= MAX_DEPTH {
        return false;
    }
    let mut depth = 0_usize;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = after_string(after),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// What follows the string whose opening quote was just read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escaped = rest.get(at) == Some(&b'\\');
        rest = rest.get(at + 1 + usize::from(escaped)..).unwrap_or_default();
        if !escaped {
            return rest;
        }
    }
    &[]
}

fn fields_of(text: &str) -> Result<Vec<FieldAt>> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let fields = parser.deserialize_map(Fields { text }).and_then(|fields| parser.end().map(|()| fields));
    let fields = fields.map_err(|error| Error::invalid(format!("malformed JSON: {error}")))?;
    if fields.len() > MAX_FIELDS {
        return Err(Error::invalid(format!("the body has more than {MAX_FIELDS} fields")));
    }
    Ok(fields)
}

/// Collects where the fields of the object in `text` stand.
struct Fields<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Where `part` stands, which is borrowed from the text.
    fn range(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }
}

impl<'a> Visitor<'a> for Fields<'a> {
    type Value = Vec<FieldAt>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(12);
        while let Some(Key(key)) = map.next_key()? {
            if fields.len() > MAX_FIELDS {
                // Too many already: validate the rest without remembering it.
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &RawValue = map.next_value()?;
            let value = self.range(value.get());
            fields.push(match key {
                Cow::Borrowed(key) => FieldAt { key: self.range(key), decoded: None, value },
                Cow::Owned(key) => FieldAt { key: 0..0, decoded: Some(key.into()), value },
            });
        }
        Ok(fields)
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(crate) mod tests;
