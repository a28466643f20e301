//! Secret values: how they are kept, and how a reference becomes a value.

mod driver;
mod envelope;
mod key_file;
mod master_key;
mod plaintext;
mod value;

pub use driver::{SecretBackend, Slot, Stored};
pub use envelope::Keyring;
pub use master_key::MasterKey;
pub use plaintext::PlaintextBackend;
pub use value::{SecretData, SecretValue};
