//! Text from elsewhere, made fit for a row of its own.

use std::sync::Arc;

/// The longest text in an event, in bytes; what is longer ends in a mark.
const LONGEST: usize = 1000;

/// The longest mark, in bytes.
const MARK: usize = 40;

/// Whether a character could steer a terminal or a reader: control characters, those that end a line, and those
/// that reorder or hide what follows them.
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Makes `text` one short line that steers nobody: see [`tidied`].
pub(super) fn tidy(text: &mut String) {
    if let Some(tidied) = changed(text) {
        *text = tidied;
    }
}

/// As [`tidy`], for text that is shared.
pub(super) fn tidy_shared(text: &mut Arc<str>) {
    if let Some(tidied) = changed(text) {
        *text = tidied.into();
    }
}

/// `text` as one short line: characters that steer are written as escapes, and what is too long is cut, with a mark
/// that says how long it was.
pub(crate) fn tidied(text: String) -> String {
    changed(&text).unwrap_or(text)
}

/// The tidied text, where that is another one.
fn changed(text: &str) -> Option<String> {
    let is_short = text.len() <= LONGEST;
    // Nearly all text is plain, which is seen without looking at characters.
    if is_short && (text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(steers)) {
        return None;
    }
    let mut line = String::with_capacity(text.len().min(LONGEST) + 32);
    let room = if is_short { LONGEST } else { LONGEST - MARK };
    for letter in text.chars() {
        if steers(letter) {
            line.extend(letter.escape_default())
        } else {
            line.push(letter)
        }
        if line.len() > room {
            line.truncate(line.floor_char_boundary(LONGEST - MARK));
            line.push_str(&format!("… ({} bytes)", text.len()));
            break;
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "plain – ü 😀", "a\\u{1b}", &"y".repeat(LONGEST)] {
            assert_eq!(changed(text), None);
        }
    }

    #[test]
    fn what_steers_is_escaped() {
        let hostile = "x\r\n{\"kind\":\"login\"}\u{1b}[31m\0\u{85}\u{9b}\u{202e}\u{2028}";
        let line = r#"x\r\n{"kind":"login"}\u{1b}[31m\u{0}\u{85}\u{9b}\u{202e}\u{2028}"#;
        assert_eq!(tidied(hostile.to_owned()), line);
        let mut shared = Arc::from(hostile);
        tidy_shared(&mut shared);
        assert_eq!(&*shared, line);
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        assert_eq!(tidied("y".repeat(1 << 20)), format!("{}… (1048576 bytes)", "y".repeat(LONGEST - MARK)));
        assert_eq!(tidied("ü".repeat(501)), format!("{}… (1002 bytes)", "ü".repeat((LONGEST - MARK) / 2)));
        let escaped = tidied("\n".repeat(1000));
        assert_eq!(changed(&escaped), None, "it stays as it is");
        assert!(escaped.len() <= LONGEST && escaped.ends_with("… (1000 bytes)"), "{escaped}");
    }
}
