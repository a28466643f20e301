//! The file of a backup: everything a server keeps, encrypted with a passphrase.
//!
//! Pure: bytes in, bytes out. [`write()`] makes a file of what a server tells, [`read`] gives it back once all of it has
//! proven to be whole. The file is a header, and chunks in the STREAM construction: XChaCha20-Poly1305 under a key that
//! argon2id derives from the passphrase. A chunk cannot be changed, left out, moved or repeated, and the last one is
//! marked, so a file that was cut off does not open. Inside are lines of JSON: a [`Manifest`], then one resource each.

mod contents;
mod header;
mod open;
mod seal;

pub use contents::{Contents, Manifest, read, write};
pub use open::Opener;
pub use seal::Sealer;

/// How much is encrypted at a time.
const CHUNK: usize = 64 * 1024;

/// What authenticates a chunk.
const TAG: usize = 16;

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
