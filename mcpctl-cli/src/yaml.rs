//! YAML in and out, with the traps of YAML 1.1 closed.

use serde_json::{Map, Value};
use serde_saphyr::{Options, Spanned};

use crate::failure::Failure;

/// A document and the line where it begins.
pub(crate) type Located = (Value, u64);

/// Reads every document of `text`, which may be JSON, as JSON is YAML. `source` names it in errors.
pub(crate) fn read(source: &str, text: &str) -> Result<Vec<Located>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
            let place = error.location().map(|place| format!(":{}:{}", place.line(), place.column()));
            let what = error.without_snippet().to_string();
            // The library's text ends in the place that we have put in front.
            let what = what.split(" at line ").next().unwrap_or_default();
            let what = what.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
            Failure::new(format!("{source}{}: {what}", place.unwrap_or_default()))
        })?;
    Ok(documents.into_iter().map(|document| (document.value, document.referenced.line())).collect())
}

/// `no`, `yes`, `on` and `0123` are text, as their writer meant; numbers and booleans are what YAML 1.2 says.
fn options() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// Writes one document. Text that could be read as anything else is quoted.
pub(crate) fn write(value: &Map<String, Value>) -> Result<String, Failure> {
    // Folding would break long lines where a diff shows whole ones.
    let options = serde_saphyr::ser_options! { min_fold_chars: usize::MAX, folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| Failure::new(format!("writing YAML: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        read("f", text).unwrap().remove(0).0
    }

    #[test]
    fn words_of_yaml_1_1_stay_text() {
        let value = one("a: no\nb: yes\nc: on\nd: 0123\ne: 1_000\nf: true\ng: 12\nh: ~\n");
        assert_eq!(
            value,
            json!({"a": "no", "b": "yes", "c": "on", "d": "0123", "e": "1_000", "f": true, "g": 12, "h": null})
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let tricky = json!({
            "a": "no", "b": "true", "c": "12", "d": "null", "e": "multi\nline\n", "f": "\u{1b}[31m\u{9b}",
            "g": {}, "h": [], "i": null, "j": " lead", "k": "# no comment", "l": ["- x", {"y": "on"}],
            "m": "word ".repeat(60), "n": "", "o": "ends\n\n", "p": 1.5, "q": "1.10", "r": "--- x", "s": "<<",
        });
        let text = write(tricky.as_object().unwrap()).unwrap();
        assert_eq!(one(&text), tricky, "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{9b}'), "{text:?}");
    }

    #[test]
    fn long_lines_stay_whole() {
        let long = json!({"a": "word ".repeat(60).trim_end()});
        assert_eq!(write(long.as_object().unwrap()).unwrap().lines().count(), 1);
    }

    #[test]
    fn json_is_read_with_tabs_and_escapes() {
        assert_eq!(one("{\n\t\"a\": [1,\n\t\t\"\\ud83d\\ude00\\/\"]\n}\n"), json!({"a": [1, "😀/"]}));
    }

    #[test]
    fn errors_say_where() {
        let message = |text: &str| read("f.yaml", text).unwrap_err().message().to_owned();
        assert_eq!(message("a: 1\na: 2\n"), "f.yaml:2:1: duplicate mapping key: a");
        assert!(message("a: b\n  c: [\n").starts_with("f.yaml:2:"), "{}", message("a: b\n  c: [\n"));
        assert!(message("a: *nothing\n").starts_with("f.yaml:1:4: "));
    }

    #[test]
    fn documents_know_their_line_and_empty_ones_vanish() {
        let lines: Vec<u64> =
            read("f", "# x\na: 1\n---\n\n---\nb: 2\n").unwrap().into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, [2, 6]);
        assert!(read("f", "").unwrap().is_empty());
    }
}
