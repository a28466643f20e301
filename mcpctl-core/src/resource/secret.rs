//! Secrets: named maps of values that only their backend holds.

use serde::Deserialize;

use super::{Behaviour, Column, Field, FieldType, Id, KindDef, NameRule, OnDelete};

pub(super) static DEF: KindDef = KindDef {
    plural: "secrets",
    singular: "secret",
    aliases: &["sec"],
    about: "a named map of keys to secret values, kept by a secret backend",
    apply_order: 20,
    name_rule: NameRule::Label,
    fields: &[
        Field::description(),
        Field::new(
            "backend",
            "Backend",
            FieldType::Reference { kind: "secretbackends", keyed: false, on_delete: OnDelete::Refuse },
            "the SecretBackend that holds the values; empty for the default one",
        )
        .immutable(),
        Field::new("keys", "Keys", FieldType::TextList, "the keys that have a value").read_only(),
        Field::new(
            "externalRef",
            "External Ref",
            FieldType::Text { min: 0, max: 2000 },
            "the path at the backend",
        )
        .read_only(),
        Field::new("data", "Data", FieldType::TextMap, "the values by key; never shown").write_only(),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("BACKEND", "backend"),
        Column::field("KEYS", "keys"),
        Column::field("DESCRIPTION", "description").wide(),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check: |_, _, _| {},
    behaviour: Behaviour::Secret,
};

/// A Secret's fields. The values are not among them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Which backend holds the values.
    pub backend: BackendRef,
    /// The keys that have a value.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// A resolved reference to a SecretBackend.
#[derive(Clone, Debug, Deserialize)]
pub struct BackendRef {
    /// The backend's id.
    pub id: Id,
    /// The backend's name.
    pub name: String,
}
