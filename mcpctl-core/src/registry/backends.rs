//! Secret backends: which one holds a Secret, and who may decide where their credentials are sent.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::{Registry, copies::copies, draft::Draft, hooks::typed_reference, query::missing};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::{Action, Permission},
    resource::{Id, Object, Spec, kinds, openbao_config, references},
    secret::{Checked, SecretBackend},
    store::Condition,
};

/// Backends that are ready for use. They keep connections and logins.
#[derive(Default)]
pub(super) struct Drivers(Mutex<HashMap<Id, Driver>>);

/// A backend, and the config that it was made from.
type Driver = (Spec, Arc<dyn SecretBackend>);

/// The error for a key that a Secret does not have.
pub(super) fn no_key(secret: &str, key: &str) -> Error {
    Error::new(ErrorKind::SecretUnavailable, format!("secret `{secret}` has no key `{key}`"))
}

/// Settings that say nothing of where values and credentials go.
const HARMLESS: [&str; 2] = ["cacheSeconds", "timeoutMs"];

/// Settings that say who is on the other side.
const DESTINATION: [&str; 2] = ["url", "caCert"];

/// Settings that say where values are: with others, those that are there would not be found.
const PLACE: [&str; 3] = ["namespace", "mount", "pathPrefix"];

impl Registry {
    /// The object of this id as far as the snapshot knows, else as it is stored.
    pub(super) async fn as_stored(
        &self,
        kind: crate::resource::Kind,
        id: &Id,
        name: &str,
    ) -> Result<Arc<Object>> {
        if let Some(object) = self.snapshot().shelf(kind).get(id) {
            return Ok(object.clone());
        }
        // It may have been made a moment ago by another server.
        let stored = self.inner.store.get(kind, id).await?;
        stored.map(Arc::new).ok_or_else(|| missing(kind, name))
    }

    /// The backend that a Secret's spec names.
    pub(super) async fn backend_of(&self, secret: &Spec) -> Result<Arc<dyn SecretBackend>> {
        let id =
            typed_reference(secret, "backend").ok_or_else(|| Error::internal("a secret names no backend"))?;
        let backend = self.as_stored(kinds::SECRET_BACKENDS, &id, id.as_str()).await?;
        self.driver(&backend)
    }

    /// The driver of a backend.
    pub(super) fn driver(&self, backend: &Object) -> Result<Arc<dyn SecretBackend>> {
        let Some(config) = openbao_config(&backend.spec) else { return Ok(self.inner.plaintext.clone()) };
        let mut drivers = self.inner.drivers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_from, driver)) = drivers.get(&backend.id)
            && made_from == config
        {
            return Ok(driver.clone());
        }
        let driver = self.new_driver(backend, config)?;
        let snapshot = self.snapshot();
        drivers.retain(|id, _| snapshot.shelf(kinds::SECRET_BACKENDS).get(id).is_some());
        drivers.insert(backend.id.clone(), (config.clone(), driver.clone()));
        Ok(driver)
    }

    #[cfg(feature = "openbao")]
    fn new_driver(&self, backend: &Object, config: &Spec) -> Result<Arc<dyn SecretBackend>> {
        let config = serde_json::from_value(Value::Object(config.clone())).map_err(|cause| {
            Error::internal(cause).context(format_args!("stored secretbackend `{}`", backend.name))
        })?;
        let credentials = Arc::new(super::credentials::FromSecrets::new(self));
        Ok(Arc::new(crate::secret::OpenBaoBackend::new(&backend.name, config, credentials)?))
    }

    #[cfg(not(feature = "openbao"))]
    fn new_driver(&self, backend: &Object, _: &Spec) -> Result<Arc<dyn SecretBackend>> {
        Err(Error::new(
            ErrorKind::NotImplemented,
            format!("secretbackend `{}`: this build cannot use type openbao", backend.name),
        ))
    }

    /// Tries a backend, with the credentials that it has.
    ///
    /// # Errors
    ///
    /// Forbidden, without the permission to edit the backend; not found.
    pub async fn test_backend(&self, who: &Principal, id_or_name: &str) -> Result<Checked> {
        self.require_on(who, Action::Edit, kinds::SECRET_BACKENDS, id_or_name).await?;
        let backend = self.fetch(who, Action::Edit, kinds::SECRET_BACKENDS, id_or_name).await?;
        self.driver(&backend)?.check().await
    }

    /// Whoever decides where a credential is sent, and values with it, must be allowed to read the credential.
    pub(super) async fn guard_backend(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        let Some(next) = openbao_config(&draft.next.spec) else { return Ok(()) };
        let before = draft.stored.and_then(|stored| openbao_config(&stored.spec));
        let unchanged = self.guard_values(who, draft, before, next).await?;
        let matters = |config: &Spec| {
            let mut config = config.clone();
            config.retain(|key, _| !HARMLESS.contains(&key.as_str()));
            config
        };
        if before.map(matters).as_ref() == Some(&matters(next)) {
            return Ok(());
        }
        draft.txn.conditions.extend(unchanged);
        // A certificate or a URL that cannot be used is said now.
        #[cfg(feature = "openbao")]
        self.new_driver(&draft.next, next).map(drop)?;
        // Those that were named before protect what is there already.
        let stored = draft.stored.into_iter().flat_map(|stored| references(&stored.spec));
        let named: HashSet<(&str, &str)> = references(&draft.next.spec)
            .chain(stored)
            .filter_map(|(_, at)| Some((at.get("id")?.as_str()?, at.get("name")?.as_str()?)))
            .collect();
        for (id, name) in named {
            self.require_reading(who, id, name).await?;
        }
        if let Some(before) = before
            && PLACE.iter().any(|key| text(before, key) != text(next, key))
        {
            let condition = self.refuse_if_in_use(&draft.next)?;
            draft.txn.conditions.push(condition);
        }
        let conditions = self.refuse_circle(&draft.next)?;
        draft.txn.conditions.extend(conditions);
        Ok(())
    }

    /// Whoever decides where values are sent must be allowed to read them: those that the backend holds, when it is
    /// looked for elsewhere, and those of every Secret to come, when it is to be the default. Gives the condition under
    /// which it holds no others.
    async fn guard_values(
        &self,
        who: &Principal,
        draft: &Draft<'_>,
        before: Option<&Spec>,
        next: &Spec,
    ) -> Result<Option<Condition>> {
        let moves =
            before.is_none_or(|before| DESTINATION.iter().any(|key| before.get(*key) != next.get(*key)));
        let is_default = |spec: &Spec| spec.get("isDefault") == Some(&Value::Bool(true));
        let was_default = draft.stored.is_some_and(|stored| is_default(&stored.spec));
        if is_default(&draft.next.spec) && (moves || !was_default) {
            self.require(who, &Permission::Kind(Action::Edit, kinds::SECRETS)).await?;
        }
        if !moves || draft.stored.is_none() {
            return Ok(None);
        }
        let snapshot = self.snapshot();
        for secret in snapshot.shelf(kinds::SECRETS).after(None).filter(|secret| is_held(secret, &draft.next))
        {
            self.require_reading(who, secret.id.as_str(), &secret.name).await?;
        }
        Ok(Some(Condition::KindUnchanged { kind: kinds::SECRETS, since: snapshot.revision() }))
    }

    /// Refuses unless `who` may read the Secret of this id, which the caller knows by its name.
    pub(super) async fn require_reading(&self, who: &Principal, id: &str, name: &str) -> Result<()> {
        self.require_on(who, Action::Edit, kinds::SECRETS, id).await.map_err(|refused| match refused.kind() {
            ErrorKind::Forbidden => Error::new(
                ErrorKind::Forbidden,
                format!(
                    "missing permission `edit:secrets:{name}`: whoever decides where a key is sent must be \
                     allowed to read it"
                ),
            ),
            _ => refused,
        })
    }

    /// Refuses to leave behind the values that a backend holds; `Ok` is the condition that it holds none.
    fn refuse_if_in_use(&self, backend: &Object) -> Result<Condition> {
        let snapshot = self.snapshot();
        if let Some(first) =
            snapshot.shelf(kinds::SECRETS).after(None).find(|secret| is_held(secret, backend))
        {
            return Err(Error::conflict(format!(
                "secretbackend `{}` holds secrets, such as `{}`, that would not be found with another {}: \
                 migrate them to another backend first",
                backend.name,
                first.name,
                PLACE.join(", ")
            )));
        }
        Ok(Condition::KindUnchanged { kind: kinds::SECRETS, since: snapshot.revision() })
    }

    /// Refuses a backend that would need itself to get at its credentials. `Ok` are the conditions under which
    /// there is no such circle.
    fn refuse_circle(&self, backend: &Object) -> Result<Vec<Condition>> {
        let snapshot = self.snapshot();
        let mut conditions =
            vec![Condition::KindUnchanged { kind: kinds::SECRET_BACKENDS, since: snapshot.revision() }];
        for secret in self.needed_by(&backend.spec) {
            if typed_reference(&secret.spec, "backend").as_ref() == Some(&backend.id) {
                return Err(Error::invalid(format!(
                    "config: its credentials must be kept by another backend, and secret `{}`, which they \
                     need, is kept by this one",
                    secret.name
                )));
            }
            let (id, version) = (secret.id.clone(), secret.version);
            conditions.push(Condition::Version { kind: kinds::SECRETS, id, version });
        }
        Ok(conditions)
    }

    /// The Secrets without which a backend does not work: its credentials, those of the backends that keep these,
    /// and so on.
    pub(super) fn needed_by(&self, backend: &Spec) -> Vec<Arc<Object>> {
        let snapshot = self.snapshot();
        let (mut needed, mut seen) = (Vec::new(), HashSet::new());
        let mut open = vec![backend.clone()];
        while let Some(spec) = open.pop() {
            for id in references(&spec).filter_map(|(_, at)| Id::parse(at.get("id")?.as_str()?)) {
                let Some(secret) = snapshot.shelf(kinds::SECRETS).get(&id) else { continue };
                if !seen.insert(id) {
                    continue;
                }
                needed.push(secret.clone());
                let keeper = typed_reference(&secret.spec, "backend");
                let keeper = keeper.and_then(|id| snapshot.shelf(kinds::SECRET_BACKENDS).get(&id).cloned());
                open.extend(keeper.map(|keeper| keeper.spec.clone()));
            }
        }
        needed
    }
}

/// Whether a backend holds a Secret's values, or a copy of them.
fn is_held(secret: &Object, backend: &Object) -> bool {
    typed_reference(&secret.spec, "backend").as_ref() == Some(&backend.id)
        || copies(secret).any(|copy| copy == backend.id.as_str())
}

/// A setting as text; the default where it is not set.
fn text<'a>(config: &'a Spec, key: &str) -> &'a str {
    let default = match key {
        "mount" => "secret",
        "pathPrefix" => "mcpctl",
        _ => "",
    };
    config.get(key).and_then(Value::as_str).unwrap_or(default)
}
