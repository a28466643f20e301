//! What can go wrong with a database, and what callers are told.

use std::{error::Error as StdError, fmt, time::Duration};

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::{error::Error, store::Condition};

/// When a caller should come back to a database that is away.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why work on a connection ended without a result.
pub(super) enum Fault {
    /// A condition of a transaction does not hold.
    Refused(Condition),
    /// The database said so.
    Database(DieselError),
    /// What the database holds cannot be read, or cannot be written.
    Stored(Stored),
}

/// A row that cannot be read or written.
#[derive(Debug)]
pub(super) struct Stored {
    row: String,
    cause: Box<dyn StdError + Send + Sync>,
}

/// What databases say, beyond what diesel tells apart, when they are locked, full, or coming or going.
const AWAY: &[&str] = &[
    // SQLite
    "database is locked",
    "table is locked",
    "disk I/O error",
    "disk is full",
    "unable to open database file",
    "readonly database",
    "locking protocol",
    // PostgreSQL
    "administrator command",
    "the database system is",
    "crash of another server process",
    "too many clients",
    "connection slots",
    "statement timeout",
    "lock timeout",
    "deadlock detected",
    "No space left on device",
];

impl Fault {
    /// The fault as callers see it. `timed_out` tells that the work took as long as the database lets it.
    pub(super) fn into_error(self, timed_out: bool) -> Error {
        match self {
            Self::Database(cause) if timed_out || is_away(&cause) => unavailable().caused_by(cause),
            Self::Database(cause) => Error::internal(cause),
            Self::Stored(cause) => Error::internal(cause),
            Self::Refused(condition) => Error::internal(format!("refused outside a commit: {condition:?}")),
        }
    }
}

/// The database is away.
pub(super) fn unavailable() -> Error {
    Error::unavailable("the database is not available; try again in a moment", RETRY_AFTER)
}

fn is_away(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction => true,
            DatabaseErrorKind::Unknown => AWAY.iter().any(|text| information.message().contains(text)),
            _ => false,
        },
        DieselError::RollbackErrorOnCommit { commit_error, .. } => is_away(commit_error),
        DieselError::BrokenTransactionManager => true,
        _ => false,
    }
}

impl From<DieselError> for Fault {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

impl From<Stored> for Fault {
    fn from(error: Stored) -> Self {
        Self::Stored(error)
    }
}

impl Stored {
    /// Makes the error of a row from its cause: `map_err(Stored::new("object", id))`.
    pub(super) fn new<E: Into<Box<dyn StdError + Send + Sync>>>(
        what: &str,
        id: &str,
    ) -> impl FnOnce(E) -> Self {
        let row = format!("{what} `{id}`");
        move |cause| Self { row, cause: cause.into() }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored {}", self.row)
    }
}

impl StdError for Stored {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}
