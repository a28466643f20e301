//! Manifests: from files to resources in the order in which they can be applied.

use std::{fs, path::Path};

use mcpctl_core::resource::{Kind, Spec, apply_sequence};
use serde_json::Value;

use crate::{failure::Failure, kinds::unknown_kind, prompt, yaml};

/// A resource as somebody wants it to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// Its fields, `name` included.
    pub(crate) body: Spec,
}

/// Reads files, folders (their `.yaml`, `.yml` and `.json` files) and standard input (`-`), in apply order.
///
/// Everything is read before anything is returned, so that a mistake in the last file stops the first one too.
pub(crate) fn load(paths: &[String]) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for path in paths {
        if path == "-" {
            documents.extend(parse("standard input", &prompt::piped()?)?);
            continue;
        }
        for file in files(Path::new(path))? {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| reading(&file, &error))?;
            documents.extend(parse(&name, &text)?);
        }
    }
    if documents.is_empty() {
        return Err(Failure::new(format!("no resources in {}", paths.join(", "))));
    }
    let specs: Vec<_> =
        documents.iter().map(|document| (document.kind, document.name.as_str(), &document.body)).collect();
    let sequence = apply_sequence(&specs);
    let mut documents: Vec<Option<Document>> = documents.into_iter().map(Some).collect();
    Ok(sequence.into_iter().filter_map(|place| documents.get_mut(place)?.take()).collect())
}

fn files(path: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| reading(path, &error))? {
        let file = entry.map_err(|error| reading(path, &error))?.path();
        let manifest =
            file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if manifest && file.is_file() {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(Failure::new(format!("no .yaml, .yml or .json files in {}", path.display())));
    }
    found.sort();
    Ok(found)
}

fn reading(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("reading {}: {error}", path.display()))
}

/// Reads the documents of one text: `kind: llm` documents, plural keys (`llms: [...]`), or a list of the former.
pub(crate) fn parse(source: &str, text: &str) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for (value, line) in yaml::read(source, text)? {
        let place = format!("{source}:{line}");
        match value {
            Value::Object(map) if map.contains_key("kind") => documents.push(document(&place, None, map)?),
            Value::Object(map) => {
                for (key, items) in map {
                    documents.extend(listed(&place, &key, items)?);
                }
            }
            Value::Array(items) => {
                for item in items {
                    documents.push(document(&place, None, object(&place, item)?)?);
                }
            }
            _ => {
                return Err(Failure::new(format!(
                    "{place}: expected `kind: …`, or a list under a plural such as `llms:`"
                )));
            }
        }
    }
    Ok(documents)
}

/// The resources under a plural key.
fn listed(place: &str, key: &str, items: Value) -> Result<Vec<Document>, Failure> {
    let Some(kind) = Kind::all().find(|kind| kind.plural == key) else {
        let mut failure = unknown_kind(key);
        if ["name", "type", "model", "data", "spec"].contains(&key) {
            failure = Failure::new("the document has no `kind`").hint("add a line such as `kind: llm`");
        }
        return Err(failure.in_input().context(place));
    };
    let Value::Array(items) = items else {
        return Err(Failure::new(format!("{place}: `{key}` must be a list")));
    };
    items
        .into_iter()
        .map(|item| document(place, Some(kind), object(&format!("{place}: {key}"), item)?))
        .collect()
}

fn object(place: &str, value: Value) -> Result<Spec, Failure> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Failure::new(format!("{place}: each resource must be a map of its fields"))),
    }
}

/// One resource; its kind is the one of the list it stands in, or the one it names.
fn document(place: &str, listed: Option<Kind>, mut body: Spec) -> Result<Document, Failure> {
    let named = match body.shift_remove("kind") {
        Some(Value::String(kind)) => {
            Some(Kind::parse(&kind).ok_or_else(|| unknown_kind(&kind).in_input().context(place))?)
        }
        Some(_) => return Err(Failure::new(format!("{place}: `kind` must be a string"))),
        None => None,
    };
    let kind = match (listed, named) {
        (Some(listed), Some(named)) if listed != named => {
            return Err(Failure::new(format!("{place}: a {} in a list of {listed}", named.singular)));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(Failure::new(format!("{place}: a resource without `kind`"))),
    };
    let name = match body.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        Some(Value::String(_)) | None => {
            return Err(Failure::new(format!("{place}: a {} without `name`", kind.singular)));
        }
        Some(other) => {
            let hint = format!("write it in quotes: name: \"{other}\"");
            return Err(
                Failure::new(format!("{place}: the name of a {} must be text", kind.singular)).hint(hint)
            );
        }
    };
    Ok(Document { kind, name, body })
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;
    use serde_json::json;

    use super::*;

    fn names(text: &str) -> Vec<(Kind, String)> {
        parse("f", text).unwrap().into_iter().map(|document| (document.kind, document.name)).collect()
    }

    fn message(text: &str) -> String {
        parse("f", text).unwrap_err().message().to_owned()
    }

    #[test]
    fn every_form_is_read() {
        let both = [(kinds::LLMS, "a".to_owned()), (kinds::SECRETS, "b".to_owned())];
        assert_eq!(names("kind: llm\nname: a\n---\nkind: secret\nname: b\n"), both);
        assert_eq!(names("llms:\n- name: a\nsecrets:\n- name: b\n"), both);
        assert_eq!(names(r#"[{"kind": "llm", "name": "a"}, {"kind": "sec", "name": "b"}]"#), both);
        assert_eq!(names("llms: []\n"), []);
        let documents = parse("f", "kind: llm\nname: a\nmodel: no\n").unwrap();
        assert_eq!(Value::Object(documents[0].body.clone()), json!({"name": "a", "model": "no"}));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert_eq!(message("# x\nkind: lllm\nname: a\n"), "f:2: unknown kind `lllm`");
        assert_eq!(message("lms: []\n"), "f:1: unknown kind `lms`");
        assert_eq!(message("name: a\ntype: openai\n"), "f:1: the document has no `kind`");
        assert_eq!(message("kind: llm\n"), "f:1: a llm without `name`");
        assert_eq!(message("kind: llm\nname: 1\n"), "f:1: the name of a llm must be text");
        assert_eq!(message("llms: {}\n"), "f:1: `llms` must be a list");
        assert_eq!(message("llms: [x]\n"), "f:1: llms: each resource must be a map of its fields");
        assert_eq!(message("llms: [{kind: secret, name: x}]\n"), "f:1: a secret in a list of llms");
        assert!(message("just text\n").starts_with("f:1: expected `kind: …`"));
    }

    #[test]
    fn files_and_folders_are_read_in_apply_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("1.yaml", "kind: rbac\nname: r\n---\nkind: llm\nname: l\n");
        write("2.json", r#"{"secrets": [{"name": "s"}], "users": [{"name": "u@h"}]}"#);
        write("3.txt", "not: read\n");
        let path = folder.path().display().to_string();
        let names: Vec<String> = load(&[path]).unwrap().into_iter().map(|document| document.name).collect();
        assert_eq!(names, ["s", "l", "u@h", "r"]);
        let missing = folder.path().join("none.yaml").display().to_string();
        assert!(load(&[missing]).unwrap_err().message().contains("none.yaml"));
    }
}
