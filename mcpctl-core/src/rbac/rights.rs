//! What a principal may do now.

use std::sync::Arc;

use super::{Action, Decision, Grants, Permission};
use crate::resource::{Id, Kind};

/// What a principal may do: what it has been given and, for a token, never more than its owner may.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    own: Arc<Grants>,
    limit: Option<Arc<Grants>>,
}

impl From<Arc<Grants>> for Rights {
    fn from(own: Arc<Grants>) -> Self {
        Self { own, limit: None }
    }
}

impl Rights {
    /// What has been given to a token whose owner has `limit`.
    pub fn within(own: Arc<Grants>, limit: Arc<Grants>) -> Self {
        Self { own, limit: Some(limit) }
    }

    /// Whether `permission` is granted, and by which definition.
    pub fn decide(&self, permission: &Permission) -> Decision {
        match &self.limit {
            Some(limit) if !limit.decide(permission).allowed() => Decision::default(),
            _ => self.own.decide(permission),
        }
    }

    /// Whether `permission` would be granted, if it were not for the owner, who does not have it.
    pub fn is_beyond_limit(&self, permission: &Permission) -> bool {
        self.own.decide(permission).allowed() && !self.decide(permission).allowed()
    }

    /// Whether `action` on the resource of this name is granted; its id is `None` when there is no such resource.
    pub fn allow_on(&self, action: Action, kind: Kind, name: &str, id: Option<&Id>) -> bool {
        self.own.allow_on(action, kind, name, id)
            && self.limit.as_ref().is_none_or(|limit| limit.allow_on(action, kind, name, id))
    }

    /// Whether a list of `kind` may be asked for: whether anything of the kind could be in it.
    pub fn may_list(&self, action: Action, kind: Kind) -> bool {
        self.own.touch(action, kind) && self.limit.as_ref().is_none_or(|limit| limit.touch(action, kind))
    }

    /// The first permission that `wanted` gives and that is not held here; `None` when all of it is.
    pub fn first_not_covered(&self, wanted: &Grants) -> Option<String> {
        let missing = |held: &Grants| held.first_not_covered(wanted);
        missing(&self.own).or_else(|| self.limit.as_deref().and_then(missing))
    }
}
