//! What a secret backend can do.

use std::fmt;

use async_trait::async_trait;

use super::{SecretData, SecretValue};
use crate::{
    error::Result,
    resource::{ApiKeyRef, Id},
    store::Write,
};

/// Where one Secret's values are, at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The Secret's id.
    pub id: Id,
    /// The Secret's name.
    pub name: String,
    /// The version of the values: it grows with every write of them.
    pub version: i64,
}

/// What a backend holds for a Secret.
#[derive(Debug, Default)]
pub struct Found {
    /// The values.
    pub data: SecretData,
    /// The backend's own count of their writes; 0 where it has none.
    pub revision: i64,
}

/// What a write may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing: no values of that name may be there, except for the same.
    Nothing,
    /// What was found at this revision, and nothing that somebody has put there since.
    Revision(i64),
    /// Whatever is there.
    Anything,
}

/// The outcome of keeping values.
#[derive(Debug, Default)]
pub struct Stored {
    /// Where the values are, for a backend that is not the server's own database.
    pub external_ref: String,
    /// The backend's own count of their writes.
    pub revision: i64,
    /// What has to be written together with the Secret's row.
    pub writes: Vec<Write>,
}

/// What a look at a backend found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether it can be used for everything.
    pub ok: bool,
    /// In what state it is.
    pub message: String,
    /// What is wrong.
    pub fault: Option<BackendFault>,
}

/// Why a backend that is not the server's own database failed. It is the source of such an
/// [`Error`](crate::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// It cannot be reached.
    Unreachable,
    /// It has not answered in time.
    Timeout,
    /// It is sealed.
    Sealed,
    /// It refused our credential, or what it may do.
    Permission,
    /// It has nothing there.
    NotFound,
    /// Somebody else has written there.
    Changed,
    /// It answered something that is no answer of its kind.
    Malformed,
    /// It answered with another error.
    Refused,
}

impl BackendFault {
    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Sealed => "sealed",
            Self::Permission => "permission",
            Self::NotFound => "not-found",
            Self::Changed => "changed",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }

    /// The fault behind an error, if there is one.
    pub fn of(error: &crate::Error) -> Option<Self> {
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            if let Some(fault) = next.downcast_ref::<Self>() {
                return Some(*fault);
            }
            cause = next.source();
        }
        None
    }
}

impl fmt::Display for BackendFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for BackendFault {}

/// Where a backend gets its own credentials from: a Secret of another backend.
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// The value of a key in a Secret, as it is now.
    ///
    /// # Errors
    ///
    /// Secret unavailable, sealed or unavailable.
    async fn credential(&self, at: &ApiKeyRef) -> Result<SecretValue>;
}

/// Keeps the values of Secrets.
#[async_trait]
pub trait SecretBackend: Send + Sync + 'static {
    /// The values of a Secret.
    ///
    /// # Errors
    ///
    /// Secret unavailable, sealed or unavailable. The message says what failed and holds no value.
    async fn read(&self, slot: &Slot) -> Result<Found>;

    /// Keeps the values of a Secret.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); conflict, when what is there is not what may be replaced.
    async fn write(&self, slot: &Slot, data: &SecretData, over: Over) -> Result<Stored>;

    /// What has to be written to forget the values of a Secret, together with the deletion of its row.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    async fn delete(&self, slot: &Slot) -> Result<Vec<Write>>;

    /// Forgets the values of a Secret that are not in the server's own database, with all their versions. That
    /// there are none is fine.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    async fn erase(&self, slot: &Slot) -> Result<()> {
        let _ = slot;
        Ok(())
    }

    /// Whether values are kept elsewhere than in the server's own database: then they and the Secret's row do
    /// not change in one transaction.
    fn is_external(&self) -> bool {
        false
    }

    /// Looks whether the backend can be used.
    ///
    /// # Errors
    ///
    /// When that could not even be found out.
    async fn check(&self) -> Result<Checked> {
        Ok(Checked { ok: true, message: "the server's own database".to_owned(), fault: None })
    }
}
