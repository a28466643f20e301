//! How resources look from outside: only what their kind declares to be shown.

use serde_json::Value;

use super::{Field, FieldType, Object, Spec, secret_backend};

/// A resource as it is on the wire: `id`, `name`, the declared fields that may be shown, `version`, times.
///
/// An allow-list: what a kind does not declare (a password hash, the ids inside references) is not in it.
pub fn view(object: &Object) -> Spec {
    let mut shown = Spec::new();
    shown.insert("id".into(), object.id.as_str().into());
    shown.insert("name".into(), object.name.as_str().into());
    for (name, value) in wire_form(object.kind.fields, &object.spec) {
        let value = if object.kind.def().behaviour == super::Behaviour::SecretBackend {
            secret_backend::masked(value)
        } else {
            value
        };
        shown.insert(name, value);
    }
    shown.insert("version".into(), object.version.into());
    shown.insert("createdAt".into(), object.created_at.to_string().into());
    shown.insert("updatedAt".into(), object.updated_at.to_string().into());
    shown
}

/// The declared fields of a stored spec, in the kind's order, with references as callers write them.
pub(super) fn wire_form(fields: &'static [Field], stored: &Spec) -> Spec {
    fields
        .iter()
        .filter(|field| !field.write_only)
        .filter_map(|field| Some((field.name.to_owned(), wire_value(field, stored.get(field.name)?))))
        .collect()
}

fn wire_value(field: &'static Field, stored: &Value) -> Value {
    match (&field.ty, stored) {
        (FieldType::Reference { keyed, .. }, Value::Object(parts)) => {
            let part = |name: &str| parts.get(name).cloned().unwrap_or_default();
            if *keyed { serde_json::json!({"name": part("name"), "key": part("key")}) } else { part("name") }
        }
        (FieldType::References { .. }, Value::Array(items)) => {
            items.iter().map(|item| item.get("name").cloned().unwrap_or_default()).collect()
        }
        (FieldType::List(fields), Value::Array(items)) => items
            .iter()
            .map(|item| match item {
                Value::Object(item) => Value::Object(wire_form(fields, item)),
                other => other.clone(),
            })
            .collect(),
        (_, stored) => stored.clone(),
    }
}

/// A value as one line of text for tables and descriptions; empty for null.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
