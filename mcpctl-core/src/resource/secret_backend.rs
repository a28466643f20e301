//! SecretBackends: where secret values live.

use serde::Deserialize;
use serde_json::Value;

use super::{Behaviour, Column, Faults, Field, FieldType, KindDef, NameRule, Spec, openbao, text_of};

pub(super) static DEF: KindDef = KindDef {
    plural: "secretbackends",
    singular: "secretbackend",
    aliases: &["sb"],
    about: "where secret values live: this server's database, or OpenBao",
    apply_order: 10,
    name_rule: NameRule::Label,
    fields: &[
        Field::new("type", "Type", FieldType::Choice(&["plaintext", "openbao"]), "what holds the values")
            .required()
            .immutable(),
        Field::new("isDefault", "Default", FieldType::Flag, "whether Secrets that name no backend go here"),
        Field::description(),
        Field::new("config", "Config", FieldType::Object, "how to reach it"),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("TYPE", "type"),
        Column::with("DEFAULT", |backend| {
            if backend.get("isDefault") == Some(&Value::Bool(true)) { "*" } else { "" }.to_owned()
        }),
        Column::field("DESCRIPTION", "description"),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check,
    behaviour: Behaviour::SecretBackend,
};

/// A SecretBackend's fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretBackendSpec {
    /// `plaintext` or `openbao`.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether Secrets that name no backend go here.
    pub is_default: bool,
}

/// What stands for a credential wherever a backend's config is shown.
pub const MASK: &str = "********";

/// Whether a config key looks like it holds a credential.
pub fn is_credential_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "secret", "password", "key"].iter().any(|word| key.contains(word))
}

/// `config` with credentials masked, at any depth; other values as they are.
pub(super) fn masked(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) if is_credential_key(&key) && !text.is_empty() => (key, MASK.into()),
                // `tokenRef: {name, key}` says where a credential is: it is not one.
                Value::Object(mut parts) if key.ends_with("Ref") => {
                    parts.shift_remove("id");
                    (key, Value::Object(parts))
                }
                value => (key, masked(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        value => value,
    }
}

/// Puts the stored values back where the mask was written back.
fn unmask(config: &mut Spec, stored: Option<&Spec>) {
    for (key, value) in config.iter_mut() {
        let old = stored.and_then(|stored| stored.get(key));
        match (value, old) {
            (Value::Object(inner), old) => unmask(inner, old.and_then(Value::as_object)),
            (value, Some(old)) if is_credential_key(key) && value.as_str() == Some(MASK) => {
                *value = old.clone()
            }
            _ => {}
        }
    }
}

fn check(spec: &mut Spec, stored: Option<&Spec>, faults: &mut Faults) {
    let ty = spec.get("type").map(text_of).unwrap_or_default();
    let Some(Value::Object(config)) = spec.get_mut("config") else { return };
    unmask(config, stored.and_then(|stored| stored.get("config")).and_then(Value::as_object));
    if ty == "openbao" {
        openbao::check(config, faults);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::{Object, kinds, view};

    #[test]
    fn credentials_are_masked_and_the_mask_written_back_keeps_them() {
        let config = json!({"url": "http://bao:8200", "token": "t0p", "roleId": "r", "tls": {"clientKey": "k"},
                            "tokenRef": {"name": "bao", "key": "token"}});
        let spec = json!({"type": "openbao", "isDefault": false, "description": "", "config": config});
        let stored = Object::new(kinds::SECRET_BACKENDS, "bao", spec.as_object().cloned().unwrap());
        let shown = view(&stored);
        assert_eq!(
            shown["config"],
            json!({"url": "http://bao:8200", "token": MASK, "roleId": "r", "tls": {"clientKey": MASK},
                   "tokenRef": {"name": "bao", "key": "token"}})
        );
        let mut body = Spec::new();
        body.insert("config".into(), shown["config"].clone());
        body["config"]["roleId"] = "s".into();
        let reading = kinds::SECRET_BACKENDS.read_put(&stored, body).unwrap();
        assert_eq!(reading.spec["config"]["token"], "t0p");
        assert_eq!(reading.spec["config"]["tls"]["clientKey"], "k");
        assert_eq!(reading.spec["config"]["roleId"], "s");
    }
}
