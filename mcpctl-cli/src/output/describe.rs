//! One resource in full, laid out from its kind's fields.

use std::collections::BTreeMap;

use mcpctl_core::resource::{Field, FieldType, Kind, Spec, text_of};
use serde_json::Value;

use super::{table, text};
use crate::kinds::title;

/// Remarks to put behind a field's value in brackets, by JSON name.
pub(crate) type Notes = BTreeMap<&'static str, String>;

/// Lays out a resource: `Key: value` lines for what fits one, and a section for what does not.
pub(crate) fn describe(kind: Kind, resource: &Spec, notes: &Notes) -> String {
    let value = |name: &str| resource.get(name).unwrap_or(&Value::Null);
    let name = text_of(value("name"));
    let mut lines = vec![("Name".to_owned(), name.clone())];
    let mut sections = Vec::new();
    let fields = kind.def().fields;
    for field in fields.iter().filter(|field| resource.contains_key(field.name)) {
        let value = |field: &Field| value(field.name);
        if let Some(title) = field.section {
            let together = || fields.iter().filter(|other| other.section == Some(title));
            if together().next().is_some_and(|first| first.name == field.name) {
                let lines: Vec<_> =
                    together().filter_map(|field| line(field, value(field), &note(field, notes))).collect();
                sections.push(format!("{title}:\n{}", block(&lines, "  ")));
            }
        } else if let Some(body) = section(field, value(field), &note(field, notes)) {
            sections.push(format!("{}:\n{body}", field.label));
        } else {
            lines.extend(line(field, value(field), &note(field, notes)));
        }
    }
    let metadata = [("ID", "id"), ("Created", "createdAt"), ("Updated", "updatedAt")];
    let metadata = metadata.map(|(label, name)| (label.to_owned(), text_of(value(name))));
    sections.push(format!("Metadata:\n{}", block(&metadata, "  ")));
    let head = format!("=== {}: {} ===\n{}", title(kind), text::inline(&name), block(&lines, ""));
    [head].into_iter().chain(sections).collect::<Vec<_>>().join("\n")
}

/// `Key:  value` lines with the values aligned; values of several lines go below their key.
pub(crate) fn block(lines: &[(String, String)], indent: &str) -> String {
    let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or_default() + 1;
    let mut shown = String::new();
    for (key, value) in lines {
        let key = format!("{}:", text::inline(key));
        let value = value.trim_end_matches('\n');
        if value.contains('\n') {
            shown.push_str(&format!("{indent}{key}\n"));
            for line in value.lines() {
                shown.push_str(format!("{indent}  {}", text::inline(line)).trim_end());
                shown.push('\n');
            }
        } else {
            shown.push_str(format!("{indent}{key:width$}  {}", text::inline(value)).trim_end());
            shown.push('\n');
        }
    }
    shown
}

/// What goes behind a field's value.
fn note(field: &Field, notes: &Notes) -> String {
    let remark = field.remark.map(|remark| format!("  {remark}"));
    let note = notes.get(field.name).map(|note| format!("  [{note}]"));
    remark.into_iter().chain(note).collect()
}

/// A field whose value fits one line, as its label and its text; none when it is not set.
fn line(field: &Field, value: &Value, note: &str) -> Option<(String, String)> {
    let text = match (&field.ty, value) {
        (FieldType::Flag, Value::Bool(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        (FieldType::Object | FieldType::TextMap, Value::Object(map)) if map.is_empty() => return None,
        (_, value) => text_of(value),
    };
    let shown = if text.is_empty() { field.when_empty?.to_owned() } else { format!("{text}{note}") };
    Some((field.label.to_owned(), shown))
}

/// The body of a field that has a section of its own; none when it has none, or nothing to show.
fn section(field: &Field, value: &Value, note: &str) -> Option<String> {
    match (&field.ty, value) {
        (FieldType::Reference { keyed: true, kind, .. }, Value::Object(parts)) => {
            let label = Kind::parse(kind).map_or_else(|| "Name".to_owned(), title);
            let part = |name: &str| parts.get(name).map(text_of).unwrap_or_default();
            Some(block(&[(label, part("name")), ("Key".to_owned(), format!("{}{note}", part("key")))], "  "))
        }
        (FieldType::Reference { keyed: true, .. }, _) => Some("  (none)\n".to_owned()),
        (FieldType::Object | FieldType::TextMap, Value::Object(map)) if !map.is_empty() => {
            let lines: Vec<_> = map.iter().map(|(key, value)| (key.clone(), entry(value))).collect();
            Some(block(&lines, "  "))
        }
        (FieldType::TextList | FieldType::References { .. }, Value::Array(items)) => {
            Some(match items.as_slice() {
                [] => "  (none)\n".to_owned(),
                items => items.iter().map(|item| format!("  {}\n", text::inline(&text_of(item)))).collect(),
            })
        }
        (FieldType::List(fields), Value::Array(items)) => Some(match items.as_slice() {
            [] => "  (none)\n".to_owned(),
            items => rows(fields, items),
        }),
        _ => None,
    }
}

/// A value inside an object. A reference to a key of a Secret is written as tables write it.
fn entry(value: &Value) -> String {
    match value {
        Value::Object(parts) if parts.len() == 2 => match (parts.get("name"), parts.get("key")) {
            (Some(Value::String(name)), Some(Value::String(key))) => format!("secret://{name}/{key}"),
            _ => value.to_string(),
        },
        Value::Array(items) if items.iter().any(|item| !item.is_string()) => value.to_string(),
        value => text_of(value),
    }
}

/// A table of a list's items, without the columns that none of them fills.
fn rows(fields: &'static [Field], items: &[Value]) -> String {
    let part = |item: &Value, field: &Field| item.get(field.name).map(text_of).unwrap_or_default();
    let used: Vec<&Field> =
        fields.iter().filter(|field| items.iter().any(|item| !part(item, field).is_empty())).collect();
    let headers: Vec<String> = used.iter().map(|field| field.label.to_uppercase()).collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let row = |item: &Value| used.iter().map(|field| text::inline(&part(item, field)).into_owned()).collect();
    table::layout(&headers, items.iter().map(row).collect(), None)
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;
    use serde_json::json;

    use super::*;

    fn shown(kind: Kind, value: Value, notes: &Notes) -> String {
        let mut resource = value.as_object().cloned().unwrap();
        resource.insert("id".into(), "caaaaaaaaaaaaaaaaaaaaaaaa".into());
        resource.insert("createdAt".into(), "2026-01-01T00:00:00Z".into());
        resource.insert("updatedAt".into(), "2026-01-02T00:00:00Z".into());
        describe(kind, &resource, notes)
    }

    #[test]
    fn an_llm_in_full() {
        let llm = json!({"name": "gpt", "type": "openai", "model": "gpt-4o", "tier": "fast", "url": "https://x.example",
                         "description": "for all", "apiKeyRef": {"name": "openai", "key": "api-key"},
                         "extraConfig": {"maxTokens": 100, "headers": {"X-A": "b"}, "allowedModels": ["a", "b*"]}});
        insta::assert_snapshot!(shown(kinds::LLMS, llm, &Notes::new()), @r#"
        === LLM: gpt ===
        Name:         gpt
        Type:         openai
        Model:        gpt-4o
        Tier:         fast
        URL:          https://x.example
        Description:  for all

        API Key:
          Secret:  openai
          Key:     api-key

        Extra Config:
          maxTokens:      100
          headers:        {"X-A":"b"}
          allowedModels:  a, b*

        Metadata:
          ID:       caaaaaaaaaaaaaaaaaaaaaaaa
          Created:  2026-01-01T00:00:00Z
          Updated:  2026-01-02T00:00:00Z
        "#);
    }

    #[test]
    fn what_is_not_set_is_left_out_and_a_missing_key_is_remarked() {
        let llm = json!({"name": "o\u{1b}", "type": "ollama", "model": "m", "tier": "heavy", "url": "", "description": "",
                         "apiKeyRef": null, "extraConfig": {}});
        insta::assert_snapshot!(shown(kinds::LLMS, llm, &Notes::new()), @r"
        === LLM: o\u{1b} ===
        Name:   o\u{1b}
        Type:   ollama
        Model:  m
        Tier:   heavy

        API Key:
          (none)

        Metadata:
          ID:       caaaaaaaaaaaaaaaaaaaaaaaa
          Created:  2026-01-01T00:00:00Z
          Updated:  2026-01-02T00:00:00Z
        ");
        let llm = json!({"name": "g", "apiKeyRef": {"name": "s", "key": "k"}});
        let notes = Notes::from([("apiKeyRef", "warning: no such key".to_owned())]);
        assert!(shown(kinds::LLMS, llm, &notes).contains("  Key:     k  [warning: no such key]\n"));
    }

    #[test]
    fn a_project_in_full() {
        let project = json!({"name": "p", "description": "", "proxyModel": "", "llmProvider": "gone", "llmModel": "m-2",
                             "gated": false, "servers": ["a"], "prompt": ""});
        let notes = Notes::from([("llmProvider", "warning: no such Llm".to_owned())]);
        insta::assert_snapshot!(shown(kinds::PROJECTS, project, &notes), @r"
        === Project: p ===
        Name:   p
        Gated:  no

        Plugin Config:
          Plugin:     default
          LLM:        gone  [warning: no such Llm]
          LLM Model:  m-2  (override)

        Servers:
          a

        Metadata:
          ID:       caaaaaaaaaaaaaaaaaaaaaaaa
          Created:  2026-01-01T00:00:00Z
          Updated:  2026-01-02T00:00:00Z
        ");
        let project = json!({"name": "p", "proxyModel": "x", "llmProvider": "", "llmModel": ""});
        let shown = shown(kinds::PROJECTS, project, &Notes::new());
        assert!(shown.contains("Plugin Config:\n  Plugin:  x\n\n"), "{shown}");
    }

    #[test]
    fn other_kinds_follow_from_their_fields() {
        let rbac = json!({"name": "team", "description": "", "subjects": [{"kind": "User", "name": "a@b.example"}],
                          "roleBindings": [{"role": "view", "resource": "llms", "name": "gpt"}, {"role": "run", "action": "audit"}]});
        insta::assert_snapshot!(shown(kinds::RBAC, rbac, &Notes::new()), @r"
        === RBAC: team ===
        Name:  team

        Subjects:
          KIND  NAME
          User  a@b.example

        Role Bindings:
          ROLE  RESOURCE  NAME  ACTION
          view  llms      gpt
          run                   audit

        Metadata:
          ID:       caaaaaaaaaaaaaaaaaaaaaaaa
          Created:  2026-01-01T00:00:00Z
          Updated:  2026-01-02T00:00:00Z
        ");
        let secret = json!({"name": "s", "description": "line one\nline two", "backend": "default", "keys": ["a", "b"]});
        insta::assert_snapshot!(shown(kinds::SECRETS, secret, &Notes::new()), @r"
        === Secret: s ===
        Name:         s
        Description:
          line one
          line two
        Backend:      default

        Keys:
          a
          b

        Metadata:
          ID:       caaaaaaaaaaaaaaaaaaaaaaaa
          Created:  2026-01-01T00:00:00Z
          Updated:  2026-01-02T00:00:00Z
        ");
    }
}
