//! Reading a request's fields: every fault names its place, and what is not translated is reported.

use std::fmt::{self, Display};

use serde_json::{Map, Value};

use crate::{Error, Result, wire::ChatRequest};

/// Where a value stands in the request: `messages[2].tool_calls[0].function.arguments`.
#[derive(Clone, Copy)]
pub(in crate::adapter) enum Path<'a> {
    Top(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(in crate::adapter) fn key<'a>(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(in crate::adapter) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    /// The error for what is wrong here.
    pub(in crate::adapter) fn fault(&self, what: impl Display) -> Error {
        Error::invalid(format!("{self}: {what}"))
    }

    pub(in crate::adapter) fn text(&self, value: Value) -> Result<String> {
        match value {
            Value::String(text) => Ok(text),
            Value::Null => Err(self.fault("is required")),
            _ => Err(self.fault("must be a string")),
        }
    }

    pub(in crate::adapter) fn object(&self, value: Value) -> Result<Map<String, Value>> {
        match value {
            Value::Object(object) => Ok(object),
            Value::Null => Err(self.fault("is required")),
            _ => Err(self.fault("must be an object")),
        }
    }

    pub(in crate::adapter) fn list(&self, value: Value) -> Result<Vec<Value>> {
        match value {
            Value::Array(list) => Ok(list),
            _ => Err(self.fault("must be a list")),
        }
    }

    pub(in crate::adapter) fn flag(&self, value: &Value) -> Result<bool> {
        value.as_bool().ok_or_else(|| self.fault("must be true or false"))
    }

    /// A whole number above 0, be it written as `100` or `100.0`.
    pub(in crate::adapter) fn count(&self, value: &Value) -> Result<u64> {
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && (1.0..9e15).contains(number));
        whole.map(|number| number as u64).ok_or_else(|| self.fault("must be a positive whole number"))
    }

    pub(in crate::adapter) fn number(&self, value: &Value, least: f64, most: f64) -> Result<f64> {
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.fault(format_args!("must be a number from {least} to {most}")))
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// How a provider that cannot be told to answer in JSON is asked to.
pub(in crate::adapter) const JSON_INSTRUCTION: &str =
    "Answer with one valid JSON object and nothing else: no prose, no code fence.";

/// The fields of a request that say something, with `defaults` for those that it lacks.
pub(in crate::adapter) fn read(
    request: &ChatRequest,
    defaults: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>> {
    let mut body: Map<String, Value> = serde_json::from_slice(request.body())
        .map_err(|error| Error::invalid(format!("malformed JSON: {error}")))?;
    for (key, value) in defaults.into_iter().flatten() {
        if request.lacks(key) {
            body.insert(key.clone(), value.clone());
        }
    }
    // `null` is how SDKs write what was not given.
    body.retain(|_, value| !value.is_null());
    Ok(body)
}

/// Refuses a request of which something was dropped, if that is the Llm's wish.
pub(in crate::adapter) fn check_dropped(dropped: &[String], strict: bool) -> Result<()> {
    match strict && !dropped.is_empty() {
        true => Err(Error::invalid(format!("this provider cannot be told in full: {}", dropped.join(", ")))),
        false => Ok(()),
    }
}

/// Parts of a chat message as its content: one text alone is a string, and with `joins` so are several.
pub(in crate::adapter) fn content(parts: Vec<Value>, joins: bool) -> Option<Value> {
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    let all_text = texts.len() == parts.len();
    match parts.len() {
        0 => None,
        1 if all_text => Some(texts.concat().into()),
        _ if all_text && joins => Some(texts.join("\n\n").into()),
        _ => Some(parts.into()),
    }
}

/// Takes a field out of an object; `null` when it is absent.
pub(in crate::adapter) fn take(object: &mut Map<String, Value>, key: &str) -> Value {
    object.get_mut(key).map(Value::take).unwrap_or_default()
}

/// What could not be translated, each once.
#[derive(Default)]
pub(in crate::adapter) struct Report(Vec<String>);

impl Report {
    const MAX: usize = 32;

    /// Notes a parameter that was dropped or changed. The name may come from the caller and becomes part of a
    /// header, so it is reduced to harmless characters.
    pub(in crate::adapter) fn dropped(&mut self, parameter: impl Display) {
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
        let name = parameter.to_string();
        let mut name: String = name.chars().take(64).map(|c| if harmless(c) { c } else { '_' }).collect();
        if name.is_empty() {
            name.push('_');
        }
        if self.0.len() < Self::MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Notes the fields that nobody took out of an object, unless they say nothing.
    pub(in crate::adapter) fn left_over(&mut self, place: &str, object: &Map<String, Value>) {
        for (key, value) in object {
            let says_nothing = match value {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(object) => object.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Bool(_) | Value::Number(_) => false,
            };
            if !says_nothing {
                self.dropped(format_args!("{place}.{key}"));
            }
        }
    }

    pub(in crate::adapter) fn into_names(self) -> Vec<String> {
        self.0
    }
}
