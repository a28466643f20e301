//! Who may do what: the check in front of everything.

use super::Registry;
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::{Action, Decision, Permission},
    resource::{AuditEvent, Denial, EventDetail, Kind, Object},
};

/// The answer to "may I?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanI {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// The name of the RBAC definition that decides.
    pub binding: Option<String>,
}

impl Registry {
    /// The permission that `action` on the resource of this id or name needs.
    pub fn permission(&self, action: Action, kind: Kind, id_or_name: &str) -> Permission {
        match self.snapshot().shelf(kind).resolve(id_or_name) {
            Some(object) => permission_on(action, object),
            None => Permission::Resource { action, kind, name: id_or_name.to_owned(), id: None },
        }
    }

    /// Refuses, and tells the audit trail, unless `who` has the permission.
    ///
    /// # Errors
    ///
    /// Forbidden, naming the permission.
    pub async fn require(&self, who: &Principal, permission: &Permission) -> Result<()> {
        if who.grants().decide(permission).allowed() {
            return Ok(());
        }
        Err(Box::pin(self.refuse(who, permission.to_string())).await?)
    }

    /// Like [`require`](Self::require), for an action on the resource of this id or name. The refusal quotes
    /// what the caller gave, so it does not tell whether there is such a resource.
    ///
    /// # Errors
    ///
    /// Forbidden, naming the permission.
    pub async fn require_on(
        &self,
        who: &Principal,
        action: Action,
        kind: Kind,
        id_or_name: &str,
    ) -> Result<()> {
        let allowed = match self.snapshot().shelf(kind).resolve(id_or_name) {
            Some(object) => who.grants().allow_on(action, kind, &object.name, Some(&object.id)),
            None => who.grants().allow_on(action, kind, id_or_name, None),
        };
        if allowed {
            return Ok(());
        }
        let given: String = id_or_name.chars().filter(|letter| !letter.is_control()).take(254).collect();
        Err(Box::pin(self.refuse(who, format!("{}:{kind}:{given}", action.as_str()))).await?)
    }

    /// Refuses unless `who` may see at least something of the kind in a list.
    ///
    /// # Errors
    ///
    /// Forbidden, naming the permission.
    pub async fn require_list(&self, who: &Principal, kind: Kind) -> Result<()> {
        if who.grants().may_list(Action::View, kind) {
            return Ok(());
        }
        Err(Box::pin(self.refuse(who, Permission::Kind(Action::View, kind).to_string())).await?)
    }

    /// The error for a missing permission, once the audit trail knows of it.
    pub(super) async fn refuse(&self, who: &Principal, permission: String) -> Result<Error> {
        let denial = EventDetail::Denied(Denial { permission: permission.clone() });
        self.audit().record(AuditEvent::new(who.actor(), denial)).await?;
        Ok(Error::new(ErrorKind::Forbidden, format!("missing permission `{permission}`")))
    }

    /// Whether `who` may do something, and why.
    pub fn can_i(&self, who: &Principal, permission: &Permission) -> CanI {
        let Decision { binding } = who.grants().decide(permission);
        let reason = match &binding {
            Some(binding) => format!("allowed by the rbac definition `{binding}`"),
            None => format!("no rbac definition gives {} the permission `{permission}`", who.name()),
        };
        CanI { allowed: binding.is_some(), reason, binding: binding.map(|binding| binding.to_string()) }
    }
}

/// The permission that `action` on this object needs.
pub(super) fn permission_on(action: Action, object: &Object) -> Permission {
    let (kind, name, id) = (object.kind, object.name.clone(), Some(object.id.clone()));
    Permission::Resource { action, kind, name, id }
}
