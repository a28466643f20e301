//! Values that must not be seen.

use std::{collections::BTreeMap, fmt};

use zeroize::Zeroizing;

/// A secret text. `Debug` prints no part of it, there is no `Display` and no `Serialize`, and its memory is
/// wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

/// The values of a Secret, by key.
pub type SecretData = BTreeMap<String, SecretValue>;

impl SecretValue {
    /// Takes over a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Whoever calls this decides where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let data = SecretData::from([("token".to_owned(), SecretValue::new("hunter2"))]);
        assert_eq!(format!("{data:?}"), r#"{"token": SecretValue(…)}"#);
    }
}
