//! Making text from elsewhere fit to be shown: nothing in it may steer a terminal.

use std::{borrow::Cow, fmt::Write as _};

use mcpctl_core::resource::steers;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// `text` as one line: control and direction-changing characters are shown as escapes.
pub(crate) fn inline(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if steers(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    Cow::Owned(shown)
}

/// `text` of any number of lines: as [`inline`], except that lines and tabs stay.
pub(crate) fn safe(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(inline).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `text` with everything that could steer a terminal replaced: the last line of defence.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let bad = |letter: char| steers(letter) && !matches!(letter, '\n' | '\t');
    if text.chars().any(bad) {
        Cow::Owned(text.chars().map(|letter| if bad(letter) { '\u{fffd}' } else { letter }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text with the unsafe characters that JSON allows raw written as its escapes.
pub(crate) fn escape_json(text: &str) -> Cow<'_, str> {
    let bad = |letter: char| steers(letter) && !matches!(letter, '\n' | '\t');
    if !text.chars().any(bad) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if bad(letter) {
            // All of them are in the basic plane. Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

/// `text` in at most so many columns of a terminal, and a mark where something is missing.
pub(crate) fn clip(text: &mut String, most: usize) {
    if text.width() <= most {
        return;
    }
    let (mut end, mut room) = (0, most.saturating_sub(1));
    for letter in text.chars() {
        let width = letter.width().unwrap_or_default();
        if width > room {
            break;
        }
        room -= width;
        end += letter.len_utf8();
    }
    text.truncate(end);
    text.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(inline("plain – ü 😀"), "plain – ü 😀");
        assert_eq!(inline("a\u{1b}[2Jb\r\n\u{9b}\u{202e}"), "a\\u{1b}[2Jb\\r\\n\\u{9b}\\u{202e}");
        let clipped = |text: &str| {
            let mut text = text.to_owned();
            clip(&mut text, 3);
            text
        };
        assert_eq!([clipped("äöü"), clipped("äöüx"), clipped("")], ["äöü", "äö…", ""]);
        assert_eq!([clipped("日"), clipped("日本"), clipped("日本語")], ["日", "日…", "日…"]);
        assert_eq!(safe("a\tb\nc\u{7}"), "a\tb\nc\\u{7}");
        assert_eq!(harmless("a\u{1b}[2J\n\tb"), "a\u{fffd}[2J\n\tb");
        assert_eq!(escape_json("{\n  \"a\": \"\u{9b}\u{202e}\"\n}"), "{\n  \"a\": \"\\u009b\\u202e\"\n}");
    }
}
