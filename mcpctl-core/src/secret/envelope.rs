//! Envelope encryption of values at rest.
//!
//! Each value has a random data key of its own (XChaCha20-Poly1305), which the master key wraps. Both seals are
//! bound to the owner's id, the value's version and the master key's id, so a row that is copied over another,
//! or an old row that is put back, does not open.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MasterKey;
use crate::{
    error::{Error, ErrorKind, Result},
    random,
};

/// The master keys: one that writes, and those that may still read.
#[derive(Clone, Debug)]
pub struct Keyring {
    write: MasterKey,
    read: Vec<MasterKey>,
}

/// A sealed value as it is stored.
#[derive(Serialize, Deserialize)]
struct Envelope {
    /// The version of this format.
    v: u8,
    /// The id of the master key that wraps the data key.
    kid: String,
    /// Nonce and wrapped data key.
    dek: String,
    /// Nonce and encrypted value.
    data: String,
}

const FORMAT: u8 = 1;
const NONCE: usize = 24;

impl Keyring {
    /// A ring whose one key writes and reads.
    pub fn new(key: MasterKey) -> Self {
        Self { write: key, read: Vec::new() }
    }

    /// Adds a key that may read what it once wrote.
    #[must_use]
    pub fn also_reading(mut self, key: MasterKey) -> Self {
        self.read.push(key);
        self
    }

    /// The id of the key that writes.
    pub fn write_id(&self) -> &str {
        self.write.id()
    }

    /// The ids of the keys that only read.
    pub fn read_ids(&self) -> impl Iterator<Item = &str> {
        self.read.iter().map(MasterKey::id)
    }

    /// The same ring without the keys that only read.
    pub(super) fn writing_alone(&self) -> Self {
        Self::new(self.write.clone())
    }

    /// Every key, the one that writes first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.write).chain(&self.read)
    }

    /// The id of the key that a sealed value was wrapped with; `None` when it is damaged.
    pub fn wrapped_by(sealed: &str) -> Option<String> {
        serde_json::from_str::<Envelope>(sealed).ok().map(|envelope| envelope.kid)
    }

    /// Encrypts `value`, bound to its `owner` and `version`.
    pub fn seal(&self, owner: &str, version: i64, value: &[u8]) -> Result<String> {
        let kid = self.write.id();
        let data_key = Zeroizing::new(random::bytes::<32>());
        let bound = associated(owner, version, kid);
        let envelope = Envelope {
            v: FORMAT,
            kid: kid.to_owned(),
            dek: encrypt(self.write.bytes(), data_key.as_slice(), &bound)?,
            data: encrypt(&data_key, value, &bound)?,
        };
        serde_json::to_string(&envelope).map_err(Error::internal)
    }

    /// Decrypts what [`seal`](Self::seal) made for the same owner and version.
    ///
    /// # Errors
    ///
    /// Sealed, when no key of the ring wrapped it; secret unavailable, when it was changed or belongs elsewhere.
    pub fn open(&self, owner: &str, version: i64, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let damaged =
            || Error::new(ErrorKind::SecretUnavailable, "its stored value is damaged or was tampered with");
        let envelope: Envelope = serde_json::from_str(sealed).map_err(|_| damaged())?;
        if envelope.v != FORMAT {
            return Err(damaged());
        }
        let key = self.keys().find(|key| key.id() == envelope.kid).ok_or_else(|| {
            Error::new(
                ErrorKind::Sealed,
                "its stored value was encrypted with another master key than the one in use",
            )
        })?;
        let bound = associated(owner, version, &envelope.kid);
        let data_key = decrypt(key.bytes(), &envelope.dek, &bound).ok_or_else(damaged)?;
        let data_key: &[u8; 32] = data_key.as_slice().try_into().map_err(|_| damaged())?;
        decrypt(data_key, &envelope.data, &bound).ok_or_else(damaged)
    }
}

/// What a seal is bound to. Ids hold no `|`.
fn associated(owner: &str, version: i64, kid: &str) -> String {
    format!("mcpctl|{FORMAT}|{owner}|{version}|{kid}")
}

fn encrypt(key: &[u8; 32], plain: &[u8], bound: &str) -> Result<String> {
    let nonce = random::bytes::<NONCE>();
    let payload = Payload { msg: plain, aad: bound.as_bytes() };
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| Error::internal("a value is too long to encrypt"))?;
    Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
}

fn decrypt(key: &[u8; 32], sealed: &str, bound: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: sealed, aad: bound.as_bytes() };
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_for_its_owner_and_version() {
        let ring = Keyring::new(MasterKey::generate());
        let sealed = ring.seal("ca", 1, b"value").unwrap();
        assert_eq!(ring.open("ca", 1, &sealed).unwrap().as_slice(), b"value");
        assert_eq!(ring.open("cb", 1, &sealed).unwrap_err().kind(), ErrorKind::SecretUnavailable);
        assert_eq!(ring.open("ca", 2, &sealed).unwrap_err().kind(), ErrorKind::SecretUnavailable);
        assert!(!sealed.contains("value\""));
        assert_ne!(sealed, ring.seal("ca", 1, b"value").unwrap());
    }

    #[test]
    fn every_flipped_byte_fails_closed() {
        let ring = Keyring::new(MasterKey::generate());
        let sealed = ring.seal("ca", 1, b"v").unwrap();
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            // Flipping the low bits of base64 padding can leave the bytes as they were.
            if let Ok(opened) = ring.open("ca", 1, &changed) {
                assert_eq!(opened.as_slice(), b"v", "at {at}");
            }
        }
        for rubbish in ["", "{}", "null", r#"{"v":1,"kid":"","dek":"","data":""}"#, &sealed[..20]] {
            assert!(ring.open("ca", 1, rubbish).is_err());
        }
    }

    #[test]
    fn an_old_key_may_read_and_a_foreign_one_may_not() {
        let (old, new) = (MasterKey::generate(), MasterKey::generate());
        let sealed = Keyring::new(old.clone()).seal("ca", 1, b"v").unwrap();
        assert!(Keyring::new(new.clone()).also_reading(old).open("ca", 1, &sealed).is_ok());
        assert_eq!(Keyring::new(new).open("ca", 1, &sealed).unwrap_err().kind(), ErrorKind::Sealed);
    }
}
