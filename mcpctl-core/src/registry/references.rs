//! References between resources: resolved to ids when written, undone when what they name is deleted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Snapshot;
use crate::{
    error::{Error, Result},
    resource::{
        Behaviour, Faults, FieldType, Id, Kind, Object, OnDelete, Spec, kinds,
        reference_mut as credential_mut, references as credentials,
    },
    store::{Condition, Store},
};

/// Gives every reference in `spec` (wire form) the id of what it names, and adds the condition that it is still
/// there when the change is committed.
pub(super) async fn resolve(
    store: &(impl Store + ?Sized),
    snapshot: &Snapshot,
    kind: Kind,
    spec: &mut Spec,
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) -> Result<()> {
    for field in kind.fields {
        if let (FieldType::References { kind: target }, Some(Value::Array(items))) =
            (&field.ty, spec.get_mut(field.name))
        {
            resolve_list(snapshot, target, field.name, items, conditions, faults);
        }
        let FieldType::Reference { kind: target, keyed, .. } = field.ty else { continue };
        let Some(target) = Kind::parse(target) else { continue };
        let Some(value) = spec.get_mut(field.name).filter(|value| !value.is_null()) else { continue };
        let path = if keyed { format!("{}.name", field.name) } else { field.name.to_owned() };
        let name = match &*value {
            Value::String(name) => name.clone(),
            value => value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        let Some(found) = find(store, target, &name, &path, conditions, faults).await? else { continue };
        match value {
            Value::Object(parts) => {
                parts.insert("id".into(), found.as_str().into());
            }
            value => *value = json!({"id": found, "name": name}),
        }
    }
    if names_anything(kind) {
        resolve_rbac(store, spec, conditions, faults).await?;
    }
    if kind.behaviour == Behaviour::SecretBackend {
        resolve_credentials(store, spec, conditions, faults).await?;
    }
    Ok(())
}

/// What a backend's config says of credentials is pinned to the Secrets' ids.
async fn resolve_credentials(
    store: &(impl Store + ?Sized),
    spec: &mut Spec,
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) -> Result<()> {
    let text = |at: &Spec| at.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let named: Vec<(&str, String)> = credentials(spec).map(|(member, at)| (member, text(at))).collect();
    for (member, name) in named {
        let path = format!("config.{member}.name");
        if let Some(id) = find(store, kinds::SECRETS, &name, &path, conditions, faults).await?
            && let Some(at) = credential_mut(spec, member)
        {
            at.insert("id".into(), id.as_str().into());
        }
    }
    Ok(())
}

/// Whether a kind has subjects or scopes, which may be of any kind.
fn names_anything(kind: Kind) -> bool {
    matches!(kind.behaviour, Behaviour::Rbac | Behaviour::McpToken)
}

/// The names in a list become `{id, name}`. They are looked up in memory, as there may be thousands of them, under
/// the condition that it is up to date.
fn resolve_list(
    snapshot: &Snapshot,
    target: &str,
    field: &str,
    items: &mut [Value],
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) {
    let Some(target) = Kind::parse(target).filter(|_| !items.is_empty()) else { return };
    conditions.push(Condition::KindUnchanged { kind: target, since: snapshot.revision() });
    for (index, item) in items.iter_mut().enumerate() {
        let name = item.as_str().unwrap_or_default();
        match snapshot.shelf(target).named(name) {
            Some(found) => *item = json!({"id": found.id, "name": found.name}),
            None => {
                faults.add(&format!("{field}[{index}]"), format!("no {} named `{name}`", target.singular))
            }
        }
    }
}

/// Subjects and scopes of an RBAC definition or a token are pinned to ids, so that a deleted and re-created user or
/// resource inherits nothing.
async fn resolve_rbac(
    store: &(impl Store + ?Sized),
    spec: &mut Spec,
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) -> Result<()> {
    for list in ["subjects", "roleBindings"] {
        let Some(Value::Array(items)) = spec.get_mut(list) else { continue };
        for (index, item) in items.iter_mut().enumerate() {
            let Value::Object(item) = item else { continue };
            let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
            // Subjects say `kind`, bindings say `resource`.
            let target = text("kind").or_else(|| text("resource")).and_then(|kind| Kind::parse(&kind));
            let (Some(target), Some(name)) = (target, text("name").filter(|name| !name.ends_with('*')))
            else {
                continue;
            };
            let path = format!("{list}[{index}].name");
            if let Some(id) = find(store, target, &name, &path, conditions, faults).await? {
                item.insert("id".into(), id.as_str().into());
            }
        }
    }
    Ok(())
}

async fn find(
    store: &(impl Store + ?Sized),
    kind: Kind,
    name: &str,
    path: &str,
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) -> Result<Option<Id>> {
    match store.find(kind, name).await? {
        Some(found) => {
            conditions.push(Condition::Version { kind, id: found.id.clone(), version: found.version });
            Ok(Some(found.id))
        }
        None => {
            faults.add(path, format!("no {} named `{name}`", kind.singular));
            Ok(None)
        }
    }
}

/// What else happens when a resource is deleted.
#[derive(Default)]
pub(super) struct Effects {
    /// What names it, without the reference.
    pub(super) changed: Vec<Object>,
    /// What goes with it.
    pub(super) deleted: Vec<Arc<Object>>,
}

/// What else happens when `gone` is deleted, and under which conditions: that nobody adds another reference meanwhile.
///
/// # Errors
///
/// Conflict, when one of the references forbids the deletion.
pub(super) fn unlink(snapshot: &Snapshot, gone: &Object) -> Result<(Effects, Vec<Condition>)> {
    let (mut effects, mut conditions) = (Effects::default(), Vec::new());
    for kind in Kind::all().filter(|kind| may_refer(*kind, gone.kind)) {
        conditions.push(Condition::KindUnchanged { kind, since: snapshot.revision() });
        let mut refusing = Vec::new();
        for object in snapshot.shelf(kind).after(None).filter(|object| object.id != gone.id) {
            match reference(object, gone) {
                Some(OnDelete::Refuse) => refusing.push(&object.name),
                Some(OnDelete::Delete) => effects.deleted.push(object.clone()),
                Some(OnDelete::Unlink) => effects.changed.push(object.updated(without(object, gone))),
                None => {}
            }
        }
        if let Some(first) = refusing.first() {
            let count = refusing.len();
            return Err(Error::conflict(format!(
                "{} `{}` is in use by {count} {}, such as `{first}`: delete or move {} first",
                gone.kind.singular,
                gone.name,
                if count == 1 { kind.singular } else { kind.plural },
                if count == 1 { "it" } else { "them" },
            )));
        }
    }
    Ok((effects, conditions))
}

fn may_refer(kind: Kind, target: Kind) -> bool {
    names_anything(kind)
        || (kind.behaviour == Behaviour::SecretBackend && target == kinds::SECRETS)
        || kind.fields.iter().any(|field| match field.ty {
            FieldType::Reference { kind, .. } | FieldType::References { kind } => {
                Kind::parse(kind) == Some(target)
            }
            _ => false,
        })
}

fn names(value: &Value, gone: &Object) -> bool {
    value.get("id").and_then(Value::as_str) == Some(gone.id.as_str())
}

/// What `object`'s references to `gone` say about its deletion: the strictest; `None` when it has none.
fn reference(object: &Object, gone: &Object) -> Option<OnDelete> {
    let mut outcome = None;
    if object.kind.behaviour == Behaviour::SecretBackend
        && credentials(&object.spec)
            .any(|(_, at)| at.get("id").and_then(Value::as_str) == Some(gone.id.as_str()))
    {
        // Without it, every value that the backend holds would be out of reach.
        outcome = Some(OnDelete::Refuse);
    }
    for field in object.kind.fields {
        match (&field.ty, object.spec.get(field.name)) {
            (FieldType::Reference { on_delete, .. }, Some(value)) if names(value, gone) => {
                outcome = outcome.max(Some(*on_delete));
            }
            (FieldType::List(_) | FieldType::References { .. }, Some(Value::Array(items)))
                if items.iter().any(|item| names(item, gone)) =>
            {
                outcome = outcome.max(Some(OnDelete::Unlink));
            }
            _ => {}
        }
    }
    outcome
}

/// The spec of `object` without its references to `gone`.
fn without(object: &Object, gone: &Object) -> Spec {
    let mut spec = object.spec.clone();
    for field in object.kind.fields {
        match (&field.ty, spec.get_mut(field.name)) {
            (FieldType::Reference { .. }, Some(value)) if names(value, gone) => *value = Value::Null,
            (FieldType::List(_) | FieldType::References { .. }, Some(Value::Array(items))) => {
                items.retain(|item| !names(item, gone));
            }
            _ => {}
        }
    }
    spec
}
