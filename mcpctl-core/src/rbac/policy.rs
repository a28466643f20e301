//! The evaluator: from definitions to decisions, each with the binding that decided.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::{Action, Operation, Permission, grant::Grant, grant::Scope};
use crate::resource::{Id, Kind, RbacSpec, RoleBinding};

/// Who may do what, by subject. What groups have counts for each of their users.
#[derive(Debug, Default)]
pub struct Policy {
    subjects: HashMap<Id, Arc<Grants>>,
}

/// An RBAC definition, compiled: what it gives to each of its subjects.
#[derive(Debug)]
pub struct Definition {
    name: Arc<str>,
    grants: Vec<Grant>,
    /// The ids of its subjects, of whichever kind.
    subjects: Vec<Id>,
}

/// What a principal has been given: the union of its definitions. Nothing, unless granted.
#[derive(Clone, Debug, Default)]
pub struct Grants(Vec<Given>);

/// A definition, and how it reaches the principal.
#[derive(Clone, Debug)]
struct Given {
    definition: Arc<Definition>,
    /// The name of the group it was given to.
    group: Option<Arc<str>>,
}

/// A group, as the policy needs it.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The group's id.
    pub group: Id,
    /// The group's name.
    pub name: Arc<str>,
    /// The ids of its users.
    pub members: Vec<Id>,
}

/// Whether something is allowed, and by which definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The name of the definition that allows it; `None` when nothing does.
    pub binding: Option<Arc<str>>,
    /// The name of the group through which it counts, when it is not the principal's own.
    pub group: Option<Arc<str>>,
}

impl Decision {
    /// Whether it is allowed.
    pub fn allowed(&self) -> bool {
        self.binding.is_some()
    }
}

impl Definition {
    /// Compiles a stored definition.
    pub fn new(name: &str, spec: &RbacSpec) -> Self {
        let subjects = spec.subjects.iter().map(|subject| subject.id.clone()).collect();
        Self { subjects, ..Self::of_bindings(name, &spec.role_bindings) }
    }

    /// What role bindings give, in the name of `name`.
    pub fn of_bindings(name: &str, bindings: &[RoleBinding]) -> Self {
        Self {
            name: name.into(),
            grants: bindings.iter().filter_map(Grant::new).collect(),
            subjects: Vec::new(),
        }
    }

    /// Whether it gives `permission` to its subjects.
    pub fn allows(&self, permission: &Permission) -> bool {
        self.grants.iter().any(|grant| grant.allows(permission))
    }
}

impl Policy {
    /// Puts together definitions and the groups that they may name.
    pub fn new<'a>(
        definitions: impl IntoIterator<Item = &'a Arc<Definition>>,
        groups: impl IntoIterator<Item = &'a Membership>,
    ) -> Self {
        let mut subjects: HashMap<Id, Grants> = HashMap::new();
        for definition in definitions {
            for subject in &definition.subjects {
                let given = Given { definition: definition.clone(), group: None };
                subjects.entry(subject.clone()).or_default().0.push(given);
            }
        }
        for Membership { group, name, members } in groups {
            let Some(Grants(theirs)) = subjects.get(group) else { continue };
            let through: Vec<Given> = theirs
                .iter()
                .map(|given| Given { definition: given.definition.clone(), group: Some(name.clone()) })
                .collect();
            for member in members {
                subjects.entry(member.clone()).or_default().0.extend(through.iter().cloned());
            }
        }
        Self { subjects: subjects.into_iter().map(|(id, grants)| (id, Arc::new(grants))).collect() }
    }

    /// What the user, group or token with this id has been given.
    pub fn grants(&self, subject: &Id) -> Arc<Grants> {
        self.subjects.get(subject).cloned().unwrap_or_default()
    }
}

impl From<Arc<Definition>> for Grants {
    fn from(definition: Arc<Definition>) -> Self {
        Self(vec![Given { definition, group: None }])
    }
}

impl Grants {
    /// Every action on every kind, and every operation, in the name of `definition`.
    pub fn everything(definition: &str) -> Self {
        let operations = Operation::ALL.into_iter().map(Grant::Operation);
        let actions = Grant::Actions { actions: &Action::ALL, kind: None, scope: Scope::All };
        let grants = operations.chain([actions]).collect();
        Self::from(Arc::new(Definition { name: definition.into(), grants, subjects: Vec::new() }))
    }

    /// Whether nothing has been given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).cloned().collect())
    }

    fn all(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().flat_map(|given| &given.definition.grants)
    }

    /// Whether `permission` is granted, and by which definition.
    pub fn decide(&self, permission: &Permission) -> Decision {
        match self.0.iter().find(|given| given.definition.allows(permission)) {
            Some(given) => {
                Decision { binding: Some(given.definition.name.clone()), group: given.group.clone() }
            }
            None => Decision::default(),
        }
    }

    /// Whether `action` on the resource of this name is granted; its id is `None` when there is no such resource.
    pub fn allow_on(&self, action: Action, kind: Kind, name: &str, id: Option<&Id>) -> bool {
        self.all().any(|grant| grant.allows_on(action, kind, name, id))
    }

    /// Whether `action` is granted on anything that there is or could be of `kind`.
    pub fn touch(&self, action: Action, kind: Kind) -> bool {
        self.all().any(|grant| grant.touches(action, kind))
    }

    /// Those of these grants that `others` does not cover.
    #[must_use]
    pub fn beyond(&self, others: &Self) -> Self {
        let grants = self.all().filter(|grant| others.missing_for(grant).is_some()).cloned().collect();
        Self::from(Arc::new(Definition { name: "".into(), grants, subjects: Vec::new() }))
    }

    /// The first permission that `wanted` gives and these grants do not; `None` when they cover all of it.
    pub fn first_not_covered(&self, wanted: &Self) -> Option<String> {
        wanted.all().find_map(|grant| self.missing_for(grant))
    }

    /// What is missing to hold all that `wanted` gives.
    fn missing_for(&self, wanted: &Grant) -> Option<String> {
        match wanted {
            Grant::Operation(operation) => {
                let wanted = Permission::Operation(*operation);
                (!self.decide(&wanted).allowed()).then(|| wanted.to_string())
            }
            Grant::Actions { actions, kind, scope } => actions
                .iter()
                .find(|action| !self.all().any(|grant| grant.covers(**action, *kind, scope)))
                .map(|action| wanted.written(*action)),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
