//! Groups: users who get roles together.

use serde::Deserialize;

use super::{Behaviour, Column, Field, FieldType, Id, KindDef, NameRule};

pub(super) static DEF: KindDef = KindDef {
    plural: "groups",
    singular: "group",
    aliases: &[],
    about: "users who get roles together: an RBAC definition may name the group in place of each of them",
    apply_order: 60,
    name_rule: NameRule::Label,
    fields: &[
        Field::description(),
        Field::new(
            "members",
            "Members",
            FieldType::References { kind: "users" },
            "the e-mail addresses of its users",
        ),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::with("MEMBERS", |group| {
            let members = group.get("members").and_then(serde_json::Value::as_array);
            members.map_or(0, Vec::len).to_string()
        }),
        Column::field("DESCRIPTION", "description"),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check: |_, _, _| {},
    behaviour: Behaviour::Group,
};

/// A Group's fields.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupSpec {
    /// Its users.
    pub members: Vec<Member>,
}

/// A user in a group.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// The user's id: what counts.
    pub id: Id,
    /// The user's name when it joined.
    pub name: String,
}
