//! What kinds demand beyond being stored.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Registry,
    draft::{Draft, change_event, reference_id},
};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Definition, Grants},
    resource::{Behaviour, GroupSpec, Id, Object, RbacSpec, SecretBackendSpec, Spec, UserSpec, kinds},
    secret::SecretValue,
    store::{Condition, Write},
};

impl Registry {
    /// What has to be settled before names become ids.
    pub(super) async fn before_references(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        if draft.kind.def().behaviour == Behaviour::McpToken {
            self.settle_owner(who, draft);
        }
        if draft.kind.def().behaviour == Behaviour::Secret
            && draft.next.spec.get("backend").is_none_or(Value::is_null)
        {
            let default = self.default_backend().await?;
            draft.next.spec.insert("backend".into(), default.name.into());
        }
        Ok(())
    }

    /// What has to be settled once names are ids.
    pub(super) async fn apply_behaviour(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        match draft.kind.def().behaviour {
            Behaviour::Plain => Ok(()),
            Behaviour::Llm => self.guard_destination(who, draft).await,
            Behaviour::Secret => self.keep_values(draft).await,
            Behaviour::SecretBackend => {
                self.guard_backend(who, draft).await?;
                self.keep_one_default(who, draft).await
            }
            Behaviour::User => self.keep_password(who, draft).await,
            Behaviour::Group => self.guard_membership(who, draft).await,
            Behaviour::Rbac => self.guard_grants(who, draft).await,
            Behaviour::McpToken => self.keep_token(who, draft).await,
        }
    }

    /// What else has to be written when `gone` is deleted.
    ///
    /// # Errors
    ///
    /// Conflict, when it must stay.
    pub(super) async fn before_delete(&self, who: &Principal, gone: &Object) -> Result<Vec<Write>> {
        match gone.kind.def().behaviour {
            Behaviour::Plain | Behaviour::Llm | Behaviour::Group | Behaviour::Rbac | Behaviour::McpToken => {
                Ok(Vec::new())
            }
            Behaviour::Secret => self.forget_values(gone).await,
            Behaviour::SecretBackend => {
                let spec: SecretBackendSpec = gone.typed()?;
                if spec.is_default {
                    return Err(Error::conflict(format!(
                        "secretbackend `{}` is the default: make another the default first",
                        gone.name
                    )));
                }
                Ok(Vec::new())
            }
            Behaviour::User => {
                self.guard_user(who, gone).await?;
                Ok(vec![Write::RevokeSessionsOf(gone.id.clone())])
            }
        }
    }

    /// What else has to be done once `gone` is deleted.
    pub(super) async fn after_delete(&self, gone: &Object) -> Result<()> {
        match gone.kind.def().behaviour {
            Behaviour::Secret => self.erase_values(gone).await,
            _ => Ok(()),
        }
    }

    /// Whoever decides where a key is sent must be allowed to read it.
    async fn guard_destination(&self, who: &Principal, draft: &Draft<'_>) -> Result<()> {
        let next = &draft.next.spec;
        let Some(secret) = reference_id(next, "apiKeyRef") else { return Ok(()) };
        let headers = |spec: &Spec| spec.get("extraConfig").and_then(|extra| extra.get("headers")).cloned();
        let same = draft.stored.is_some_and(|stored| {
            ["type", "url", "apiKeyRef"].iter().all(|name| stored.spec.get(*name) == next.get(*name))
                && headers(&stored.spec) == headers(next)
        });
        if same {
            return Ok(());
        }
        // The id is what counts; the caller wrote a name.
        let name = next.get("apiKeyRef").and_then(|at| at.get("name")).and_then(Value::as_str);
        self.require_reading(who, secret, name.unwrap_or_default()).await
    }

    /// Exactly one backend is the default: making one so unmakes the other in the same transaction.
    async fn keep_one_default(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        let is_default = |spec: &Spec| spec.get("isDefault") == Some(&Value::Bool(true));
        let was = draft.stored.is_some_and(|stored| is_default(&stored.spec));
        let will_be = is_default(&draft.next.spec);
        if was && !will_be {
            return Err(Error::conflict(format!(
                "secretbackend `{}` is the default: make another the default instead",
                draft.next.name
            )));
        }
        if was || !will_be {
            return Ok(());
        }
        let since = self.inner.store.revision().await?;
        draft.txn.conditions.push(Condition::KindUnchanged { kind: kinds::SECRET_BACKENDS, since });
        for other in self.inner.store.list(kinds::SECRET_BACKENDS).await? {
            if is_default(&other.spec) && other.id != draft.next.id {
                let mut spec = other.spec.clone();
                spec.insert("isDefault".into(), false.into());
                let other = other.updated(spec);
                draft.txn.events.push(change_event(
                    who.actor(),
                    "edit",
                    &other,
                    vec!["isDefault".to_owned()],
                ));
                draft.txn.writes.push(Write::Put(other));
            }
        }
        Ok(())
    }

    /// The backend for Secrets that name none.
    pub(super) async fn default_backend(&self) -> Result<Object> {
        let mut backends = self.inner.store.list(kinds::SECRET_BACKENDS).await?.into_iter();
        backends
            .find(|backend| backend.spec.get("isDefault") == Some(&Value::Bool(true)))
            .ok_or_else(|| Error::internal("no secret backend is the default"))
    }

    /// A password becomes a hash; a new one ends the user's sessions.
    async fn keep_password(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        draft.keep(UserSpec::PASSWORD_HASH);
        let Some(password) =
            draft.supplied.take("password").as_ref().and_then(Value::as_str).map(SecretValue::new)
        else {
            return Ok(());
        };
        if let Some(stored) = draft.stored {
            let old: UserSpec = stored.typed()?;
            if old.password_hash.is_some()
                && self.inner.passwords.verify(password.clone(), old.password_hash).await?
            {
                return Ok(());
            }
            self.guard_user(who, stored).await?;
            draft.txn.writes.push(Write::RevokeSessionsOf(stored.id.clone()));
        }
        let hash = self.inner.passwords.hash(password).await?;
        draft.next.spec.insert(UserSpec::PASSWORD_HASH.into(), hash.into());
        draft.touched.push("password");
        Ok(())
    }

    /// Whoever sets another's password can become that user, so they must hold all that the user holds.
    async fn guard_user(&self, who: &Principal, user: &Object) -> Result<()> {
        if who.is_in_person(&user.id) {
            return Ok(());
        }
        let theirs = self.snapshot().policy().grants(&user.id);
        self.require_covers(who, &theirs).await
    }

    /// Whoever joins a group gets what it has: nobody can let another in, or go in, who does not hold all of it.
    async fn guard_membership(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        let next: GroupSpec = draft.next.typed()?;
        let before: Vec<Id> = match draft.stored {
            Some(stored) => {
                stored.typed::<GroupSpec>()?.members.into_iter().map(|member| member.id).collect()
            }
            None => return Ok(()),
        };
        if next.members.iter().all(|member| before.contains(&member.id)) {
            return Ok(());
        }
        let snapshot = self.snapshot();
        // Else the group might be given more while this is decided.
        let since = snapshot.revision();
        draft.txn.conditions.push(Condition::KindUnchanged { kind: kinds::RBAC, since });
        self.require_covers(who, &snapshot.policy().grants(&draft.next.id)).await
    }

    /// Nobody can grant what they do not hold.
    async fn guard_grants(&self, who: &Principal, draft: &Draft<'_>) -> Result<()> {
        let spec: RbacSpec = draft.next.typed()?;
        let given = |spec: &RbacSpec| Grants::from(Arc::new(Definition::new(&draft.next.name, spec)));
        let granted = given(&spec);
        if draft.stored.is_some_and(|stored| stored.spec.get("subjects") == draft.next.spec.get("subjects")) {
            // Nobody gains a subject: only bindings that were not there before give anything.
            let before: RbacSpec = draft.stored.map_or_else(|| draft.next.typed(), Object::typed)?;
            return self.require_covers(who, &granted.beyond(&given(&before))).await;
        }
        self.require_covers(who, &granted).await
    }

    pub(super) async fn require_covers(&self, who: &Principal, wanted: &Grants) -> Result<()> {
        match who.rights().first_not_covered(wanted) {
            None => Ok(()),
            Some(missing) => {
                let refused = self.refuse(who, missing).await?;
                Err(refused.context("nobody can give or take over what they do not hold"))
            }
        }
    }
}

/// The id in a member of a spec, as an [`Id`].
pub(super) fn typed_reference(spec: &Spec, name: &str) -> Option<Id> {
    reference_id(spec, name).and_then(Id::parse)
}
