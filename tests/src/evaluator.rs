//! Who may do what, worked out a second time: from the words of the contract and plain JSON, and from nothing of
//! the program's own. Slow and short, to compare the real evaluator with.

use serde_json::Value;

/// What a request needs.
#[derive(Clone, Debug)]
pub enum Need<'a> {
    /// An operation: `audit`.
    Operation(&'a str),
    /// An action on a kind as a whole: `create`, `llms`.
    Kind(&'a str, &'a str),
    /// An action on one resource: `run`, `llms`, its name and its id.
    One(&'a str, &'a str, &'a str, &'a str),
    /// A list of the kind: something of it may be viewed.
    List(&'a str),
}

/// Whether role bindings allow what is needed.
pub fn bindings_allow(bindings: &Value, need: &Need<'_>) -> bool {
    let text = |binding: &Value, key: &str| binding.get(key).and_then(Value::as_str).map(str::to_owned);
    bindings.as_array().into_iter().flatten().any(|binding| {
        let (operation, name) = (text(binding, "action"), text(binding, "name"));
        let (action, kind) = match need {
            Need::Operation(wanted) => return operation.as_deref() == Some(wanted),
            Need::Kind(action, kind) | Need::One(action, kind, ..) => (*action, *kind),
            Need::List(kind) => ("view", *kind),
        };
        let gives = match text(binding, "role").as_deref() {
            Some("edit") => ["view", "create", "edit", "delete", "expose"].contains(&action),
            Some("expose") => ["view", "expose"].contains(&action),
            role => role == Some(action),
        };
        let resource = text(binding, "resource").unwrap_or_default();
        let reaches = match (need, name) {
            (_, None) | (Need::List(_), _) => true,
            (Need::One(_, _, called, id), Some(name)) => match name.strip_suffix('*') {
                Some(beginning) => called.starts_with(beginning),
                None => text(binding, "id").as_deref() == Some(id),
            },
            _ => false,
        };
        operation.is_none() && gives && (resource == "*" || resource == kind) && reaches
    })
}

/// Whether RBAC definitions allow a user, with the groups it is in, or a token what is needed. Groups are
/// `{id, members: [{id}]}`.
pub fn subject_may(definitions: &[Value], groups: &[Value], subject: &str, need: &Need<'_>) -> bool {
    let has = |list: &Value, id: &str| list.as_array().into_iter().flatten().any(|one| one["id"] == id);
    let of_group = groups.iter().filter(|group| has(&group["members"], subject));
    let ids: Vec<&str> = of_group.filter_map(|group| group["id"].as_str()).chain([subject]).collect();
    definitions.iter().any(|definition| {
        ids.iter().any(|id| has(&definition["subjects"], id))
            && bindings_allow(&definition["roleBindings"], need)
    })
}
