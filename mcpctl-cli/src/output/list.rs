//! Lists of resources in every format.

use jiff::Timestamp;
use mcpctl_core::resource::{Column, ColumnValue, Kind, Spec, text_of};
use serde_json::{Map, Value};

use super::{Format, Out, table, text};
use crate::{failure::Failure, yaml};

/// Things of one sort, to be printed.
pub(crate) struct List<'a> {
    /// Their kind; none for what is no resource, such as audit events.
    pub(crate) kind: Option<Kind>,
    /// The table's columns.
    pub(crate) columns: &'a [Column],
    /// The things, as the server sent them.
    pub(crate) items: &'a [Spec],
    /// Whether it is a list: one thing that was asked for by name is none.
    pub(crate) many: bool,
}

/// What was printed of a list that goes on.
#[derive(Default)]
pub(crate) struct SoFar {
    began: bool,
    widths: Vec<u16>,
}

impl<'a> List<'a> {
    /// Resources of a kind.
    pub(crate) fn of(kind: Kind, items: &'a [Spec], many: bool) -> Self {
        Self { kind: Some(kind), columns: kind.def().columns, items, many }
    }

    /// Prints them.
    pub(crate) fn print(&self, out: &Out, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table | Format::Wide => {
                out.print(&self.table(format == Format::Wide, width(out), out.has_headers()))
            }
            Format::Json => match (self.many, self.items) {
                (false, [item]) => out.json(&Value::Object(item.clone())),
                (_, items) => out.json(&items.iter().cloned().map(Value::Object).collect()),
            },
            Format::Yaml => out.print(&self.yaml()?),
            Format::Name => self.items.iter().try_for_each(|item| out.line(self.path(item))),
        }
    }

    /// Prints them below those that were printed before, as they come.
    pub(crate) fn print_more(&self, out: &Out, format: Format, so_far: &mut SoFar) -> Result<(), Failure> {
        if self.items.is_empty() {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut so_far.began, true);
        match format {
            Format::Table | Format::Wide => {
                let width = width(out).filter(|_| format == Format::Table);
                let (headers, rows) = self.cells(format == Format::Wide, width);
                if is_first && !out.has_headers() {
                    so_far.widths.resize(headers.len(), 0);
                }
                out.print(&table::more(&headers, rows, width, &mut so_far.widths))
            }
            // One a line: an array that never ends could not be read.
            Format::Json if out.template.is_some() => {
                self.items.iter().cloned().try_for_each(|item| out.json(&Value::Object(item)))
            }
            Format::Json => self
                .items
                .iter()
                .cloned()
                .try_for_each(|item| out.line(text::escape_json(&Value::Object(item).to_string()))),
            Format::Yaml => {
                let mark = if is_first { "" } else { "---\n" };
                out.print(&format!("{mark}{}", self.yaml()?))
            }
            Format::Name => self.print(out, format),
        }
    }

    /// The table; empty when there is nothing to show.
    fn table(&self, wide: bool, width: Option<u16>, with_headers: bool) -> String {
        if self.items.is_empty() {
            return String::new();
        }
        // Whoever asks for all columns wants their cells whole.
        let width = width.filter(|_| !wide);
        let (headers, rows) = self.cells(wide, width);
        if !with_headers {
            return table::more(&headers, rows, width, &mut vec![0; headers.len()]);
        }
        table::layout(&headers, rows, width)
    }

    /// The table's headers and rows.
    fn cells(&self, wide: bool, width: Option<u16>) -> (Vec<&'a str>, Vec<Vec<String>>) {
        let columns: Vec<&Column> = self.columns.iter().filter(|column| wide || !column.wide).collect();
        let now = Timestamp::now();
        let cell = |column: &&Column, item: &Spec| {
            let mut cell = cell(column, item, now);
            if width.is_some() {
                text::clip(&mut cell, table::LONGEST_CELL);
            }
            cell
        };
        let row = |item: &Spec| columns.iter().map(|column| cell(column, item)).collect();
        let rows = self.items.iter().map(row).collect();
        (columns.iter().map(|column| column.header).collect(), rows)
    }

    /// The documents, as `apply` takes them.
    fn yaml(&self) -> Result<String, Failure> {
        let documents = self.items.iter().map(|item| match self.kind {
            Some(kind) => yaml::write(&manifest(kind, item)),
            None => yaml::write(item),
        });
        Ok(documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
    }

    fn path(&self, item: &Spec) -> String {
        let (kind, key) = match self.kind {
            Some(kind) => (kind.def().singular, "name"),
            None => ("auditlog", "id"),
        };
        format!("{kind}/{}", text::inline(&item.get(key).map(text_of).unwrap_or_default()))
    }
}

/// A resource as `apply` takes it: `kind`, `name` and the fields that a caller may set.
pub(crate) fn manifest(kind: Kind, resource: &Spec) -> Spec {
    let mut document = Map::new();
    document.insert("kind".into(), kind.singular.into());
    document.extend(resource.get("name").map(|name| ("name".to_owned(), name.clone())));
    for field in kind.def().fields.iter().filter(|field| !field.read_only && !field.write_only) {
        document.extend(resource.get(field.name).map(|value| (field.name.to_owned(), value.clone())));
    }
    document
}

fn cell(column: &Column, item: &Spec, now: Timestamp) -> String {
    let value = match column.value {
        ColumnValue::Field(name) => item.get(name).map(text_of).unwrap_or_default(),
        ColumnValue::Age(name) => age(item.get(name).and_then(Value::as_str).unwrap_or_default(), now),
        ColumnValue::With(make) => make(item),
    };
    text::inline(&value).into_owned()
}

/// How long ago `instant` was, in its largest unit.
fn age(instant: &str, now: Timestamp) -> String {
    let Ok(then) = instant.parse::<Timestamp>() else { return "-".to_owned() };
    // A clock that runs ahead must not show a negative age.
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The terminal's width, if results go to one.
fn width(out: &Out) -> Option<u16> {
    if out.is_terminal() { comfy_table::Table::new().width() } else { None }
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;
    use serde_json::json;

    use super::*;

    fn llm() -> Spec {
        json!({"id": "caaaaaaaaaaaaaaaaaaaaaaaa", "name": "gpt", "type": "openai", "model": "gpt-4o\u{1b}[31m", "tier": "fast",
               "url": "", "description": "", "apiKeyRef": {"name": "openai", "key": "api-key"},
               "extraConfig": {"a": "no"}, "version": 3, "createdAt": "2026-01-01T00:00:00Z",
               "updatedAt": "2026-01-01T00:00:00Z"})
        .as_object()
        .cloned()
        .unwrap()
    }

    #[test]
    fn the_table_has_the_kind_s_columns_and_no_escape_sequence() {
        insta::assert_snapshot!(List::of(kinds::LLMS, &[llm()], true).table(false, None, true), @r"
        NAME  TYPE    MODEL             TIER  KEY                      ID
        gpt   openai  gpt-4o\u{1b}[31m  fast  secret://openai/api-key  caaaaaaaaaaaaaaaaaaaaaaaa
        ");
        assert_eq!(List::of(kinds::LLMS, &[], true).table(false, None, true), "");
    }

    #[test]
    fn yaml_holds_what_apply_takes() {
        let text = List::of(kinds::LLMS, &[llm(), llm()], true).yaml().unwrap();
        let (first, second) = text.split_once("---\n").unwrap();
        assert_eq!(first, second);
        insta::assert_snapshot!(first, @r#"
        kind: llm
        name: gpt
        type: openai
        model: "gpt-4o\e[31m"
        tier: fast
        url: ""
        description: ""
        apiKeyRef:
          name: openai
          key: api-key
        extraConfig:
          a: "no"
        "#);
    }

    #[test]
    fn a_secret_s_manifest_has_no_values_even_if_the_server_sent_them() {
        let secret =
            json!({"id": "c", "name": "s", "backend": "default", "keys": ["k"], "data": {"k": "t0p"}});
        let manifest = manifest(kinds::SECRETS, secret.as_object().unwrap());
        assert_eq!(Value::Object(manifest), json!({"kind": "secret", "name": "s", "backend": "default"}));
    }

    #[test]
    fn ages() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (then, expected) in [
            ("2026-01-09T23:59:01Z", "59s"),
            ("2026-01-09T23:10:00Z", "50m"),
            ("2026-01-08T23:00:00Z", "25h"),
            ("2025-12-10T00:00:00Z", "31d"),
            ("2026-01-10T00:01:00Z", "0s"),
            ("rubbish", "-"),
        ] {
            assert_eq!(age(then, now), expected);
        }
    }
}
