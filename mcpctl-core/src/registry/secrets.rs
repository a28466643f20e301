//! Secret values: kept, shown and forgotten.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Registry,
    copies::{COPIES, copies},
    draft::Draft,
};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::Action,
    resource::{AuditEvent, EventDetail, Id, Object, Reveal, kinds},
    secret::{BackendFault, Found, Over, SecretBackend, SecretData, SecretValue, Slot},
    store::Write,
};

/// Where a stored Secret remembers the version of its values. It is no field, so nothing shows it.
pub(super) const VALUE_VERSION: &str = "valueVersion";

/// How to take back a write to a backend that is not part of the transaction, once that is refused.
pub(super) struct Undo {
    backend: Arc<dyn SecretBackend>,
    slot: Slot,
    /// What was there before; `None` when nothing was.
    old: Option<SecretData>,
    /// What was written, as the backend counts.
    revision: i64,
    secret: String,
}

impl Undo {
    /// Takes the write back, unless somebody has written there since.
    pub(super) async fn run(self) {
        let undone = match &self.old {
            Some(old) => {
                let over = Over::Revision(self.revision);
                self.backend.write(&self.slot, old, over).await.map(drop)
            }
            None => self.backend.erase(&self.slot).await,
        };
        if let Err(error) = undone {
            tracing::warn!(secret = self.secret, error = error.chain(), "a write is not taken back");
        }
    }
}

impl Registry {
    /// Puts the supplied values where the Secret's backend keeps them.
    pub(super) async fn keep_values(&self, draft: &mut Draft<'_>) -> Result<()> {
        draft.keep(VALUE_VERSION);
        draft.keep(COPIES);
        let supplied = draft.supplied.take("data");
        if draft.stored.is_some() && supplied.is_none() {
            return Ok(());
        }
        let backend = self.backend_of(&draft.next.spec).await?;
        let (old, over) = match draft.stored {
            Some(stored) => match self.read_values(stored).await {
                Ok(found) => (Some(found.data), Over::Revision(found.revision)),
                // Somebody deleted them at the backend: new ones can take their place, but not be merged into them.
                Err(error)
                    if BackendFault::of(&error) == Some(BackendFault::NotFound) && !draft.supplied.merge =>
                {
                    (None, Over::Anything)
                }
                Err(error) => return Err(error),
            },
            None => (None, Over::Nothing),
        };
        let data = merge(old.as_ref().filter(|_| draft.supplied.merge), supplied);
        if old.as_ref() == Some(&data) {
            return Ok(());
        }
        let slot =
            Slot { id: draft.next.id.clone(), name: draft.next.name.clone(), version: draft.next.version };
        let stored = backend.write(&slot, &data, over).await.map_err(|error| about(&draft.next, error))?;
        if backend.is_external() {
            let secret = draft.next.name.clone();
            draft.undo = Some(Undo { backend, slot: slot.clone(), old, revision: stored.revision, secret });
        }
        draft.txn.writes.extend(stored.writes);
        let keys: Vec<&String> = data.keys().collect();
        draft.next.spec.insert("keys".into(), serde_json::json!(keys));
        draft.next.spec.insert("externalRef".into(), stored.external_ref.into());
        draft.next.spec.insert(VALUE_VERSION.into(), slot.version.into());
        draft.touched.push("data");
        Ok(())
    }

    /// What has to be written to forget a Secret's values.
    pub(super) async fn forget_values(&self, secret: &Object) -> Result<Vec<Write>> {
        let slot = slot(secret)?;
        let backend = self.backend_of(&secret.spec).await?;
        let mut writes = backend.delete(&slot).await.map_err(|error| about(secret, error))?;
        if backend.is_external() {
            // A migration may have left a copy here.
            writes.extend(self.inner.plaintext.delete(&slot).await?);
        }
        Ok(writes)
    }

    /// Forgets the values of a Secret whose row is gone, where the two did not go together.
    pub(super) async fn erase_values(&self, secret: &Object) -> Result<()> {
        let slot = slot(secret)?;
        for copy in copies(secret).filter_map(Id::parse) {
            let snapshot = self.snapshot();
            if let Some(backend) = snapshot.shelf(kinds::SECRET_BACKENDS).get(&copy)
                && let Err(error) = self.driver(backend)?.erase(&slot).await
            {
                tracing::warn!(secret = secret.name, error = error.chain(), "a copy is left behind");
            }
        }
        self.backend_of(&secret.spec).await?.erase(&slot).await.map_err(|error| {
            error.context(format_args!("secret `{}` is deleted, but its values are left behind", secret.name))
        })
    }

    /// A Secret with its values. The audit trail knows of it before the caller sees them.
    ///
    /// # Errors
    ///
    /// Forbidden, without the permission to edit the Secret; not found; and what its backend says.
    pub async fn reveal(&self, who: &Principal, id_or_name: &str) -> Result<(Arc<Object>, SecretData)> {
        self.require_on(who, Action::Edit, kinds::SECRETS, id_or_name).await?;
        let secret = self.get(who, kinds::SECRETS, id_or_name).await?;
        let data = self.read_values(&secret).await?.data;
        let reveal = Reveal { name: secret.name.clone(), resource_id: secret.id.to_string() };
        let event = AuditEvent::new(who.actor(), EventDetail::SecretReveal(reveal));
        crate::store::EventStore::append(&*self.inner.store, [event].into()).await?;
        Ok((secret, data))
    }

    /// What a Secret's backend holds for it.
    pub(super) async fn read_values(&self, secret: &Object) -> Result<Found> {
        let backend = self.backend_of(&secret.spec).await?;
        backend.read(&slot(secret)?).await.map_err(|error| about(secret, error))
    }
}

/// The version of a Secret's values.
pub(super) fn value_version(secret: &Object) -> Result<i64> {
    let version = secret.spec.get(VALUE_VERSION).and_then(Value::as_i64);
    version.ok_or_else(|| Error::internal("a stored secret has no version of its values"))
}

pub(super) fn slot(secret: &Object) -> Result<Slot> {
    let version = value_version(secret)?;
    Ok(Slot { id: secret.id.clone(), name: secret.name.clone(), version })
}

/// The error with the Secret's name in front.
pub(super) fn about(secret: &Object, error: Error) -> Error {
    error.context(format_args!("secret `{}`", secret.name))
}

/// `supplied` over `old`: a null removes a key.
fn merge(old: Option<&SecretData>, supplied: Option<Value>) -> SecretData {
    let mut data: BTreeMap<String, SecretValue> = old.cloned().unwrap_or_default();
    if let Some(Value::Object(map)) = supplied {
        for (key, value) in map {
            match value {
                Value::String(text) => {
                    data.insert(key, SecretValue::new(text));
                }
                _ => {
                    data.remove(&key);
                }
            }
        }
    }
    data
}
