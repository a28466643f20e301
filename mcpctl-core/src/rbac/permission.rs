//! The words of access control: actions, operations, roles, permissions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::{Id, Kind};

/// What can be done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read it.
    View,
    /// Make one.
    Create,
    /// Change it.
    Edit,
    /// Delete it.
    Delete,
    /// Use it: for an Llm, spend on it.
    Run,
    /// Make it reachable for others.
    Expose,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 6] = [Self::View, Self::Create, Self::Edit, Self::Delete, Self::Run, Self::Expose];

    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Run => "run",
            Self::Expose => "expose",
        }
    }

    /// Finds an action by name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// Something that is not done to one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Move secret values from one backend to another.
    MigrateSecrets,
    /// Read everything into one file.
    Backup,
    /// Write everything from one file.
    Restore,
    /// Read the audit log.
    Audit,
    /// Act for another user.
    Impersonate,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 5] =
        [Self::MigrateSecrets, Self::Backup, Self::Restore, Self::Audit, Self::Impersonate];

    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MigrateSecrets => "migrate-secrets",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Audit => "audit",
            Self::Impersonate => "impersonate",
        }
    }

    /// Finds an operation by name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

/// A set of actions with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// View.
    View,
    /// Create.
    Create,
    /// Delete.
    Delete,
    /// Run.
    Run,
    /// View, create, edit, delete, expose. Not run: managing the catalogue does not give the right to spend.
    Edit,
    /// View, expose.
    Expose,
}

impl Role {
    /// The names, as written.
    pub const NAMES: &'static [&'static str] = &["view", "create", "delete", "run", "edit", "expose"];

    /// The actions the role gives.
    pub const fn actions(self) -> &'static [Action] {
        match self {
            Self::View => &[Action::View],
            Self::Create => &[Action::Create],
            Self::Delete => &[Action::Delete],
            Self::Run => &[Action::Run],
            Self::Edit => &[Action::View, Action::Create, Action::Edit, Action::Delete, Action::Expose],
            Self::Expose => &[Action::View, Action::Expose],
        }
    }
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// An action on a kind as a whole: `create:llms`.
    Kind(Action, Kind),
    /// An action on one resource: `view:llms:gpt`.
    Resource {
        /// The action.
        action: Action,
        /// The resource's kind.
        kind: Kind,
        /// The resource's name, as the caller gave it when there is no such resource.
        name: String,
        /// The resource's id; `None` when there is no such resource.
        id: Option<Id>,
    },
    /// An operation.
    Operation(Operation),
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(action, kind) => write!(f, "{}:{kind}", action.as_str()),
            Self::Resource { action, kind, name, .. } => write!(f, "{}:{kind}:{name}", action.as_str()),
            Self::Operation(operation) => f.write_str(operation.as_str()),
        }
    }
}
