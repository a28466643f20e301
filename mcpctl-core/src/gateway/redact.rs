//! Taking our key out of what a provider says.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::secret::SecretValue;

/// Finds one secret, wherever it is repeated.
pub(super) struct Redactor(Finder<'static>);

const REDACTED: &[u8] = b"[redacted]";
/// Shorter secrets would be found in ordinary text.
const SHORTEST: usize = 8;

impl Redactor {
    /// One for `secret`; `None` when that is too short to be told from ordinary text.
    pub(super) fn new(secret: &SecretValue) -> Option<Self> {
        let secret = secret.expose().trim().as_bytes();
        (secret.len() >= SHORTEST).then(|| Self(Finder::new(secret).into_owned()))
    }

    /// The same bytes, not a copy, unless the secret is in them.
    pub(super) fn clean(&self, bytes: Bytes) -> Bytes {
        let mut cleaned: Option<Vec<u8>> = None;
        let mut rest = bytes.as_ref();
        while let Some(at) = self.0.find(rest) {
            let cleaned = cleaned.get_or_insert_default();
            let (before, found) = rest.split_at(at);
            cleaned.extend_from_slice(before);
            cleaned.extend_from_slice(REDACTED);
            rest = found.get(self.0.needle().len()..).unwrap_or_default();
        }
        match cleaned {
            None => bytes,
            Some(mut cleaned) => {
                cleaned.extend_from_slice(rest);
                cleaned.into()
            }
        }
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
