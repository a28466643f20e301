//! Ids and names.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A CUID: `c` and 24 lower-case letters or digits. Made by us, at random, never reused. Clones share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

impl Id {
    /// A new id, from the operating system's random numbers.
    pub fn random() -> Self {
        let mut text = String::with_capacity(25);
        text.push('c');
        while text.len() < 25 {
            for byte in crate::random::bytes::<32>() {
                // 252 is the largest multiple of 36 in a byte: above it, letters would be more likely than others.
                if byte < 252 && text.len() < 25 {
                    text.extend(
                        ALPHABET.get(usize::from(byte) % ALPHABET.len()).map(|letter| char::from(*letter)),
                    );
                }
            }
        }
        Self(text.into())
    }

    /// Reads an id; `None` when `text` is not of its form.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix('c')?;
        (body.len() == 24 && body.bytes().all(|byte| ALPHABET.contains(&byte))).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id's text, shared with it.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not an id: expected `c` and 24 lower-case letters or digits")
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.as_str().to_owned()
    }
}

/// Which names a kind accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// 1 to 100 characters of `a-z 0-9 -`.
    Label,
    /// An e-mail address of at most 254 characters, in lower case.
    Email,
}

impl NameRule {
    /// What is wrong with `name`, or `None` when it is fine.
    pub fn fault(self, name: &str) -> Option<&'static str> {
        match self {
            Self::Label => {
                let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                let fits = (1..=100).contains(&name.len()) && name.bytes().all(legal);
                (!fits).then_some("must be 1 to 100 characters of a-z, 0-9 and -")
            }
            Self::Email => {
                let fits = name.len() <= 254
                    && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b'"')
                    && email_address::EmailAddress::is_valid(name);
                (!fits).then_some("must be a valid e-mail address in lower case")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_a_cuid() {
        let id = Id::random();
        assert_eq!(Id::parse(id.as_str()), Some(id.clone()));
        assert_ne!(id, Id::random());
        for bad in
            ["", "c", "caaaaaaaaaaaaaaaaaaaaaaaA", "daaaaaaaaaaaaaaaaaaaaaaaa", "caaaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        for good in ["a", "gpt-4o", "0", &"x".repeat(100)] {
            assert_eq!(NameRule::Label.fault(good), None, "{good}");
        }
        for bad in ["", "A", "a b", "a_b", "a.b", "a/b", "ä", "a\0", &"x".repeat(101)] {
            assert!(NameRule::Label.fault(bad).is_some(), "{bad:?}");
        }
        for good in ["a@b.example", "admin@localhost", "first.last+tag@sub.example"] {
            assert_eq!(NameRule::Email.fault(good), None, "{good}");
        }
        for bad in ["", "a", "@b", "a@", "A@b.example", "a b@c.example", "a@b\n.example"] {
            assert!(NameRule::Email.fault(bad).is_some(), "{bad:?}");
        }
    }
}
