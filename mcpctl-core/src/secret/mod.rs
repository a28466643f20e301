//! Secret values: how they are kept, and how a reference becomes a value.

mod driver;
mod envelope;
mod key_file;
mod master_key;
#[cfg(feature = "openbao")]
mod openbao;
mod plaintext;
mod value;

pub use driver::{BackendFault, Checked, Credentials, Found, Over, SecretBackend, Slot, Stored};
pub use envelope::Keyring;
pub use master_key::MasterKey;
#[cfg(feature = "openbao")]
pub use openbao::OpenBaoBackend;
pub use plaintext::PlaintextBackend;
pub use value::{SecretData, SecretValue};
