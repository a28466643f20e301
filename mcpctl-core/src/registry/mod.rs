//! The control plane: validate, authorise, commit, publish.
//!
//! [`Registry`] is the one way to what is stored. Reads come from a [`Snapshot`] in memory, which follows the
//! store; writes are decided on what the store holds now, and committed under the conditions of that decision.

mod access;
mod backends;
mod copies;
#[cfg(feature = "openbao")]
mod credentials;
mod draft;
mod hooks;
mod keys;
mod legacy;
mod limited;
mod login;
mod migrate;
mod open;
mod password;
mod query;
mod references;
mod secrets;
mod snapshot;
mod tokens;
mod trail;
mod write;

pub use access::{CanI, WhoCan};
pub use login::{LoggedIn, NewAdmin, Origin};
pub use migrate::{MigrationOrder, MigrationReport};
pub use open::{Registry, RegistryBuilder};
pub use query::{ListQuery, Page};
pub use snapshot::{LlmEntry, Shelf, Snapshot};

pub use write::Created;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod tests;
