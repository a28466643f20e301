//! The control plane: validate, authorise, commit, publish.
//!
//! [`Registry`] is the one way to what is stored. Reads come from a [`Snapshot`] in memory, which follows the
//! store; writes are decided on what the store holds now, and committed under the conditions of that decision.

mod access;
mod apply;
mod backends;
mod backup;
mod copies;
#[cfg(feature = "openbao")]
mod credentials;
mod draft;
mod hooks;
mod keys;
mod leases;
mod legacy;
mod limited;
mod lockout;
mod login;
mod migrate;
mod open;
mod password;
mod project;
mod query;
mod references;
mod rehearsal;
mod rekey;
mod restore;
mod secrets;
mod snapshot;
mod tokens;
mod trail;
mod watch;
mod write;

pub use access::{CanI, WhoCan};
pub use apply::{Applied, ApplyMode, Done, Wanted};
pub use backup::Backup;
pub use login::{LoggedIn, NewAdmin, Origin};
pub use migrate::{MigrationOrder, MigrationReport};
pub use open::{Registry, RegistryBuilder};
pub use project::{LlmStatus, ProjectLlm};
pub use query::{ListQuery, Page};
pub use rekey::Rekeyed;
pub use restore::{OnConflict, RestoreMode, Restored, RestoredAs};
pub use snapshot::{LlmEntry, Shelf, Snapshot};

pub use watch::{Happened, Watch};
pub use write::Created;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;
