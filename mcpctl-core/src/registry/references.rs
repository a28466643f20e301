//! References between resources: resolved to ids when written, undone when what they name is deleted.

use serde_json::Value;

use crate::{
    error::{Error, Result},
    resource::{Faults, FieldType, Id, Kind, Object, OnDelete, Spec, kinds},
    store::{Condition, Store},
};

/// Gives every reference in `spec` (wire form) the id of what it names, and adds the condition that it is still
/// there when the change is committed.
pub(super) async fn resolve(
    store: &(impl Store + ?Sized),
    kind: Kind,
    spec: &mut Spec,
    conditions: &mut Vec<Condition>,
    faults: &mut Faults,
) -> Result<()> {
    for field in kind.fields {
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
            value => *value = serde_json::json!({"id": found, "name": name}),
        }
    }
    if kind == kinds::RBAC {
        resolve_rbac(store, spec, conditions, faults).await?;
    }
    Ok(())
}

/// Subjects and scopes of an RBAC definition are pinned to ids, so that a deleted and re-created user or
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

/// What else changes when `gone` is deleted: the objects that name it, without the reference. Adds the condition
/// that nobody adds another reference meanwhile.
///
/// # Errors
///
/// Conflict, when one of the references forbids the deletion.
pub(super) async fn unlink(
    store: &(impl Store + ?Sized),
    gone: &Object,
    conditions: &mut Vec<Condition>,
) -> Result<Vec<Object>> {
    let mut changed = Vec::new();
    for kind in Kind::all().filter(|kind| may_refer(*kind, gone.kind)) {
        let since = store.revision().await?;
        let users: Vec<Object> = store.list(kind).await?;
        conditions.push(Condition::KindUnchanged { kind, since });
        let (mut refusing, mut unlinked) = (Vec::new(), Vec::new());
        for object in users.into_iter().filter(|object| object.id != gone.id) {
            match without(&object, gone) {
                Some((_, OnDelete::Refuse)) => refusing.push(object.name),
                Some((spec, OnDelete::Unlink)) => unlinked.push(object.updated(spec)),
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
        changed.extend(unlinked);
    }
    Ok(changed)
}

fn may_refer(kind: Kind, target: Kind) -> bool {
    kind == kinds::RBAC
        || kind.fields.iter().any(|field| {
            matches!(field.ty, FieldType::Reference { kind, .. } if Kind::parse(kind) == Some(target))
        })
}

/// The spec of `object` without its references to `gone`, and what they say about its deletion; `None` when it
/// has none.
fn without(object: &Object, gone: &Object) -> Option<(Spec, OnDelete)> {
    let names_it = |value: &Value| value.get("id").and_then(Value::as_str) == Some(gone.id.as_str());
    let mut spec = object.spec.clone();
    let mut outcome = None;
    for field in object.kind.fields {
        let Some(value) = spec.get_mut(field.name) else { continue };
        match (&field.ty, value) {
            (FieldType::Reference { on_delete, .. }, value) if names_it(value) => {
                *value = Value::Null;
                if outcome != Some(OnDelete::Refuse) {
                    outcome = Some(*on_delete);
                }
            }
            (FieldType::List(_), Value::Array(items)) if items.iter().any(names_it) => {
                items.retain(|item| !names_it(item));
                outcome = outcome.or(Some(OnDelete::Unlink));
            }
            _ => {}
        }
    }
    Some((spec, outcome?))
}
