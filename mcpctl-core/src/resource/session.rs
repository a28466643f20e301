//! Sessions: tokens that stand for a user, kept by their hash alone.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Id;

/// The SHA-256 of a token. Tokens are 256 random bits, so the hash needs no salt and gives nothing away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads the hexadecimal form.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A login that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The hash of its token.
    pub token: TokenHash,
    /// Whose it is.
    pub user_id: Id,
    /// When it began, to the microsecond.
    pub created_at: Timestamp,
    /// When it ends by itself, to the microsecond.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_form_goes_there_and_back() {
        let hash = TokenHash::of("mcpctl");
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(TokenHash::from_hex("ab"), None);
        assert_eq!(TokenHash::from_hex(&"g".repeat(64)), None);
    }
}
