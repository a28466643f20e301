//! Names of tools and ids of their calls: OpenAI allows characters that Anthropic does not.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// The longest name that Anthropic takes.
const MAX_NAME: usize = 128;

/// Maps what Anthropic would refuse, the same way every time, so that a later request with the same history gets the
/// same names and hits the same cache.
#[derive(Default)]
pub(super) struct Names {
    to_caller: HashMap<String, String>,
}

impl Names {
    /// The tool's name for the provider, remembered for the way back.
    pub(super) fn tool(&mut self, name: String) -> String {
        if fits(&name) && name.len() <= MAX_NAME {
            return name;
        }
        let mapped = map(&name);
        self.to_caller.insert(mapped.clone(), name);
        mapped
    }

    /// From the provider's names to the caller's.
    pub(super) fn into_map(self) -> HashMap<String, String> {
        self.to_caller
    }
}

/// A call's id for the provider. The answer holds only ids of the provider's own, so there is no way back.
pub(super) fn call_id(id: String) -> String {
    if fits(&id) { id } else { map(&id) }
}

fn fits(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_allowed)
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Readable, and different for different names: two that differ only in what is replaced have other digests.
fn map(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let mut mapped: String =
        name.chars().take(100).map(|c| if u8::try_from(c).is_ok_and(is_allowed) { c } else { '_' }).collect();
    mapped.push('_');
    for byte in digest.iter().take(8) {
        mapped.push_str(&format!("{byte:02x}"));
    }
    mapped
}
