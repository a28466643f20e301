//! What earlier versions stored, brought to what this one means by it.

use serde_json::{Value, json};

use super::draft::change_event;
use crate::{
    error::Result,
    rbac::Operation,
    resource::{Actor, Spec, kinds},
    store::{Condition, Outcome, Storage, Txn, Write},
};

/// Rewrites bindings with the role `admin` to the granular roles it stood for.
pub(super) async fn rewrite_admin(store: &dyn Storage) -> Result<()> {
    for stored in store.list(kinds::RBAC).await? {
        let Some(spec) = rewritten(&stored.spec) else { continue };
        let next = stored.updated(spec);
        let actor = Actor { user: Some("startup".into()), ..Actor::default() };
        let txn = Txn {
            conditions: vec![Condition::Version {
                kind: kinds::RBAC,
                id: stored.id.clone(),
                version: stored.version,
            }],
            events: vec![change_event(actor, "edit", &next, vec!["roleBindings".to_owned()])],
            writes: vec![Write::Put(next)],
        };
        // Refused: another server that starts now was first, and did the same.
        if let Outcome::Committed(_) = store.commit(txn).await? {
            tracing::info!(rbac = stored.name, "rewrote the role admin to the roles it stood for");
        }
    }
    Ok(())
}

/// The spec without the role `admin`; `None` when it has none.
fn rewritten(spec: &Spec) -> Option<Spec> {
    let Some(Value::Array(bindings)) = spec.get("roleBindings") else { return None };
    let is_admin = |binding: &&Value| binding.get("role").and_then(Value::as_str) == Some("admin");
    bindings.iter().find(is_admin)?;
    let mut next: Vec<Value> = bindings.iter().filter(|binding| !is_admin(binding)).cloned().collect();
    for admin in bindings.iter().filter(is_admin) {
        for binding in stood_for(admin) {
            if !next.contains(&binding) {
                next.push(binding);
            }
        }
    }
    let mut spec = spec.clone();
    spec.insert("roleBindings".into(), next.into());
    Some(spec)
}

/// `edit` and `run` on what the binding names; over everything, each operation as well.
fn stood_for(admin: &Value) -> Vec<Value> {
    let resource = admin.get("resource").and_then(Value::as_str).unwrap_or("*");
    let mut bindings: Vec<Value> = ["edit", "run"]
        .into_iter()
        .map(|role| {
            let mut binding = admin.as_object().cloned().unwrap_or_default();
            binding.insert("role".into(), role.into());
            binding.insert("resource".into(), resource.into());
            Value::Object(binding)
        })
        .collect();
    if resource == "*" {
        bindings.extend(Operation::ALL.map(|operation| json!({"role": "run", "action": operation})));
    }
    bindings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_becomes_what_it_stood_for() {
        let spec = json!({"subjects": [], "roleBindings": [{"role": "admin", "resource": "*"}, {"role": "view", "resource": "llms"}]});
        let next = rewritten(spec.as_object().unwrap()).unwrap();
        let bindings = next["roleBindings"].as_array().unwrap();
        assert_eq!(bindings.len(), 1 + 2 + Operation::ALL.len());
        assert!(bindings.contains(&json!({"role": "edit", "resource": "*"})));
        assert!(bindings.contains(&json!({"role": "run", "resource": "*"})));
        assert!(bindings.contains(&json!({"role": "run", "action": "audit"})));
        let narrow = json!({"roleBindings": [{"role": "admin", "resource": "llms", "name": "a", "id": "x"}]});
        let next = rewritten(narrow.as_object().unwrap()).unwrap();
        let wanted = json!([{"role": "edit", "resource": "llms", "name": "a", "id": "x"},
                            {"role": "run", "resource": "llms", "name": "a", "id": "x"}]);
        assert_eq!(next["roleBindings"], wanted);
        assert_eq!(rewritten(&next), None);
    }
}
