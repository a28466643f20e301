//! Everything that is stored, read for a backup.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Registry, Snapshot};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Action, Operation, Permission},
    resource::{
        AuditEvent, Backup as BackupEvent, EventDetail, Kind, McpTokenSpec, Object, Reveal, Spec, UserSpec,
        kinds, now, references, view,
    },
    store::EventStore,
};

/// How often values are read anew because a Secret has changed meanwhile.
const ATTEMPTS: usize = 4;

/// Where a resource of a backup says what it is, beside its fields.
pub(super) const KIND: &str = "kind";
/// Where a User of a backup has the hash of the password.
pub(super) const PASSWORD_HASH: &str = UserSpec::PASSWORD_HASH;

/// Everything that is stored, as of one revision.
pub struct Backup {
    /// When it was read.
    pub created_at: Timestamp,
    /// Whether the values of Secrets are in it.
    pub with_values: bool,
    /// Each resource as it is shown, with its `kind`, with the hash of a User's password as `passwordHash` and, if
    /// they were asked for, a Secret's values as `data`.
    pub resources: Vec<Spec>,
}

impl std::fmt::Debug for Backup {
    /// The resources hold hashes and values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backup({} resources at {})", self.resources.len(), self.created_at)
    }
}

impl Backup {
    /// How many resources there are, by the plural of their kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let kinds = self.resources.iter().filter_map(|one| Kind::parse(one.get(KIND)?.as_str()?));
        kinds.fold(BTreeMap::new(), |mut counts, kind| {
            *counts.entry(kind.def().plural).or_default() += 1;
            counts
        })
    }
}

impl Registry {
    /// Everything that is stored, in the order in which it can be made again. Sessions and the audit trail stay here.
    /// The trail knows of it before the caller sees anything.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation or, with values, without the permission to edit each Secret; what a Secret's
    /// backend says; conflict, when Secrets keep changing.
    pub async fn backup(&self, who: &Principal, with_values: bool) -> Result<Backup> {
        self.require(who, &Permission::Operation(Operation::Backup)).await?;
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let snapshot = self.snapshot();
            let Some((resources, mut events)) = self.read_all(who, &snapshot, with_values).await? else {
                continue;
            };
            let count = u64::try_from(resources.len()).unwrap_or(u64::MAX);
            let told = EventDetail::Backup(BackupEvent { resources: count, with_values });
            events.push(AuditEvent::new(who.actor(), told));
            EventStore::append(&*self.inner.store, events.into()).await?;
            return Ok(Backup { created_at: now(), with_values, resources });
        }
        Err(Error::conflict("secrets kept changing meanwhile: try again"))
    }

    /// All that a snapshot holds, and what to tell of it; `None` when a Secret's values are no longer those of then.
    async fn read_all(
        &self,
        who: &Principal,
        snapshot: &Snapshot,
        with_values: bool,
    ) -> Result<Option<(Vec<Spec>, Vec<AuditEvent>)>> {
        let (mut resources, mut events) = (Vec::new(), Vec::new());
        for kind in Kind::in_apply_order() {
            for object in snapshot.shelf(kind).after(None) {
                let mut resource = exported(object, with_values);
                if kind == kinds::SECRETS && with_values {
                    self.require_on(who, Action::Edit, kind, object.id.as_str()).await?;
                    let Some(data) = self.values_as_of(object).await? else { return Ok(None) };
                    resource.insert("data".into(), data);
                    let (name, resource_id) = (object.name.clone(), object.id.to_string());
                    let reveal = EventDetail::SecretReveal(Reveal { name, resource_id });
                    events.push(AuditEvent::new(who.actor(), reveal));
                }
                resources.push(resource);
            }
        }
        Ok(Some((resources, events)))
    }

    /// A Secret's values; `None` when it has changed.
    async fn values_as_of(&self, secret: &Arc<Object>) -> Result<Option<Value>> {
        let read = self.read_values(secret).await;
        let stored = self.inner.store.get(kinds::SECRETS, &secret.id).await?;
        if stored.is_none_or(|stored| stored.version != secret.version) {
            return Ok(None);
        }
        let data = read?.data.into_iter().map(|(key, value)| (key, Value::from(value.expose())));
        Ok(Some(Value::Object(data.collect::<Map<_, _>>())))
    }
}

/// A resource as a backup holds it.
fn exported(object: &Object, with_values: bool) -> Spec {
    let mut resource = Spec::new();
    resource.insert(KIND.into(), object.kind.singular.into());
    resource.extend(view(object));
    // It goes on while the backup lies there.
    resource.shift_remove(McpTokenSpec::LAST_USED_AT);
    if object.kind == kinds::USERS
        && let Some(hash) = object.spec.get(UserSpec::PASSWORD_HASH)
    {
        resource.insert(PASSWORD_HASH.into(), hash.clone());
    }
    if object.kind == kinds::SECRET_BACKENDS
        && with_values
        && let Some(config) = object.spec.get("config")
    {
        // Whoever may have values may have what is masked elsewhere.
        resource.insert("config".into(), config.clone());
        for member in references(&object.spec).map(|(member, _)| member) {
            if let Some(at) = crate::resource::reference_mut(&mut resource, member) {
                at.shift_remove("id");
            }
        }
    }
    resource
}
