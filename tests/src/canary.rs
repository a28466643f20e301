//! The search for secrets: values that must show nowhere are looked for in everything a server gave out.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use memchr::memmem;

/// The secrets of one server, and everything that it answered. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Canary(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Each form of a secret's bytes, with what to call it.
    secrets: BTreeMap<Vec<u8>, String>,
    /// Answers, with what was asked.
    answers: Vec<(String, Vec<u8>)>,
}

impl Canary {
    /// From now on `value` must show nowhere: not as it is, not in hexadecimal, not in base64.
    pub fn keep_secret(&self, what: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        assert!(value.len() >= 8, "too short to search for: {what}");
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            ("", value.to_vec()),
            (" in hexadecimal", hex.into_bytes()),
            (" in base64", STANDARD_NO_PAD.encode(value).into_bytes()),
            (" in base64", URL_SAFE_NO_PAD.encode(value).into_bytes()),
        ];
        let mut seen = self.0.lock().unwrap();
        for (form, bytes) in forms {
            seen.secrets.entry(bytes).or_insert_with(|| format!("{what}{form}"));
        }
    }

    /// Takes a key file's content for a secret, and the key that it spells out.
    pub fn keep_key_file_secret(&self, path: &Path) {
        let content = fs::read(path).unwrap();
        let what = format!("the key in {}", path.file_name().unwrap_or_default().to_string_lossy());
        let text = String::from_utf8_lossy(&content).trim().to_owned();
        for word in text.split([' ', '\n', ':', '=', '"', ',']).filter(|word| word.len() >= 32) {
            self.keep_secret(&what, word);
            for decoded in [STANDARD.decode(word).ok(), URL_SAFE_NO_PAD.decode(word).ok(), unhex(word)] {
                decoded.into_iter().for_each(|key| self.keep_secret(&what, key));
            }
        }
        if text.len() >= 8 {
            self.keep_secret(&what, text);
        }
    }

    /// Notes an answer, to be searched later.
    pub fn saw(&self, asked: impl Into<String>, answer: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().answers.push((asked.into(), answer.into()));
    }

    /// Fails when a secret is in any answer noted, or in `places`.
    pub fn check<'a>(&self, places: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let found = self.found(places);
        assert!(found.is_empty(), "secrets in the open:\n{}", found.join("\n"));
    }

    /// Where secrets were found, and what is around them.
    pub fn found<'a>(&self, places: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let answers =
            seen.answers.iter().map(|(asked, answer)| (format!("the answer to {asked}"), answer.as_slice()));
        let places = places.into_iter().map(|(place, bytes)| (place.to_owned(), bytes));
        let mut found = Vec::new();
        for (place, bytes) in answers.chain(places) {
            for (secret, what) in &seen.secrets {
                if let Some(at) = memmem::find(bytes, secret) {
                    let start = at.saturating_sub(120);
                    let before = String::from_utf8_lossy(&bytes[start..at]);
                    found.push(format!("- {what}, in {place} at byte {at}, after {before:?}"));
                }
            }
        }
        found
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_and_named() {
        let canary = Canary::default();
        canary.keep_secret("the key", "sk-0123456789");
        for leak in ["x sk-0123456789 y", "736b2d30313233343536373839", "c2stMDEyMzQ1Njc4OQ=="] {
            let found = canary.found([("the log", leak.as_bytes())]);
            assert_eq!(found.len(), 1, "{leak}");
            assert!(found[0].contains("the key") && found[0].contains("the log"), "{found:?}");
        }
        assert!(canary.found([("the log", b"sk-0123".as_slice())]).is_empty());
        canary.saw("GET /x", "sk-0123456789");
        assert_eq!(canary.found([]).len(), 1);
    }
}
