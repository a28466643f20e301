//! Small values on the command line: `key=value`, `SECRET/KEY`, lengths of time.

use mcpctl_core::resource::{Field, FieldType, Kind, Spec};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Reads `key=value` of the flag or argument called `flag`.
pub(crate) fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Failure::usage(format!("invalid {flag} '{text}': expected key=value"))),
    }
}

/// As [`pair`], without repeating the text: it may be a secret value given in the wrong form.
pub(crate) fn secret_pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    pair(flag, text).map_err(|_| Failure::usage(format!("invalid {flag}: expected key=value")))
}

/// Reads `SECRET/KEY` into the form of a keyed reference.
pub(crate) fn key_ref(flag: &str, text: &str) -> Result<Value, Failure> {
    match text.strip_prefix("secret://").unwrap_or(text).split_once('/') {
        Some((name, key)) if !name.is_empty() && !key.is_empty() => Ok(json!({"name": name, "key": key})),
        _ => Err(Failure::usage(format!("invalid {flag} '{text}': expected SECRET_NAME/KEY_NAME"))),
    }
}

/// JSON when `text` is JSON, else the text itself: `4096`, `true`, `{"a": 1}`, `2023-06-01`.
pub(crate) fn loose(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Reads every `key=value` of a flag into an object of loose values.
pub(crate) fn loose_map(flag: &str, texts: &[String]) -> Result<Spec, Failure> {
    texts.iter().map(|text| pair(flag, text).map(|(key, value)| (key.to_owned(), loose(value)))).collect()
}

/// Reads `field=value` or `field.inner=value` into a merge patch, by what the kind says of the field.
pub(crate) fn assign(kind: Kind, patch: &mut Spec, text: &str) -> Result<(), Failure> {
    let (path, value) = secret_pair("assignment", text)?;
    let (name, inner) = match path.split_once('.') {
        Some((name, inner)) => (name, Some(inner)),
        None => (path, None),
    };
    let field = kind.def().field(name);
    let Some(inner) = inner else {
        let value = field.map_or_else(|| Ok(loose(value)), |field| whole(field, value))?;
        patch.insert(name.to_owned(), value);
        return Ok(());
    };
    let value = match field.map(|field| &field.ty) {
        Some(FieldType::TextMap) => value.into(),
        _ => loose(value),
    };
    let mut map = patch.entry(name).or_insert_with(|| json!({})).as_object_mut();
    let mut parts = inner.split('.').peekable();
    while let (Some(current), Some(part)) = (map.take(), parts.next()) {
        if part.is_empty() {
            return Err(Failure::usage(format!("invalid assignment to `{path}`: an empty part in the path")));
        }
        if parts.peek().is_none() {
            current.insert(part.to_owned(), value);
            return Ok(());
        }
        map = current.entry(part).or_insert_with(|| json!({})).as_object_mut();
    }
    Err(Failure::usage(format!(
        "invalid assignment to `{path}`: a part of it was given another value already"
    )))
}

fn whole(field: &Field, text: &str) -> Result<Value, Failure> {
    Ok(match &field.ty {
        FieldType::Text { .. } | FieldType::Choice(_) | FieldType::Url => text.into(),
        FieldType::Reference { keyed: true, .. } => match text {
            "" | "null" | "none" => Value::Null,
            text if text.starts_with('{') => loose(text),
            text => key_ref(field.name, text)?,
        },
        FieldType::Reference { keyed: false, .. } => text.into(),
        FieldType::Flag
        | FieldType::Object
        | FieldType::TextMap
        | FieldType::TextList
        | FieldType::List(_) => loose(text),
        FieldType::References { .. } if text.starts_with('[') => loose(text),
        FieldType::References { .. } => {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
        }
    })
}

/// Reads an instant: RFC 3339, or how long ago: `90s`, `15m`, `1h`, `7d`, `2w`.
pub(crate) fn instant(flag: &str, text: &str, now: jiff::Timestamp) -> Result<String, Failure> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(instant.to_string());
    }
    let fault = || {
        Failure::usage(format!(
            "invalid {flag} '{text}': expected a time such as 1h, 7d or 2026-01-31T12:00:00Z"
        ))
    };
    let unit = text.chars().last().ok_or_else(fault)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(fault()),
    };
    let count: i64 = text.strip_suffix(unit).and_then(|count| count.parse().ok()).ok_or_else(fault)?;
    let ago = count.checked_mul(seconds).filter(|ago| *ago >= 0).ok_or_else(fault)?;
    let instant = now.checked_sub(jiff::SignedDuration::from_secs(ago)).map_err(|_| fault())?;
    Ok(instant.to_string())
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;

    use super::*;

    fn patch(kind: Kind, texts: &[&str]) -> Result<Value, String> {
        let mut patch = Spec::new();
        for text in texts {
            assign(kind, &mut patch, text).map_err(|failure| failure.message().to_owned())?;
        }
        Ok(Value::Object(patch))
    }

    #[test]
    fn bad_flags_say_what_was_expected() {
        let message = |result: Result<Value, Failure>| result.unwrap_err().message().to_owned();
        assert_eq!(
            message(key_ref("--api-key-ref", "x")),
            "invalid --api-key-ref 'x': expected SECRET_NAME/KEY_NAME"
        );
        assert_eq!(
            message(pair("--extra", "x").map(|_| Value::Null)),
            "invalid --extra 'x': expected key=value"
        );
        assert!(!message(secret_pair("--data", "sk-1").map(|_| Value::Null)).contains("sk-1"));
    }

    #[test]
    fn assignments_follow_the_field_s_type() {
        assert_eq!(
            patch(
                kinds::LLMS,
                &["model=4", "apiKeyRef=a/b", "extraConfig.maxTokens=5", "extraConfig.x.y=no", "url="]
            ),
            Ok(json!({"model": "4", "apiKeyRef": {"name": "a", "key": "b"},
                      "extraConfig": {"maxTokens": 5, "x": {"y": "no"}}, "url": ""}))
        );
        assert_eq!(patch(kinds::LLMS, &["apiKeyRef="]), Ok(json!({"apiKeyRef": null})));
        assert_eq!(patch(kinds::SECRETS, &["data.k=12"]), Ok(json!({"data": {"k": "12"}})));
        assert_eq!(patch(kinds::SECRET_BACKENDS, &["isDefault=true"]), Ok(json!({"isDefault": true})));
        assert!(patch(kinds::LLMS, &["tier"]).is_err());
        assert!(patch(kinds::LLMS, &["extraConfig.a=1", "extraConfig.a.b=1"]).is_err());
        assert!(patch(kinds::LLMS, &["extraConfig.=1"]).is_err());
    }

    #[test]
    fn instants() {
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        assert_eq!(instant("--since", "1h", now).unwrap(), "2026-01-09T23:00:00Z");
        assert_eq!(instant("--since", "2w", now).unwrap(), "2025-12-27T00:00:00Z");
        assert_eq!(instant("--since", "2026-01-01T00:00:00+01:00", now).unwrap(), "2025-12-31T23:00:00Z");
        for bad in ["", "h", "1", "1y", "-1h", "99999999999999999w", "ä"] {
            assert!(instant("--since", bad, now).is_err(), "{bad}");
        }
    }
}
