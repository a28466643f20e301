//! A resource of a backup, read and put in order.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::super::backup::{KIND, PASSWORD_HASH};
use crate::{
    auth::is_hash,
    error::Result,
    resource::{Faults, Id, Kind, McpTokenSpec, Spec, TokenHash, apply_sequence, kinds},
    secret::SecretData,
};

/// A resource of a backup.
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) id: Id,
    pub(super) version: i64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// Its fields, as for making it; what only a server sets is not among them.
    pub(super) body: Spec,
    /// A User's hash.
    pub(super) password_hash: Option<String>,
    /// An McpToken's hash.
    pub(super) token: Option<TokenHash>,
    /// The keys of a Secret, and where an outside backend has the values.
    pub(super) keys: Vec<String>,
    pub(super) external_ref: String,
}

/// Reads the resources of a backup.
///
/// # Errors
///
/// Invalid, with every fault.
pub(super) fn read(resources: Vec<Spec>) -> Result<Vec<Entry>> {
    let (mut faults, mut entries) = (Faults::default(), Vec::new());
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for (index, resource) in resources.into_iter().enumerate() {
        let path = format!("resources[{index}]");
        let Some(entry) = read_one(&path, resource, &mut faults) else { continue };
        if !names.insert((entry.kind, entry.name.clone())) {
            faults.add(&format!("{path}.name"), format!("`{}` occurs twice", entry.name));
        }
        if !ids.insert(entry.id.clone()) {
            faults.add(&format!("{path}.id"), "occurs twice");
        }
        entries.push(entry);
    }
    faults.into_result()?;
    Ok(entries)
}

fn read_one(path: &str, mut body: Spec, faults: &mut Faults) -> Option<Entry> {
    let mut text = |name: &str| match body.shift_remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let mut wanted = |name: &str, found: bool| {
        if !found {
            faults.add(&format!("{path}.{name}"), "is missing, or not what it must be");
        }
    };
    let kind = text(KIND).and_then(|kind| Kind::parse(&kind));
    let name = text("name").filter(|name| kind.is_none_or(|kind| kind.name_rule.fault(name).is_none()));
    let id = text("id").and_then(|id| Id::parse(&id));
    let created_at = text("createdAt").and_then(|at| at.parse().ok());
    let updated_at = text("updatedAt").and_then(|at| at.parse().ok());
    let password_hash = text(PASSWORD_HASH).filter(|_| kind == Some(kinds::USERS));
    let token = text(McpTokenSpec::TOKEN_SHA).and_then(|hash| TokenHash::from_hex(&hash));
    let external_ref = text("externalRef").unwrap_or_default();
    let version =
        body.shift_remove("version").and_then(|version| version.as_i64()).filter(|version| *version > 0);
    let keys = match body.shift_remove("keys") {
        Some(Value::Array(keys)) => keys.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    wanted("kind", kind.is_some());
    wanted("name", name.is_some());
    wanted("id", id.is_some());
    wanted("version", version.is_some());
    wanted("createdAt", created_at.is_some());
    wanted("updatedAt", updated_at.is_some());
    wanted(PASSWORD_HASH, password_hash.as_deref().is_none_or(is_hash));
    wanted(McpTokenSpec::TOKEN_SHA, kind != Some(kinds::MCP_TOKENS) || token.is_some());
    let kind = kind?;
    for field in kind.def().fields.iter().filter(|field| field.read_only || field.volatile) {
        body.shift_remove(field.name);
    }
    Some(Entry {
        kind,
        name: name?,
        id: id?,
        version: version?,
        created_at: created_at?,
        updated_at: updated_at?,
        body,
        password_hash,
        token,
        keys,
        external_ref,
    })
}

impl Entry {
    /// The body of a request that makes it.
    pub(super) fn new_body(&self) -> Spec {
        let mut body = self.body.clone();
        body.insert("name".into(), self.name.as_str().into());
        body
    }

    /// The values of a Secret, if the backup has them.
    pub(super) fn data(&self) -> Option<SecretData> {
        let data = self.body.get("data")?.as_object()?;
        let value = |value: &Value| value.as_str().map(crate::secret::SecretValue::new);
        data.iter().map(|(key, text)| Some((key.clone(), value(text)?))).collect()
    }
}

/// The places of the entries in an order in which each comes after what it names, as far as there is one.
pub(super) fn in_order(entries: &[Entry]) -> Vec<usize> {
    let items: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.name.as_str(), &entry.body)).collect();
    apply_sequence(&items)
}
