//! RBAC definitions: who may do what.

use serde::Deserialize;
use serde_json::Value;

use super::{Behaviour, Column, Faults, Field, FieldType, Id, Kind, KindDef, NameRule, Spec, text_of};
use crate::rbac::{Operation, Role};

pub(super) static DEF: KindDef = KindDef {
    plural: "rbac",
    singular: "rbac",
    aliases: &["rbac-definition", "rbac-binding"],
    about: "roles given to subjects, on kinds of resources or single ones, and on operations",
    apply_order: 80,
    name_rule: NameRule::Label,
    fields: &[
        Field::description(),
        Field::new(
            "subjects",
            "Subjects",
            FieldType::List(&[
                Field::new(
                    "kind",
                    "Kind",
                    FieldType::Choice(&["User", "Group", "McpToken"]),
                    "what sort of subject",
                )
                .required(),
                Field::new("name", "Name", FieldType::Text { min: 1, max: 254 }, "its name").required(),
            ]),
            "who gets the roles",
        )
        .required(),
        bindings_field().required(),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::with("SUBJECTS", |rbac| each(rbac, "subjects", subject_text)),
        Column::with("BINDINGS", |rbac| each(rbac, "roleBindings", binding_text)),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check: |spec, _, faults| check_bindings(spec, faults),
    behaviour: Behaviour::Rbac,
};

const BINDING: &[Field] = &[
    Field::new("role", "Role", FieldType::Choice(Role::NAMES), "which actions").required(),
    Field::new("resource", "Resource", FieldType::Text { min: 1, max: 100 }, "a kind, or *"),
    Field::new(
        "name",
        "Name",
        FieldType::Text { min: 1, max: 254 },
        "one resource; a trailing * matches any ending",
    ),
    Field::new("action", "Action", FieldType::Text { min: 1, max: 100 }, "an operation, with role run"),
];

/// A list of roles, and what they are on.
pub(super) const fn bindings_field() -> Field {
    Field::new("roleBindings", "Role Bindings", FieldType::List(BINDING), "which roles, on what")
}

/// An RBAC definition's fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RbacSpec {
    /// Who gets the roles.
    pub subjects: Vec<Subject>,
    /// Which roles, on what.
    pub role_bindings: Vec<RoleBinding>,
}

/// Who gets roles.
#[derive(Clone, Debug, Deserialize)]
pub struct Subject {
    /// `User`, `Group` or `McpToken`.
    pub kind: String,
    /// Its name when it was bound.
    pub name: String,
    /// Its id: what counts.
    pub id: Id,
}

/// A role on something.
#[derive(Clone, Debug, Deserialize)]
pub struct RoleBinding {
    /// The role.
    pub role: Role,
    /// A plural kind or `*`; none for an operation.
    #[serde(default)]
    pub resource: Option<String>,
    /// A name, or a name with a trailing `*`.
    #[serde(default)]
    pub name: Option<String>,
    /// The id that `name` stood for when it was bound: what counts. None for a pattern.
    #[serde(default)]
    pub id: Option<Id>,
    /// The operation, with role `run`.
    #[serde(default)]
    pub action: Option<Operation>,
}

/// Checks the bindings of a spec one by one, and normalises the kinds they name.
pub(super) fn check_bindings(spec: &mut Spec, faults: &mut Faults) {
    let Some(Value::Array(bindings)) = spec.get_mut("roleBindings") else { return };
    for (index, binding) in bindings.iter_mut().enumerate() {
        if let Value::Object(binding) = binding {
            check_binding(&format!("roleBindings[{index}]"), binding, faults);
        }
    }
}

fn check_binding(path: &str, binding: &mut Spec, faults: &mut Faults) {
    let text = |name: &str| binding.get(name).map(text_of);
    match (text("action"), text("resource")) {
        (Some(_), Some(_)) => faults.add(path, "has both `action` and `resource`; expected one of them"),
        (None, None) => faults.add(path, "needs a `resource`, or an `action` with role run"),
        (Some(action), None) => {
            if text("role").as_deref() != Some("run") {
                faults.add(&format!("{path}.role"), "must be run when there is an `action`");
            }
            if text("name").is_some() {
                faults.add(&format!("{path}.name"), "does not go with an `action`");
            }
            if Operation::parse(&action).is_none() {
                let known = Operation::ALL.map(Operation::as_str).join(", ");
                faults.add(&format!("{path}.action"), format!("must be one of {known}"));
            }
        }
        (None, Some(resource)) => {
            let kind = Kind::parse(&resource);
            match kind {
                Some(kind) => {
                    binding.insert("resource".into(), kind.plural.into());
                }
                None if resource == "*" => {}
                None => faults.add(&format!("{path}.resource"), "must be a kind of resource, or *"),
            }
            if let Some(name) = binding.get("name").map(text_of)
                && let Some(fault) = scope_fault(kind, &name)
            {
                faults.add(&format!("{path}.name"), fault);
            }
        }
    }
}

/// What is wrong with the name of a scope. Only a trailing `*` is a wildcard.
fn scope_fault(kind: Option<Kind>, name: &str) -> Option<&'static str> {
    let Some(kind) = kind else { return Some("needs a `resource` that is not *") };
    match name.strip_suffix('*') {
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') => None,
        Some(_) => Some("may have one *, at its end"),
        None => kind.name_rule.fault(name),
    }
}

/// The items of a list in one cell.
pub(super) fn each(resource: &Spec, list: &str, text: fn(&Value) -> String) -> String {
    let items = resource.get(list).and_then(Value::as_array);
    items.map(|items| items.iter().map(text).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

fn part(value: &Value, name: &str) -> String {
    value.get(name).map(text_of).unwrap_or_default()
}

/// `User:alice@example.com`.
fn subject_text(subject: &Value) -> String {
    format!("{}:{}", part(subject, "kind"), part(subject, "name"))
}

/// `view:llms:gpt`, as `--binding` takes it, or `run:<operation>`.
pub(super) fn binding_text(binding: &Value) -> String {
    let parts = ["role", "resource", "name", "action"].map(|name| part(binding, name));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":")
}
