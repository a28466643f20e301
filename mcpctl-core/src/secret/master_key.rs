//! The key that wraps all others.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    random,
};

/// A 256-bit key that wraps the data keys of secret values. It is never stored beside what it protects.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; 32]>,
    id: String,
}

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_bytes(Zeroizing::new(random::bytes()))
    }

    /// Reads a key from 64 hexadecimal digits, or from the base64 form of 32 bytes.
    ///
    /// # Errors
    ///
    /// Invalid, when it is neither. The message does not quote it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let decoded = match hexadecimal(text) {
            Some(bytes) => bytes,
            None => Zeroizing::new(STANDARD.decode(text).unwrap_or_default()),
        };
        let mut bytes = Zeroizing::new([0; 32]);
        if decoded.len() != bytes.len() {
            return Err(Error::invalid(
                "the master key must be 32 bytes, in base64 or as 64 hexadecimal digits",
            ));
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self::from_bytes(bytes))
    }

    fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"mcpctl master key id\0");
        digest.update(bytes.as_slice());
        let id = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, id }
    }

    /// The key in base64, for a key file.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes.as_slice()))
    }

    /// A name for the key that gives nothing of it away.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

fn hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nothing_is_shown() {
        let key = MasterKey::generate();
        let base64 = key.to_base64();
        assert_eq!(MasterKey::parse(&format!(" {}\n", base64.as_str())).unwrap().id(), key.id());
        let hex: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(MasterKey::parse(&hex).unwrap().id(), key.id());
        assert!(!format!("{key:?}").contains(base64.as_str()));
        for bad in ["", "short", &hex[..62], "MTIz"] {
            assert!(MasterKey::parse(bad).is_err(), "{bad}");
        }
    }
}
