//! Secret values: kept, shown, forgotten, and resolved for Llms.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::{LlmEntry, Registry, draft::Draft, hooks::typed_reference, query::missing};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::Action,
    resource::{AuditEvent, EventDetail, Object, Reveal, SecretBackendSpec, Spec, kinds},
    secret::{SecretBackend, SecretData, SecretValue, Slot},
    store::Write,
};

/// Where a stored Secret remembers the version of its values. It is no field, so nothing shows it.
const VALUE_VERSION: &str = "valueVersion";

impl Registry {
    /// Puts the supplied values where the Secret's backend keeps them.
    pub(super) async fn keep_values(&self, draft: &mut Draft<'_>) -> Result<()> {
        draft.keep(VALUE_VERSION);
        let supplied = draft.supplied.take("data");
        if draft.stored.is_some() && supplied.is_none() {
            return Ok(());
        }
        let backend = self.backend_of(&draft.next.spec).await?;
        let old = match draft.stored {
            Some(stored) => Some(self.read_values(stored).await?),
            None => None,
        };
        let data = merge(old.as_ref().filter(|_| draft.supplied.merge), supplied);
        if old.as_ref() == Some(&data) {
            return Ok(());
        }
        let slot =
            Slot { id: draft.next.id.clone(), name: draft.next.name.clone(), version: draft.next.version };
        let stored = backend.write(&slot, &data).await.map_err(|error| about(&draft.next, error))?;
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
        self.backend_of(&secret.spec)
            .await?
            .delete(&slot(secret)?)
            .await
            .map_err(|error| about(secret, error))
    }

    /// A Secret with its values. The audit trail knows of it before the caller sees them.
    ///
    /// # Errors
    ///
    /// Forbidden, without the permission to edit the Secret; not found; and what its backend says.
    pub async fn reveal(&self, who: &Principal, id_or_name: &str) -> Result<(Arc<Object>, SecretData)> {
        self.require_on(who, Action::Edit, kinds::SECRETS, id_or_name).await?;
        let secret = self.get(who, kinds::SECRETS, id_or_name).await?;
        let data = self.read_values(&secret).await?;
        let reveal = Reveal { name: secret.name.clone(), resource_id: secret.id.to_string() };
        let event = AuditEvent::new(who.actor(), EventDetail::SecretReveal(reveal));
        crate::store::EventStore::append(&*self.inner.store, [event].into()).await?;
        Ok((secret, data))
    }

    async fn read_values(&self, secret: &Object) -> Result<SecretData> {
        let backend = self.backend_of(&secret.spec).await?;
        backend.read(&slot(secret)?).await.map_err(|error| about(secret, error))
    }

    /// The backend that a Secret's spec names.
    async fn backend_of(&self, secret: &Spec) -> Result<&dyn SecretBackend> {
        let id =
            typed_reference(secret, "backend").ok_or_else(|| Error::internal("a secret names no backend"))?;
        let snapshot = self.snapshot();
        let backend = match snapshot.shelf(kinds::SECRET_BACKENDS).get(&id) {
            Some(backend) => backend.clone(),
            // It may have been made a moment ago by another server.
            None => match self.inner.store.get(kinds::SECRET_BACKENDS, &id).await? {
                Some(backend) => Arc::new(backend),
                None => return Err(missing(kinds::SECRET_BACKENDS, id.as_str())),
            },
        };
        let spec: SecretBackendSpec = backend.typed()?;
        match spec.ty.as_str() {
            "plaintext" => Ok(&self.inner.plaintext),
            other => Err(Error::new(
                ErrorKind::NotImplemented,
                format!("secretbackend `{}`: this build cannot use type {other}", backend.name),
            )),
        }
    }

    /// The provider's key of an Llm: from memory, once it has been resolved. `None` when the Llm refers to none.
    ///
    /// # Errors
    ///
    /// Secret unavailable, with the message that the inference API promises.
    pub async fn api_key(&self, llm: &LlmEntry) -> Result<Option<Arc<SecretValue>>> {
        let Some(at) = &llm.spec.api_key_ref else { return Ok(None) };
        if let Some(key) = llm.key.get() {
            return Ok(Some(key.clone()));
        }
        let resolve = async {
            let snapshot = self.snapshot();
            let secret = snapshot.shelf(kinds::SECRETS).get(&at.id);
            let secret = secret.ok_or_else(|| missing(kinds::SECRETS, &at.name))?;
            let value = self.read_values(secret).await?.remove(&at.key);
            value.map(Arc::new).ok_or_else(|| {
                Error::new(
                    ErrorKind::SecretUnavailable,
                    format!("secret `{}` has no key `{}`", at.name, at.key),
                )
            })
        };
        let key = llm.key.get_or_try_init(|| resolve).await.map_err(|cause| {
            Error::new(ErrorKind::SecretUnavailable, format!("Failed to resolve API key: {cause}"))
                .caused_by(cause)
        })?;
        Ok(Some(key.clone()))
    }

    /// Resolves the keys of new and changed Llms in the background, so that no request waits for it.
    pub(super) fn resolve_keys_ahead(&self) -> JoinHandle<()> {
        let registry = self.clone();
        tokio::spawn(async move {
            if registry.is_sealed() {
                return;
            }
            for llm in registry.snapshot().llms().filter(|llm| !llm.is_key_missing.load(Ordering::Relaxed)) {
                if let Err(error) = registry.api_key(llm).await {
                    // Said once: its requests try again, and say it to their callers.
                    llm.is_key_missing.store(true, Ordering::Relaxed);
                    tracing::warn!(llm = llm.name, error = error.chain(), "key not resolved");
                }
            }
        })
    }
}

/// The version of a Secret's values.
pub(super) fn value_version(secret: &Object) -> Result<i64> {
    let version = secret.spec.get(VALUE_VERSION).and_then(Value::as_i64);
    version.ok_or_else(|| Error::internal("a stored secret has no version of its values"))
}

fn slot(secret: &Object) -> Result<Slot> {
    let version = value_version(secret)?;
    Ok(Slot { id: secret.id.clone(), name: secret.name.clone(), version })
}

/// The error with the Secret's name in front.
fn about(secret: &Object, error: Error) -> Error {
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
