//! Transactions: conditions, and writes that happen all together or not at all.

use crate::resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash};

/// A transaction as in etcd: when every condition holds, every write and event is kept; else nothing is.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// What must be so.
    pub conditions: Vec<Condition>,
    /// What to write, in this order.
    pub writes: Vec<Write>,
    /// What to tell the audit trail, in the same transaction.
    pub events: Vec<AuditEvent>,
}

/// Something that must be so for a transaction to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The object is there, at this version.
    Version {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// Its version.
        version: i64,
    },
    /// No object of the kind has the name.
    NameAbsent {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// No object of the kind was written or deleted after the revision.
    KindUnchanged {
        /// The kind.
        kind: Kind,
        /// The last revision that counts as unchanged.
        since: Revision,
    },
    /// There is no encrypted value of the key.
    ValueAbsent {
        /// The key.
        key: String,
    },
}

/// A write.
#[derive(Clone)]
pub enum Write {
    /// Inserts the object, or replaces the one with its id. The store sets its revision.
    Put(Object),
    /// Deletes the object, if it is there.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
    /// Inserts or replaces an encrypted value.
    PutValue {
        /// Its key.
        key: String,
        /// The value, encrypted.
        value: String,
    },
    /// Deletes an encrypted value, if it is there.
    DeleteValue {
        /// Its key.
        key: String,
    },
    /// Inserts a session.
    PutSession(Session),
    /// Revokes a session, if it is there.
    RevokeSession(TokenHash),
    /// Revokes all sessions of a user.
    RevokeSessionsOf(Id),
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(object) => write!(f, "Put({} {} v{})", object.kind, object.name, object.version),
            Self::Delete { kind, id } => write!(f, "Delete({kind} {id})"),
            Self::PutValue { key, .. } => write!(f, "PutValue({key})"),
            Self::DeleteValue { key } => write!(f, "DeleteValue({key})"),
            Self::PutSession(session) => write!(f, "PutSession(of {})", session.user_id),
            Self::RevokeSession(_) => write!(f, "RevokeSession"),
            Self::RevokeSessionsOf(user) => write!(f, "RevokeSessionsOf({user})"),
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It happened, at this revision.
    Committed(Revision),
    /// This condition did not hold, and nothing happened.
    Refused(Condition),
}
