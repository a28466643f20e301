//! Users: people who log in.

use serde::Deserialize;

use super::{Behaviour, Column, Field, FieldType, KindDef, NameRule};

pub(super) static DEF: KindDef = KindDef {
    plural: "users",
    singular: "user",
    aliases: &[],
    about: "a person who logs in with an e-mail address and a password",
    apply_order: 50,
    name_rule: NameRule::Email,
    fields: &[
        Field::new(
            "displayName",
            "Display Name",
            FieldType::Text { min: 0, max: 200 },
            "how to address the person",
        ),
        Field::description(),
        Field::new(
            "password",
            "Password",
            FieldType::Text { min: 8, max: 1024 },
            "at least 8 characters; never shown",
        )
        .write_only(),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("DISPLAY NAME", "displayName"),
        Column::field("DESCRIPTION", "description").wide(),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check: |_, _, _| {},
    behaviour: Behaviour::User,
};

/// A User's fields.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// The password's argon2id hash in PHC format; none, and nobody can log in with a password.
    #[serde(default)]
    pub password_hash: Option<String>,
}

impl UserSpec {
    /// Where the hash is in the stored spec. It is no field, so nothing shows it.
    pub const PASSWORD_HASH: &'static str = "passwordHash";
}
