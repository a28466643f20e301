//! What a document would change, worked out without changing it.

use jiff::Timestamp;
use mcpctl_core::resource::{Id, Kind, Object, Spec};
use serde_json::Value;
use similar::TextDiff;

use crate::{document::Document, failure::Failure, output::manifest, yaml};

/// How a document compares with what is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is no such resource yet.
    Create,
    /// These fields differ, or cannot be compared because nothing shows them.
    Update(Vec<&'static str>),
    /// Nothing differs.
    Unchanged,
}

/// Compares a document with what is stored, by the rules that the server applies.
///
/// Fails with everything that is wrong with the document, as far as that shows without the server.
pub(crate) fn plan(document: &Document, stored: Option<&Spec>) -> Result<Plan, Failure> {
    let Some(stored) = stored else {
        document.kind.def().read_new(document.body.clone())?;
        return Ok(Plan::Create);
    };
    let after = after(document, stored)?;
    let fields = document.kind.def().fields.iter();
    let differs = |field: &&mcpctl_core::resource::Field| match field.write_only {
        true => document.body.contains_key(field.name),
        false => after.get(field.name) != stored.get(field.name),
    };
    let changed: Vec<&str> = fields.filter(differs).map(|field| field.name).collect();
    Ok(if changed.is_empty() { Plan::Unchanged } else { Plan::Update(changed) })
}

/// The fields as they would be after the document was applied.
fn after(document: &Document, stored: &Spec) -> Result<Spec, Failure> {
    let time = |name: &str| {
        let text = stored.get(name).and_then(Value::as_str).unwrap_or_default();
        text.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let id = stored.get("id").and_then(Value::as_str).and_then(Id::parse);
    let object = Object {
        kind: document.kind,
        id: id.ok_or_else(|| Failure::new("the server sent a resource without an id"))?,
        name: document.name.clone(),
        spec: stored.clone(),
        version: stored.get("version").and_then(Value::as_i64).unwrap_or(1),
        revision: 0,
        created_at: time("createdAt"),
        updated_at: time("updatedAt"),
    };
    Ok(document.kind.def().read_put(&object, document.body.clone())?.spec)
}

/// The unified diff from what is stored to what a document asks for; empty when nothing differs.
///
/// Of what is never shown, such as a Secret's values, only the keys are compared: see [`hides`].
pub(crate) fn diff(document: &Document, stored: Option<&Spec>) -> Result<String, Failure> {
    let kind = document.kind;
    let (before, after) = match stored {
        Some(stored) => {
            let before = shown(kind, stored, stored.get("keys").and_then(Value::as_array), &document.body)?;
            (before, shown(kind, &after_named(document, stored)?, None, &document.body)?)
        }
        None => (String::new(), shown(kind, &document.body, None, &document.body)?),
    };
    let path = format!("{}/{}", kind.singular, document.name);
    let (old, new) = (format!("{path} (stored)"), format!("{path} (wanted)"));
    Ok(TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header(&old, &new).to_string())
}

/// Whether a document sets what cannot be compared, as nothing shows it.
pub(crate) fn hides(document: &Document) -> bool {
    document.kind.def().fields.iter().any(|field| field.write_only && document.body.contains_key(field.name))
}

fn after_named(document: &Document, stored: &Spec) -> Result<Spec, Failure> {
    let mut after = after(document, stored)?;
    after.insert("name".into(), document.name.clone().into());
    Ok(after)
}

/// A manifest in which the write-only fields that a document sets stand with their keys alone.
fn shown(
    kind: Kind,
    fields: &Spec,
    stored_keys: Option<&Vec<Value>>,
    wanted: &Spec,
) -> Result<String, Failure> {
    const HIDDEN: &str = "(not shown)";
    let mut shown = manifest(kind, fields);
    for field in kind.def().fields.iter().filter(|field| field.write_only) {
        let keys: Vec<String> = match (wanted.get(field.name), stored_keys) {
            (None, _) => continue,
            (Some(Value::Object(_)), Some(keys)) => {
                keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            (Some(Value::Object(map)), None) => map.keys().cloned().collect(),
            (Some(_), _) => {
                shown.insert(field.name.to_owned(), HIDDEN.into());
                continue;
            }
        };
        let mut keys: Vec<(String, Value)> = keys.into_iter().map(|key| (key, HIDDEN.into())).collect();
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        shown.insert(field.name.to_owned(), Value::Object(keys.into_iter().collect()));
    }
    yaml::write(&shown)
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

    fn stored(value: Value) -> Spec {
        let mut stored = value.as_object().cloned().unwrap();
        stored.insert("id".into(), "caaaaaaaaaaaaaaaaaaaaaaaa".into());
        stored.insert("version".into(), 3.into());
        stored
    }

    #[test]
    fn plans() {
        let stored = stored(
            json!({"name": "a", "type": "openai", "model": "m", "tier": "fast", "url": "", "description": "",
                                   "apiKeyRef": {"name": "s", "key": "k"}, "extraConfig": {}}),
        );
        let plan_of = |body: Value, stored| plan(&document(kinds::LLMS, body), stored);
        let same =
            json!({"name": "a", "model": "m", "apiKeyRef": {"key": "k", "name": "s"}, "extraConfig": {}});
        assert_eq!(plan_of(same, Some(&stored)).unwrap(), Plan::Unchanged);
        let other = json!({"name": "a", "url": "http://x", "model": "n", "tier": "fast"});
        assert_eq!(plan_of(other, Some(&stored)).unwrap(), Plan::Update(vec!["model", "url"]));
        assert_eq!(
            plan_of(json!({"name": "a", "type": "openai", "model": "m"}), None).unwrap(),
            Plan::Create
        );
        let secret =
            json!({"name": "s", "backend": "default", "keys": ["k"], "description": "", "externalRef": ""});
        let secret = super::tests::stored(secret);
        let wanted = document(kinds::SECRETS, json!({"name": "s", "backend": "default", "data": {"k": "v"}}));
        assert_eq!(plan(&wanted, Some(&secret)).unwrap(), Plan::Update(vec!["data"]));
    }

    #[test]
    fn mistakes_show_without_the_server() {
        let bad = document(kinds::LLMS, json!({"name": "a", "type": "opanai", "modle": "m"}));
        let failure = plan(&bad, None).unwrap_err();
        for part in
            ["type: must be one of", "modle: unknown field (did you mean `model`?)", "model: is required"]
        {
            assert!(failure.message().contains(part), "{}", failure.message());
        }
        let stored = stored(json!({"name": "a", "type": "openai", "model": "m", "tier": "fast"}));
        let failure = plan(&bad, Some(&stored)).unwrap_err();
        assert!(failure.message().contains("type: cannot be changed"), "{}", failure.message());
    }

    #[test]
    fn a_diff_shows_lines_and_no_secret() {
        let llm = json!({"name": "a", "type": "openai", "model": "m", "tier": "fast", "url": "", "description": "",
                         "apiKeyRef": null, "extraConfig": {}});
        let wanted = document(kinds::LLMS, json!({"name": "a", "tier": "heavy"}));
        insta::assert_snapshot!(diff(&wanted, Some(&stored(llm))).unwrap(), @r#"
        --- llm/a (stored)
        +++ llm/a (wanted)
        @@ -2,7 +2,7 @@
         name: a
         type: openai
         model: m
        -tier: fast
        +tier: heavy
         url: ""
         description: ""
         apiKeyRef: null
        "#);
        let secret = stored(json!({"name": "s", "backend": "default", "keys": ["k"], "description": ""}));
        let same = document(kinds::SECRETS, json!({"name": "s", "data": {"k": "t0p"}}));
        assert_eq!(diff(&same, Some(&secret)).unwrap(), "");
        let more = document(kinds::SECRETS, json!({"name": "s", "data": {"k": "t0p", "l": "t0p"}}));
        let text = diff(&more, Some(&secret)).unwrap();
        assert!(text.contains("   k: (not shown)\n+  l: (not shown)\n") && !text.contains("t0p"), "{text}");
        let text = diff(&same, None).unwrap();
        assert!(text.contains("+data:\n+  k: (not shown)") && !text.contains("t0p"), "{text}");
    }
}
