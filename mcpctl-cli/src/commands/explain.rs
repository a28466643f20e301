//! `mcpctl explain`

use clap::Args;
use mcpctl_core::resource::{Field, FieldType, Kind, NameRule};
use serde_json::{Map, Value, json};

use crate::{
    context::Context,
    failure::Failure,
    kinds::{nearest, parse_kind, title},
    output::{Format, block},
    yaml,
};

/// Explain a kind, or one of its fields: types, defaults, accepted values
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl explain llm\n  mcpctl explain llm.apiKeyRef\n  \
                        mcpctl explain rbac.roleBindings.role -o json")]
pub(crate) struct Explain {
    /// What to explain
    #[arg(value_name = "KIND[.FIELD]")]
    path: String,
}

impl Explain {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let (word, path) = match self.path.split_once('.') {
            Some((word, path)) => (word, Some(path)),
            None => (self.path.as_str(), None),
        };
        let kind = parse_kind(word)?;
        let facts = match path {
            None => of_kind(kind),
            Some(path) => of_field(kind, path)?,
        };
        match context.format() {
            Format::Json => context.out.json(&Value::Object(facts)),
            Format::Yaml => context.out.print(&yaml::write(&facts)?),
            Format::Table | Format::Wide | Format::Name => context.out.print(&shown(&facts)),
        }
    }
}

/// A field as a schema tells of it.
type Facts = Map<String, Value>;

fn of_kind(kind: Kind) -> Facts {
    let fields = [name_field(kind)].into_iter().chain(kind.fields.iter().map(facts));
    object([
        ("kind", kind.singular.into()),
        ("description", sentence(kind.about).into()),
        ("aliases", kind.names().filter(|name| *name != kind.singular).collect()),
        ("fields", fields.map(Value::Object).collect()),
    ])
}

/// What every kind has, and no kind's table names.
fn name_field(kind: Kind) -> Facts {
    let about = match kind.name_rule {
        NameRule::Label => "its name: 1 to 100 of a-z, 0-9 and -",
        NameRule::Email => "its name: an e-mail address",
    };
    object([
        ("name", "name".into()),
        ("type", "text".into()),
        ("required", true.into()),
        ("immutable", true.into()),
        ("description", sentence(about).into()),
    ])
}

fn of_field(kind: Kind, path: &str) -> Result<Facts, Failure> {
    let mut within = of_kind(kind);
    let mut so_far = kind.singular.to_owned();
    for part in path.split('.') {
        let fields: Vec<&Facts> = within
            .get("fields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .collect();
        let name_of =
            |facts: &Facts| facts.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(found) = fields.iter().find(|facts| name_of(facts).eq_ignore_ascii_case(part)) else {
            let names: Vec<String> = fields.iter().map(|facts| name_of(facts)).collect();
            let failure = Failure::usage(format!("{so_far} has no field `{part}`"));
            return Err(match (names.is_empty(), nearest(part, names.iter().map(String::as_str))) {
                (true, _) => failure.hint(format!("`mcpctl explain {so_far}` shows what it holds")),
                (false, Some(name)) => failure.hint(format!("did you mean `{name}`?")),
                (false, None) => failure.hint(format!("its fields are {}", names.join(", "))),
            });
        };
        let found = (*found).clone();
        so_far = format!("{so_far}.{}", name_of(&found));
        within = found;
    }
    let head = object([("kind", kind.singular.into()), ("path", so_far.into())]);
    Ok(head.into_iter().chain(within).collect())
}

fn facts(field: &Field) -> Facts {
    let mut facts = object([
        ("name", field.name.into()),
        ("type", type_of(&field.ty).into()),
        ("required", field.required.into()),
        ("immutable", field.immutable.into()),
        ("description", sentence(field.about).into()),
    ]);
    if field.read_only {
        facts.insert("readOnly".into(), true.into());
    }
    if field.write_only {
        facts.insert("writeOnly".into(), true.into());
    }
    if !field.required && !field.read_only && !field.write_only {
        facts.insert("default".into(), field.default_value());
    }
    match &field.ty {
        FieldType::Choice(options) => {
            facts.insert("values".into(), options.iter().copied().collect());
        }
        FieldType::Text { min, max } => {
            facts.insert("minLength".into(), (*min).into());
            facts.insert("maxLength".into(), (*max).into());
        }
        FieldType::List(fields) => {
            let inner = fields.iter().map(|field| Value::Object(self::facts(field)));
            facts.insert("fields".into(), inner.collect());
        }
        FieldType::Reference { keyed: true, kind, .. } => {
            let part = |name: &str, about: String| json!({"name": name, "type": "text", "required": true, "immutable": false, "description": about});
            let of = Kind::parse(kind).map_or_else(|| (*kind).to_owned(), title);
            let parts =
                [part("name", format!("The {of}'s name")), part("key", format!("A key inside the {of}"))];
            facts.insert("fields".into(), parts.into_iter().collect());
        }
        FieldType::Flag
        | FieldType::Url
        | FieldType::Object
        | FieldType::TextMap
        | FieldType::TextList
        | FieldType::References { .. }
        | FieldType::Reference { keyed: false, .. } => {}
    }
    facts
}

fn type_of(ty: &FieldType) -> String {
    let one = |kind: &str| Kind::parse(kind).map_or_else(|| kind.to_owned(), title);
    match ty {
        FieldType::Text { .. } | FieldType::Choice(_) => "text".to_owned(),
        FieldType::Flag => "true or false".to_owned(),
        FieldType::Url => "URL".to_owned(),
        FieldType::Object => "object".to_owned(),
        FieldType::TextMap => "map of text".to_owned(),
        FieldType::TextList => "list of text".to_owned(),
        FieldType::List(_) => "list of objects".to_owned(),
        FieldType::References { kind } => format!("list of names of {}s", one(kind)),
        FieldType::Reference { kind, keyed: true, .. } => format!("{{name, key}} of a {}", one(kind)),
        FieldType::Reference { kind, keyed: false, .. } => format!("name of a {}", one(kind)),
    }
}

fn object<const N: usize>(facts: [(&str, Value); N]) -> Facts {
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Laid out for people.
fn shown(facts: &Facts) -> String {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = vec![("Kind".to_owned(), text("kind"))];
    if facts.contains_key("path") {
        lines.push(("Field".to_owned(), text("path")));
        lines.extend(traits(facts));
    } else {
        lines.push(("Names".to_owned(), list(facts, "aliases")));
    }
    lines.push(("Description".to_owned(), text("description")));
    let mut shown = block(&lines, "");
    if let Some(Value::Array(fields)) = facts.get("fields") {
        shown.push_str("\nFields:\n");
        shown.push_str(
            &fields.iter().filter_map(Value::as_object).map(|field| entry(field, "  ")).collect::<String>(),
        );
    }
    shown
}

/// A field in a list of fields.
fn entry(field: &Facts, indent: &str) -> String {
    let text = |name: &str| field.get(name).and_then(Value::as_str).unwrap_or_default();
    let is = |name: &str| field.get(name) == Some(&Value::Bool(true));
    let marks = [
        ("required", "required"),
        ("immutable", "immutable"),
        ("readOnly", "read-only"),
        ("writeOnly", "never shown"),
    ];
    let marks: String =
        marks.iter().filter(|(name, _)| is(name)).map(|(_, word)| format!("  {word}")).collect();
    let mut shown =
        format!("{indent}{}  <{}>{marks}\n{indent}    {}\n", text("name"), text("type"), text("description"));
    if field.contains_key("values") {
        let default = field.get("default").and_then(Value::as_str);
        let default = default.map(|value| format!(" (default {value})")).unwrap_or_default();
        shown.push_str(&format!("{indent}    One of {}{default}\n", list(field, "values")));
    }
    for inner in
        field.get("fields").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    {
        shown.push_str(&entry(inner, &format!("{indent}  ")));
    }
    shown
}

fn traits(facts: &Facts) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let yes = |name: &str| if facts.get(name) == Some(&Value::Bool(true)) { "yes" } else { "no" }.to_owned();
    lines.push(("Type".to_owned(), facts.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()));
    lines.push(("Required".to_owned(), yes("required")));
    lines.push(("Immutable".to_owned(), yes("immutable")));
    for (name, label) in [("readOnly", "Read-only"), ("writeOnly", "Never shown")] {
        if facts.contains_key(name) {
            lines.push((label.to_owned(), yes(name)));
        }
    }
    if let Some(default) = facts.get("default") {
        let default = match default {
            Value::String(text) if text.is_empty() => "(empty)".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        lines.push(("Default".to_owned(), default));
    }
    if facts.contains_key("values") {
        lines.push(("Values".to_owned(), list(facts, "values")));
    }
    if let Some(most) = facts.get("maxLength") {
        let least = facts.get("minLength").map(ToString::to_string).unwrap_or_default();
        lines.push(("Length".to_owned(), format!("{least} to {most} characters")));
    }
    lines
}

fn list(facts: &Facts, name: &str) -> String {
    let items = facts.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;

    use super::*;

    #[test]
    fn a_field_is_explained_to_its_innermost_part() {
        insta::assert_snapshot!(shown(&of_field(kinds::LLMS, "tier").unwrap()), @r"
        Kind:         llm
        Field:        llm.tier
        Type:         text
        Required:     no
        Immutable:    no
        Default:      fast
        Values:       fast, heavy
        Description:  What it is for: quick answers or hard ones
        ");
        insta::assert_snapshot!(shown(&of_field(kinds::LLMS, "apikeyref").unwrap()), @r"
        Kind:         llm
        Field:        llm.apiKeyRef
        Type:         {name, key} of a Secret
        Required:     no
        Immutable:    no
        Default:      null
        Description:  The Secret that holds the provider's key, and the key inside it

        Fields:
          name  <text>  required
              The Secret's name
          key  <text>  required
              A key inside the Secret
        ");
        let role = of_field(kinds::RBAC, "roleBindings.role").unwrap();
        assert_eq!(role.get("path"), Some(&json!("rbac.roleBindings.role")));
        let failure = of_field(kinds::LLMS, "modle").unwrap_err();
        assert_eq!(failure.message(), "llm has no field `modle`");
    }

    #[test]
    fn every_field_of_every_kind_has_a_description() {
        for kind in Kind::all() {
            let facts = of_kind(kind);
            for field in facts.get("fields").and_then(Value::as_array).unwrap() {
                assert!(
                    field["description"].as_str().is_some_and(|about| about.len() > 5),
                    "{kind}: {field}"
                );
            }
        }
    }
}
