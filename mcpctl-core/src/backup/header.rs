//! The beginning of a file: what it is, and how the key comes from the passphrase.

use std::io::{self, Read};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    random,
};

/// What a file begins with.
const MAGIC: &[u8; 13] = b"mcpctl-backup";
/// The version of the format, which follows.
const FORMAT: u8 = 1;
const SALT: usize = 32;
/// What STREAM leaves of XChaCha20's nonce: it counts in four bytes, and marks the last chunk in one.
pub(super) const NONCE: usize = 19;
const LENGTH: usize = MAGIC.len() + 1 + 3 * 4 + SALT + NONCE;

/// The most that a file may ask for: whoever hands one over decides on it.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 64;
const MOST_LANES: u32 = 64;

/// What deriving the key costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Cost {
    /// The second recommendation of RFC 9106.
    pub(super) const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
}

/// The header of a file: its bytes, which every chunk authenticates, and what they say.
pub(super) struct Header {
    pub(super) bytes: Vec<u8>,
    pub(super) nonce: [u8; NONCE],
    cost: Cost,
    salt: [u8; SALT],
}

impl Header {
    /// A header with a salt and a nonce of its own.
    pub(super) fn new(cost: Cost) -> Self {
        let (salt, nonce) = (random::bytes(), random::bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT);
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(salt);
        bytes.extend(nonce);
        Self { bytes, nonce, cost, salt }
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    ///
    /// Invalid, when it is none.
    pub(super) fn read(input: &mut impl Read) -> Result<Self> {
        let mut bytes = Vec::with_capacity(LENGTH);
        let limit = u64::try_from(LENGTH).unwrap_or(u64::MAX);
        input.take(limit).read_to_end(&mut bytes).map_err(|cause| broken(&cause))?;
        let Some(rest) = bytes.strip_prefix(MAGIC.as_slice()) else {
            return Err(Error::invalid("this is no backup: it does not begin as one"));
        };
        match rest.first() {
            Some(&FORMAT) => {}
            Some(other) => {
                return Err(Error::invalid(format!(
                    "this backup has format {other}, and this program knows format {FORMAT}: use a newer one"
                )));
            }
            None => return Err(cut_off()),
        }
        let mut rest = rest.get(1..).unwrap_or_default();
        let cost = Cost {
            memory_kib: u32::from_be_bytes(take(&mut rest)?),
            passes: u32::from_be_bytes(take(&mut rest)?),
            lanes: u32::from_be_bytes(take(&mut rest)?),
        };
        let (salt, nonce) = (take(&mut rest)?, take(&mut rest)?);
        if cost.memory_kib > MOST_MEMORY_KIB || cost.passes > MOST_PASSES || cost.lanes > MOST_LANES {
            return Err(Error::invalid(
                "the backup's header asks for more memory or time than any backup does",
            ));
        }
        Ok(Self { bytes, nonce, cost, salt })
    }

    /// The key for this file.
    ///
    /// # Errors
    ///
    /// Invalid, when the header asks for what argon2id cannot do.
    pub(super) fn key(&self, passphrase: &str) -> Result<Zeroizing<[u8; 32]>> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let params = Params::new(memory_kib, passes, lanes, Some(32))
            .map_err(|_| Error::invalid("the backup's header is damaged"))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, key.as_mut_slice())
            .map_err(|_| Error::invalid("no key can be derived from this passphrase"))?;
        Ok(key)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().ok_or_else(cut_off)?;
    *rest = left;
    Ok(*taken)
}

pub(super) fn cut_off() -> Error {
    Error::invalid("the backup is cut off")
}

/// The error for a file that cannot be read to its end.
pub(super) fn broken(cause: &io::Error) -> Error {
    Error::invalid(format!("reading the backup: {cause}"))
}
