//! The evaluator: from definitions to decisions, each with the binding that decided.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::{Action, Operation, Permission};
use crate::resource::{Id, Kind, RbacSpec, RoleBinding};

/// All definitions, compiled per user.
#[derive(Debug, Default)]
pub struct Policy {
    users: HashMap<Id, Arc<Grants>>,
}

/// What one principal may do: the union of its bindings. Nothing, unless granted.
#[derive(Debug, Default)]
pub struct Grants(Vec<Grant>);

#[derive(Clone, Debug)]
struct Grant {
    /// The name of the definition it comes from.
    definition: Arc<str>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Operation(Operation),
    /// `kind` is `None` for every kind.
    Actions {
        actions: &'static [Action],
        kind: Option<Kind>,
        scope: Scope,
    },
}

/// Which resources of a kind a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
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

/// Whether something is allowed, and by which definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The name of the definition that allows it; `None` when nothing does.
    pub binding: Option<Arc<str>>,
}

impl Decision {
    /// Whether it is allowed.
    pub fn allowed(&self) -> bool {
        self.binding.is_some()
    }
}

impl Policy {
    /// Compiles definitions, given by name.
    pub fn compile<'a>(definitions: impl IntoIterator<Item = (&'a str, &'a RbacSpec)>) -> Self {
        let mut users: HashMap<Id, Grants> = HashMap::new();
        for (name, definition) in definitions {
            let name: Arc<str> = name.into();
            let grants: Vec<Grant> =
                definition.role_bindings.iter().filter_map(|binding| Grant::new(&name, binding)).collect();
            for subject in definition.subjects.iter().filter(|subject| subject.kind == "User") {
                users.entry(subject.id.clone()).or_default().0.extend(grants.iter().cloned());
            }
        }
        Self { users: users.into_iter().map(|(id, grants)| (id, Arc::new(grants))).collect() }
    }

    /// What the user with this id may do.
    pub fn grants(&self, user: &Id) -> Arc<Grants> {
        self.users.get(user).cloned().unwrap_or_default()
    }
}

impl Grant {
    fn new(definition: &Arc<str>, binding: &RoleBinding) -> Option<Self> {
        let what = match (binding.action, &binding.resource) {
            (Some(operation), _) => What::Operation(operation),
            (None, Some(resource)) => {
                let kind = if resource == "*" { None } else { Some(Kind::parse(resource)?) };
                What::Actions { actions: binding.role.actions(), kind, scope: Scope::of(binding) }
            }
            (None, None) => return None,
        };
        Some(Self { definition: definition.clone(), what })
    }

    fn allows(&self, permission: &Permission) -> bool {
        match (&self.what, permission) {
            (What::Operation(granted), Permission::Operation(wanted)) => granted == wanted,
            (What::Actions { actions, kind, scope }, Permission::Kind(action, wanted)) => {
                *scope == Scope::All && actions.contains(action) && kind.is_none_or(|kind| kind == *wanted)
            }
            (What::Actions { .. }, Permission::Resource { action, kind, name, id }) => {
                self.allows_on(*action, *kind, name, id.as_ref())
            }
            (What::Operation(_), _) | (What::Actions { .. }, Permission::Operation(_)) => false,
        }
    }

    fn allows_on(&self, action: Action, wanted: Kind, name: &str, id: Option<&Id>) -> bool {
        let What::Actions { actions, kind, scope } = &self.what else { return false };
        actions.contains(&action) && kind.is_none_or(|kind| kind == wanted) && scope.covers(name, id)
    }
}

impl Grant {
    /// Whether this grant by itself gives `action` on all of `wanted` of a kind, or of every kind.
    fn covers(&self, action: Action, wanted_kind: Option<Kind>, wanted: &Scope) -> bool {
        let What::Actions { actions, kind, scope } = &self.what else { return false };
        let kind_fits = kind.is_none() || *kind == wanted_kind;
        actions.contains(&action) && kind_fits && scope.contains(wanted)
    }
}

impl Scope {
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

impl Grants {
    /// Every action on every kind, and every operation, in the name of `definition`.
    pub fn everything(definition: &str) -> Self {
        let definition: Arc<str> = definition.into();
        let operations = Operation::ALL.into_iter().map(What::Operation);
        let actions = What::Actions { actions: &Action::ALL, kind: None, scope: Scope::All };
        let all = operations.chain([actions]);
        Self(all.map(|what| Grant { definition: definition.clone(), what }).collect())
    }

    /// What role bindings give, in the name of `definition`.
    pub fn of_bindings(definition: &str, bindings: &[RoleBinding]) -> Self {
        let definition: Arc<str> = definition.into();
        Self(bindings.iter().filter_map(|binding| Grant::new(&definition, binding)).collect())
    }

    /// Those of these grants that `others` does not cover.
    #[must_use]
    pub fn beyond(&self, others: &Self) -> Self {
        Self(self.0.iter().filter(|grant| others.missing_for(grant).is_some()).cloned().collect())
    }

    /// The first permission that `wanted` gives and these grants do not; `None` when they cover all of it.
    pub fn first_not_covered(&self, wanted: &Self) -> Option<String> {
        wanted.0.iter().find_map(|grant| self.missing_for(grant))
    }

    /// What is missing to hold all that `wanted` gives.
    fn missing_for(&self, wanted: &Grant) -> Option<String> {
        match &wanted.what {
            What::Operation(operation) => {
                let wanted = Permission::Operation(*operation);
                (!self.decide(&wanted).allowed()).then(|| wanted.to_string())
            }
            What::Actions { actions, kind, scope } => actions
                .iter()
                .find(|action| !self.0.iter().any(|grant| grant.covers(**action, *kind, scope)))
                .map(|action| {
                    let kind = kind.map_or("*", |kind| kind.def().plural);
                    let name = match scope {
                        Scope::All | Scope::Nothing => String::new(),
                        Scope::Resource { name, .. } => format!(":{name}"),
                        Scope::Prefix(prefix) => format!(":{prefix}*"),
                    };
                    format!("{}:{kind}{name}", action.as_str())
                }),
        }
    }

    /// Whether `permission` is granted, and by which definition.
    pub fn decide(&self, permission: &Permission) -> Decision {
        let grant = self.0.iter().find(|grant| grant.allows(permission));
        Decision { binding: grant.map(|grant| grant.definition.clone()) }
    }

    /// Whether `action` on the resource of this name is granted; its id is `None` when there is no such resource.
    pub fn allow_on(&self, action: Action, kind: Kind, name: &str, id: Option<&Id>) -> bool {
        self.0.iter().any(|grant| grant.allows_on(action, kind, name, id))
    }

    /// Whether a list of `kind` may be asked for: whether anything of the kind could be in it.
    pub fn may_list(&self, action: Action, kind: Kind) -> bool {
        self.0.iter().any(|grant| match &grant.what {
            What::Operation(_) => false,
            What::Actions { actions, kind: granted, scope } => {
                actions.contains(&action)
                    && granted.is_none_or(|granted| granted == kind)
                    && *scope != Scope::Nothing
            }
        })
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
