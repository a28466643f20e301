//! What a secret backend can do.

use async_trait::async_trait;

use super::SecretData;
use crate::{error::Result, resource::Id, store::Write};

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

/// The outcome of keeping values.
#[derive(Debug, Default)]
pub struct Stored {
    /// Where the values are, for a backend that is not the server's own database.
    pub external_ref: String,
    /// What has to be written together with the Secret's row.
    pub writes: Vec<Write>,
}

/// Keeps the values of Secrets.
#[async_trait]
pub trait SecretBackend: Send + Sync + 'static {
    /// The values of a Secret.
    ///
    /// # Errors
    ///
    /// Secret unavailable, sealed or unavailable. The message says what failed and holds no value.
    async fn read(&self, slot: &Slot) -> Result<SecretData>;

    /// Keeps the values of a Secret, replacing what was there.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    async fn write(&self, slot: &Slot, data: &SecretData) -> Result<Stored>;

    /// What has to be written to forget the values of a Secret, together with the deletion of its row.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    async fn delete(&self, slot: &Slot) -> Result<Vec<Write>>;
}
