//! `-o jsonpath=…`: kubectl's templates around paths of RFC 9535.

use mcpctl_core::resource::text_of;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use crate::failure::Failure;

/// A template: text, and what paths find.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Path(Path),
    /// `{range PATH}…{end}`: the inner parts once for each thing found.
    Each(Path, Vec<Part>),
}

/// A path, which may begin with a dot in place of `$`.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    path: JsonPath,
    /// Whether it begins with `.items`: lists here are plain arrays, and kubectl's are not.
    of_items: bool,
}

impl Path {
    /// Reads a path: `{.a.b}`, `.a.b`, `a.b` or `$.a.b`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let bare = text.trim();
        let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare).trim();
        let full = match bare.chars().next() {
            Some('$') => bare.to_owned(),
            Some('@') => format!("${}", bare.trim_start_matches('@')),
            Some('.') if bare == "." => "$".to_owned(),
            Some('.' | '[') => format!("${bare}"),
            _ => format!("$.{bare}"),
        };
        let path = JsonPath::parse(&full).map_err(|error| {
            Failure::usage(format!("invalid JSONPath `{text}`: {error}"))
                .hint("expected one such as {.items[*].name} or {.items[?(@.tier=='fast')].name}")
        })?;
        Ok(Self { path, of_items: full.starts_with("$.items") || full.starts_with("$['items']") })
    }

    /// What it finds.
    pub(crate) fn find(&self, value: &Value) -> Vec<Value> {
        if self.of_items && value.is_array() {
            let wrapped = json!({"items": value});
            return self.path.query(&wrapped).all().into_iter().cloned().collect();
        }
        self.path.query(value).all().into_iter().cloned().collect()
    }
}

impl Template {
    /// Reads a template; without any brace, the whole is one path.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.trim().is_empty() {
            return Err(Failure::usage("-o jsonpath needs a path: jsonpath='{.items[*].name}'"));
        }
        if !text.contains('{') {
            return Ok(Self(vec![Part::Path(Path::parse(text)?)]));
        }
        let mut rest = text;
        let parts = parts(&mut rest, false)?;
        Ok(Self(parts))
    }

    /// What it makes of a value.
    pub(crate) fn fill(&self, value: &Value) -> String {
        let mut text = String::new();
        fill(&self.0, value, &mut text);
        text
    }
}

fn fill(parts: &[Part], value: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Path(path) => {
                let shown = |found: &Value| match found {
                    Value::Object(_) | Value::Array(_) => found.to_string(),
                    plain => text_of(plain),
                };
                text.push_str(&path.find(value).iter().map(shown).collect::<Vec<_>>().join(" "));
            }
            Part::Each(path, inner) => path.find(value).iter().for_each(|one| fill(inner, one, text)),
        }
    }
}

fn parts(rest: &mut &str, within: bool) -> Result<Vec<Part>, Failure> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (plain, behind) = rest.split_once('{').unwrap_or((rest, ""));
        if !plain.is_empty() {
            found.push(Part::Text(plain.to_owned()));
        }
        if plain.len() == rest.len() {
            *rest = "";
            break;
        }
        let end = closing(behind)
            .ok_or_else(|| Failure::usage("invalid JSONPath template: a `{` is not closed"))?;
        let inner = behind.get(..end).unwrap_or_default().trim();
        *rest = behind.get(end + 1..).unwrap_or_default();
        if inner == "end" {
            return if within {
                Ok(found)
            } else {
                Err(Failure::usage("invalid JSONPath template: `{end}` without `{range}`"))
            };
        } else if let Some(path) = inner.strip_prefix("range ") {
            found.push(Part::Each(Path::parse(path)?, parts(rest, true)?));
        } else if let Some(text) = quoted(inner) {
            found.push(Part::Text(text));
        } else {
            found.push(Part::Path(Path::parse(inner)?));
        }
    }
    if within {
        Err(Failure::usage("invalid JSONPath template: a `{range}` without `{end}`"))
    } else {
        Ok(found)
    }
}

/// Where the brace closes, those inside quotes left aside.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            _ if std::mem::take(&mut escaped) => {}
            (Some(_), '\\') => escaped = true,
            (Some(end), letter) if letter == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// The text in quotes, as in `{"\n"}`.
fn quoted(inner: &str) -> Option<String> {
    let quote = inner.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
    let inner = inner.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut text = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let list = json!([
            {"name": "a", "tier": "fast", "n": 1, "ref": {"name": "s", "key": "k"}},
            {"name": "b", "tier": "heavy", "n": 2, "ref": null},
        ]);
        Template::parse(template).unwrap().fill(&list)
    }

    #[test]
    fn kubectl_s_forms_work_on_lists() {
        assert_eq!(filled("{.items[*].name}"), "a b");
        assert_eq!(filled(".items[*].name"), "a b");
        assert_eq!(filled("{$.items[0].name}"), "a");
        assert_eq!(filled("{[*].name}"), "a b");
        assert_eq!(filled("$[1].name"), "b");
        assert_eq!(filled("{.items[?(@.tier==\"fast\")].name}"), "a");
        assert_eq!(filled("{.items[?(@.n>1)].name}"), "b");
        assert_eq!(filled("{.items[-1:].name}"), "b");
        assert_eq!(filled("{range .items[*]}{.name}{\"\\t\"}{@.tier}{\"\\n\"}{end}"), "a\tfast\nb\theavy\n");
        assert_eq!(filled("names: {.items[*].name}!"), "names: a b!");
        assert_eq!(filled("{.items[0].ref}"), "{\"name\":\"s\",\"key\":\"k\"}");
        assert_eq!(filled("{.items[*].nothing}"), "");
        assert_eq!(filled("{..key}"), "k");
    }

    #[test]
    fn one_resource_is_its_own_root() {
        let one = json!({"name": "a", "ref": {"key": "k"}});
        assert_eq!(Template::parse("{.name}/{.ref.key}").unwrap().fill(&one), "a/k");
    }

    #[test]
    fn mistakes_are_told() {
        for bad in ["", "{.items[*}", "{range .items[*]}x", "{end}", "{.a", "{.a[?]}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
