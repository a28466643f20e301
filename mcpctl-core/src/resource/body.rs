//! Reading a request's body: strict JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Spec, field::clip};
use crate::error::{Error, Result};

/// Reads a JSON object. Unlike serde_json's own reading, a key that occurs twice is an error at any depth: two
/// readers could each believe another one.
///
/// # Errors
///
/// Invalid, with line and column; also for nesting deeper than 128.
pub fn parse_body(body: &[u8]) -> Result<Spec> {
    match serde_json::from_slice::<Strict>(body) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(_) => Err(Error::invalid("the body must be a JSON object")),
        Err(fault) if body.is_empty() => {
            Err(Error::invalid("the body must be a JSON object").caused_by(fault))
        }
        Err(fault) => Err(Error::invalid(format!("malformed JSON: {fault}"))),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Spec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{}` occurs twice", clip(&key))));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        assert_eq!(parse_body(br#"{"a": [1, -2, 0.5, "x", null, true, {}]}"#).unwrap().len(), 1);
        for (body, part) in [
            (&br#"{"a": 1, "a": 2}"#[..], "the key `a` occurs twice"),
            (br#"{"x": {"a": 1, "\u0061": 2}}"#, "the key `a` occurs twice"),
            (b"[]", "must be a JSON object"),
            (b"", "must be a JSON object"),
            (b"{", "line 1 column 1"),
            (b"{\"a\": \"\xff\"}", "malformed JSON"),
        ] {
            let message = parse_body(body).unwrap_err().message().to_owned();
            assert!(message.contains(part), "{message}");
        }
        let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000)].concat();
        assert!(parse_body(&deep).unwrap_err().message().contains("recursion limit"));
    }
}
