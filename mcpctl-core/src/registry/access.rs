//! Who may do what: the check in front of everything.

use super::Registry;
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::{Action, Decision, Permission},
    resource::{AuditEvent, Denial, EventDetail, Kind, McpTokenSpec, Object, kinds, now},
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

/// Somebody who may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoCan {
    /// `User`, `Group` or `McpToken`.
    pub kind: &'static str,
    /// The user's, the group's or the token's name.
    pub name: String,
    /// The name of the RBAC definition that decides, or `mcptoken/<name>` for a token's own bindings.
    pub binding: String,
    /// The group through which a user may.
    pub group: Option<String>,
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
        if who.rights().decide(permission).allowed() {
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
            Some(object) => who.rights().allow_on(action, kind, &object.name, Some(&object.id)),
            None => who.rights().allow_on(action, kind, id_or_name, None),
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
        if who.rights().may_list(Action::View, kind) {
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
        let Decision { binding, group } = who.rights().decide(permission);
        let name = who.api_token().unwrap_or(who.name());
        let reason = match (&binding, &group) {
            (Some(binding), Some(group)) => format!("allowed by `{binding}`, through the group `{group}`"),
            (Some(binding), None) => format!("allowed by `{binding}`"),
            (None, _) if who.rights().is_beyond_limit(permission) => {
                format!(
                    "{name} has the permission `{permission}`, but its owner {} has it no more",
                    who.name()
                )
            }
            (None, _) => format!("no rbac definition gives {name} the permission `{permission}`"),
        };
        CanI { allowed: binding.is_some(), reason, binding: binding.map(|binding| binding.to_string()) }
    }

    /// Who may do something: users and groups as they are bound, the users of those groups that `who` may view, and
    /// the tokens that `who` may view. Each with the definition that decides.
    ///
    /// # Errors
    ///
    /// Forbidden, without `view:rbac`.
    pub async fn who_can(&self, who: &Principal, permission: &Permission) -> Result<Vec<WhoCan>> {
        self.require(who, &Permission::Kind(Action::View, kinds::RBAC)).await?;
        let snapshot = self.snapshot();
        let policy = snapshot.policy();
        let shelf = |kind| snapshot.shelf(kind).after(None);
        let mut able = Vec::new();
        let mut add = |kind, name: &str, decision: Decision| {
            let binding = decision.binding.map(|binding| binding.to_string());
            let group = decision.group.map(|group| group.to_string());
            able.extend(binding.map(|binding| WhoCan { kind, name: name.to_owned(), binding, group }));
        };
        let visible =
            |kind, object: &Object| who.rights().allow_on(Action::View, kind, &object.name, Some(&object.id));
        for user in shelf(kinds::USERS) {
            let decision = policy.grants(&user.id).decide(permission);
            let is_shown = match &decision.group {
                None => true,
                Some(group) => snapshot
                    .shelf(kinds::GROUPS)
                    .named(group)
                    .is_some_and(|group| visible(kinds::GROUPS, group)),
            };
            if is_shown {
                add("User", &user.name, decision);
            }
        }
        for group in shelf(kinds::GROUPS) {
            add("Group", &group.name, policy.grants(&group.id).decide(permission));
        }
        for token in shelf(kinds::MCP_TOKENS).filter(|token| visible(kinds::MCP_TOKENS, token)) {
            let hash = token.typed::<McpTokenSpec>()?.hash();
            if let Some(bearer) = hash.and_then(|hash| snapshot.bearer(hash, now())) {
                add("McpToken", &token.name, bearer.rights.decide(permission));
            }
        }
        Ok(able)
    }
}

/// The permission that `action` on this object needs.
pub(super) fn permission_on(action: Action, object: &Object) -> Permission {
    let (kind, name, id) = (object.kind, object.name.clone(), Some(object.id.clone()));
    Permission::Resource { action, kind, name, id }
}
