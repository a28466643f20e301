//! Reading a request's fields: every fault names its place, and what is not translated is reported.

use std::fmt::{self, Display};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Where a value stands in the request: `messages[2].tool_calls[0].function.arguments`.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Top(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(super) fn key<'a>(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(super) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    /// The error for what is wrong here.
    pub(super) fn fault(&self, what: impl Display) -> Error {
        Error::invalid(format!("{self}: {what}"))
    }

    pub(super) fn text(&self, value: Value) -> Result<String> {
        match value {
            Value::String(text) => Ok(text),
            Value::Null => Err(self.fault("is required")),
            _ => Err(self.fault("must be a string")),
        }
    }

    pub(super) fn object(&self, value: Value) -> Result<Map<String, Value>> {
        match value {
            Value::Object(object) => Ok(object),
            Value::Null => Err(self.fault("is required")),
            _ => Err(self.fault("must be an object")),
        }
    }

    pub(super) fn list(&self, value: Value) -> Result<Vec<Value>> {
        match value {
            Value::Array(list) => Ok(list),
            _ => Err(self.fault("must be a list")),
        }
    }

    pub(super) fn flag(&self, value: &Value) -> Result<bool> {
        value.as_bool().ok_or_else(|| self.fault("must be true or false"))
    }

    /// A whole number above 0, be it written as `100` or `100.0`.
    pub(super) fn count(&self, value: &Value) -> Result<u64> {
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && (1.0..9e15).contains(number));
        whole.map(|number| number as u64).ok_or_else(|| self.fault("must be a positive whole number"))
    }

    pub(super) fn number(&self, value: &Value, least: f64, most: f64) -> Result<f64> {
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

/// Takes a field out of an object; `null` when it is absent.
pub(super) fn take(object: &mut Map<String, Value>, key: &str) -> Value {
    object.get_mut(key).map(Value::take).unwrap_or_default()
}

/// What could not be translated, each once.
#[derive(Default)]
pub(super) struct Report(Vec<String>);

impl Report {
    const MAX: usize = 32;

    /// Notes a parameter that was dropped or changed. The name may come from the caller and becomes part of a
    /// header, so it is reduced to harmless characters.
    pub(super) fn dropped(&mut self, parameter: impl Display) {
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
        let name = parameter.to_string();
        let name: String = name.chars().take(64).map(|c| if harmless(c) { c } else { '_' }).collect();
        if self.0.len() < Self::MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Notes the fields that nobody took out of an object, unless they say nothing.
    pub(super) fn left_over(&mut self, place: &str, object: &Map<String, Value>) {
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

    pub(super) fn into_names(self) -> Vec<String> {
        self.0
    }
}
