//! What one role binding gives, and to which resources it reaches.

use super::{Action, Operation, Permission};
use crate::resource::{Id, Kind, RoleBinding};

/// What one role binding gives.
#[derive(Clone, Debug)]
pub(super) enum Grant {
    /// An operation.
    Operation(Operation),
    /// Actions; `kind` is `None` for every kind.
    Actions { actions: &'static [Action], kind: Option<Kind>, scope: Scope },
}

/// Which resources of a kind a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of them.
    All,
    /// The one with this id. Where there is no such resource, the name alone counts: nothing can be done to
    /// what is not there, and the caller learns that it is not.
    Resource {
        /// The name it was bound by.
        name: String,
        /// What it is pinned to.
        id: Id,
    },
    /// Those whose name begins so.
    Prefix(String),
    /// None: the resource the binding named is unknown.
    Nothing,
}

impl Grant {
    /// What `binding` gives; `None` when it gives nothing this build knows.
    pub(super) fn new(binding: &RoleBinding) -> Option<Self> {
        match (binding.action, &binding.resource) {
            (Some(operation), _) => Some(Self::Operation(operation)),
            (None, Some(resource)) => {
                let kind = if resource == "*" { None } else { Some(Kind::parse(resource)?) };
                Some(Self::Actions { actions: binding.role.actions(), kind, scope: Scope::of(binding) })
            }
            (None, None) => None,
        }
    }

    pub(super) fn allows(&self, permission: &Permission) -> bool {
        match (self, permission) {
            (Self::Operation(granted), Permission::Operation(wanted)) => granted == wanted,
            (Self::Actions { actions, kind, scope }, Permission::Kind(action, wanted)) => {
                *scope == Scope::All && actions.contains(action) && kind.is_none_or(|kind| kind == *wanted)
            }
            (Self::Actions { .. }, Permission::Resource { action, kind, name, id }) => {
                self.allows_on(*action, *kind, name, id.as_ref())
            }
            (Self::Operation(_), _) | (Self::Actions { .. }, Permission::Operation(_)) => false,
        }
    }

    pub(super) fn allows_on(&self, action: Action, wanted: Kind, name: &str, id: Option<&Id>) -> bool {
        let Self::Actions { actions, kind, scope } = self else { return false };
        actions.contains(&action) && kind.is_none_or(|kind| kind == wanted) && scope.covers(name, id)
    }

    /// Whether this could give `action` on anything of `wanted`.
    pub(super) fn touches(&self, action: Action, wanted: Kind) -> bool {
        let Self::Actions { actions, kind, scope } = self else { return false };
        actions.contains(&action) && kind.is_none_or(|kind| kind == wanted) && *scope != Scope::Nothing
    }

    /// Whether this by itself gives `action` on all of `wanted` of a kind, or of every kind.
    pub(super) fn covers(&self, action: Action, wanted_kind: Option<Kind>, wanted: &Scope) -> bool {
        let Self::Actions { actions, kind, scope } = self else { return false };
        let kind_fits = kind.is_none() || *kind == wanted_kind;
        actions.contains(&action) && kind_fits && scope.contains(wanted)
    }

    /// What this gives of `action`, as a permission is written: `run:llms:gpt*`.
    pub(super) fn written(&self, action: Action) -> String {
        let Self::Actions { kind, scope, .. } = self else { return String::new() };
        let kind = kind.map_or("*", |kind| kind.def().plural);
        let name = match scope {
            Scope::All | Scope::Nothing => String::new(),
            Scope::Resource { name, .. } => format!(":{name}"),
            Scope::Prefix(prefix) => format!(":{prefix}*"),
        };
        format!("{}:{kind}{name}", action.as_str())
    }
}

impl Scope {
    fn of(binding: &RoleBinding) -> Self {
        match (&binding.name, &binding.id) {
            (None, _) => Self::All,
            (Some(name), id) => match (name.strip_suffix('*'), id) {
                (Some(prefix), _) => Self::Prefix(prefix.to_owned()),
                (None, Some(id)) => Self::Resource { name: name.clone(), id: id.clone() },
                (None, None) => Self::Nothing,
            },
        }
    }

    /// Whether everything that `other` covers is covered by this.
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Nothing) | (Self::All, _) => true,
            (Self::Resource { id, .. }, Self::Resource { id: other, .. }) => id == other,
            (Self::Prefix(prefix), Self::Resource { name, .. } | Self::Prefix(name)) => {
                name.starts_with(prefix.as_str())
            }
            (Self::Resource { .. } | Self::Prefix(_), _) | (Self::Nothing, _) => false,
        }
    }

    fn covers(&self, name: &str, id: Option<&Id>) -> bool {
        match self {
            Self::All => true,
            Self::Resource { name: bound, id: pinned } => match id {
                Some(id) => id == pinned,
                None => bound == name,
            },
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
            Self::Nothing => false,
        }
    }
}
