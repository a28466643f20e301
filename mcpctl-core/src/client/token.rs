//! The credential a client sends.

use std::fmt;

use zeroize::Zeroizing;

/// A session's or API token. `Debug` hides it, nothing prints or serialises it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the token's text, without the white space that copying and files put around it.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The token itself, for the one place that writes it down.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_it_and_surrounding_space_goes() {
        let token = Token::new(" t0p-secret\n");
        assert_eq!(token.reveal(), "t0p-secret");
        assert!(!format!("{token:?}").contains("t0p"));
    }
}
