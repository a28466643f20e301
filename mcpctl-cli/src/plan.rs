//! What a document would change, worked out without changing it.

use mcpctl_core::resource::{Kind, Spec};
use serde_json::Value;
use similar::TextDiff;

use crate::{document::Document, failure::Failure, output::manifest, yaml};

/// How a document compares with what is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is no such resource yet.
    Create,
    /// These fields differ, or cannot be compared because nothing shows them.
    Update(Vec<String>),
    /// Nothing differs.
    Unchanged,
}

/// Compares a document with what is stored.
pub(crate) fn plan(document: &Document, stored: Option<&Spec>) -> Plan {
    let Some(stored) = stored else { return Plan::Create };
    let own = ["name", "version"];
    let changed: Vec<String> = document
        .body
        .iter()
        .filter(|(key, value)| !own.contains(&key.as_str()) && stored.get(*key) != Some(*value))
        .map(|(key, _)| key.clone())
        .collect();
    if changed.is_empty() { Plan::Unchanged } else { Plan::Update(changed) }
}

/// Everything that is wrong with a document of a new resource, as far as that shows without the server.
pub(crate) fn check_new(document: &Document) -> Result<(), Failure> {
    document.kind.def().read_new(document.body.clone()).map(drop).map_err(Failure::from)
}

/// The unified diff from what is stored to what a document asks for; empty when nothing differs.
///
/// Values that nothing shows are not in it, but for their keys.
pub(crate) fn diff(document: &Document, stored: Option<&Spec>) -> Result<String, Failure> {
    let kind = document.kind;
    let before = match stored {
        Some(stored) => yaml::write(&manifest(kind, stored))?,
        None => String::new(),
    };
    let after = yaml::write(&wanted(kind, document, stored))?;
    let path = format!("{}/{}", kind.singular, document.name);
    let (old, new) = (format!("{path} (stored)"), format!("{path} (wanted)"));
    Ok(TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header(&old, &new).to_string())
}

/// The manifest as it would be after the document was applied.
fn wanted(kind: Kind, document: &Document, stored: Option<&Spec>) -> Spec {
    let mut after = stored.cloned().unwrap_or_default();
    after.extend(document.body.clone());
    let mut shown = manifest(kind, &after);
    for field in kind.def().fields.iter().filter(|field| field.write_only) {
        if let Some(value) = document.body.get(field.name) {
            shown.insert(field.name.to_owned(), hidden(value));
        }
    }
    shown
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.keys().map(|key| (key.clone(), hidden(&Value::Null))).collect(),
        _ => "(not shown)".into(),
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;
    use serde_json::json;

    use super::*;

    fn document(kind: Kind, body: Value) -> Document {
        let body = body.as_object().cloned().unwrap();
        Document { kind, name: body["name"].as_str().unwrap().to_owned(), body }
    }

    #[test]
    fn plans() {
        let stored = json!({"id": "c", "name": "a", "type": "openai", "model": "m", "tier": "fast"});
        let stored = stored.as_object().unwrap();
        let same = document(kinds::LLMS, json!({"name": "a", "model": "m"}));
        let other =
            document(kinds::LLMS, json!({"name": "a", "model": "n", "tier": "fast", "url": "http://x"}));
        assert_eq!(plan(&same, None), Plan::Create);
        assert_eq!(plan(&same, Some(stored)), Plan::Unchanged);
        assert_eq!(plan(&other, Some(stored)), Plan::Update(vec!["model".into(), "url".into()]));
    }

    #[test]
    fn a_new_resource_is_checked_without_the_server() {
        let bad = document(kinds::LLMS, json!({"name": "a", "type": "opanai", "modle": "m"}));
        let failure = check_new(&bad).unwrap_err();
        for part in
            ["type: must be one of", "modle: unknown field (did you mean `model`?)", "model: is required"]
        {
            assert!(failure.message().contains(part), "{}", failure.message());
        }
    }

    #[test]
    fn a_diff_shows_lines_and_no_secret() {
        let stored =
            json!({"id": "c", "name": "a", "type": "openai", "model": "m", "tier": "fast", "version": 3});
        let document = document(kinds::LLMS, json!({"name": "a", "tier": "heavy"}));
        insta::assert_snapshot!(diff(&document, stored.as_object()).unwrap(), @r"
        --- llm/a (stored)
        +++ llm/a (wanted)
        @@ -2,4 +2,4 @@
         name: a
         type: openai
         model: m
        -tier: fast
        +tier: heavy
        ");
        let secret = super::tests::document(kinds::SECRETS, json!({"name": "s", "data": {"k": "t0p"}}));
        let text = diff(&secret, None).unwrap();
        assert!(text.contains("+data:\n+  k: (not shown)") && !text.contains("t0p"), "{text}");
    }
}
