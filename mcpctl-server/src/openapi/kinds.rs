//! Resources of every kind: as they are shown, made and changed.

use mcpctl_core::resource::{Field, FieldType, Kind, NameRule, kinds};
use serde_json::{Map, Value, json};

/// What a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A resource as it is shown.
    Shown,
    /// One that was just made, as its maker sees it.
    Made,
    /// The body that makes one.
    New,
    /// The body that replaces fields.
    Put,
    /// The body that merges into one.
    Patch,
}

impl Use {
    const ALL: [Self; 5] = [Self::Shown, Self::Made, Self::New, Self::Put, Self::Patch];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Shown => "",
            Self::Made => "Made",
            Self::New => "New",
            Self::Put => "Put",
            Self::Patch => "Patch",
        }
    }

    const fn is_answer(self) -> bool {
        matches!(self, Self::Shown | Self::Made)
    }
}

/// A reference to the schema of a kind.
pub(super) fn of(kind: Kind, usage: Use) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", name(kind, usage))})
}

/// Every schema of every kind.
pub(super) fn all() -> Map<String, Value> {
    let of_kind = |kind: Kind| Use::ALL.map(|usage| (name(kind, usage), resource(kind, usage)));
    Kind::all().flat_map(of_kind).collect()
}

fn name(kind: Kind, usage: Use) -> String {
    let mut letters = kind.singular.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let title: String = first.into_iter().chain(letters).collect();
    format!("{}{title}", usage.prefix())
}

fn resource(kind: Kind, usage: Use) -> Value {
    let time = |what: &str| json!({"type": "string", "format": "date-time", "description": what});
    let mut properties = Map::new();
    let mut add = |name: &str, schema: Value| properties.insert(name.to_owned(), schema);
    if usage != Use::New {
        add("id", json!({"type": "string", "pattern": "^c[a-z0-9]{24}$", "description": "its id"}));
    }
    add("name", name_schema(kind.name_rule));
    for field in kind.def().fields.iter().filter(|field| has(field, kind, usage)) {
        add(field.name, schema(field, usage));
    }
    if usage != Use::New {
        let about = if usage.is_answer() {
            "1, and one more at every change"
        } else {
            "the version it was made from"
        };
        add("version", json!({"type": "integer", "minimum": 1, "description": about}));
        add("createdAt", time("when it was made"));
        add("updatedAt", time("when it was last changed"));
    }
    if usage == Use::Made && kind == kinds::MCP_TOKENS {
        add("token", json!({"type": "string", "description": "its value: nothing ever shows it again"}));
    }
    let mut required: Vec<&str> = match usage {
        Use::Shown | Use::Made => vec!["id", "name", "version", "createdAt", "updatedAt"],
        Use::New => vec!["name"],
        Use::Put | Use::Patch => Vec::new(),
    };
    if usage == Use::New {
        required.extend(kind.def().fields.iter().filter(|field| field.required).map(|field| field.name));
    }
    let about = match usage {
        Use::Shown | Use::Made | Use::New => kind.about.to_owned(),
        Use::Put => {
            "the fields to replace; id, name, times and read-only fields only as they are stored".to_owned()
        }
        Use::Patch => "a JSON merge patch (RFC 7396); null puts a field back to its default".to_owned(),
    };
    object(about, properties, &required)
}

/// Whether a field is part of a body or an answer.
fn has(field: &Field, kind: Kind, usage: Use) -> bool {
    match usage {
        // Values are shown to who asks for them and may see them.
        Use::Shown if kind == kinds::SECRETS && field.name == "data" => true,
        Use::Shown | Use::Made => !field.write_only,
        Use::New => !field.read_only,
        Use::Put | Use::Patch => true,
    }
}

fn object(about: String, properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn name_schema(rule: NameRule) -> Value {
    match rule {
        NameRule::Label => {
            json!({"type": "string", "pattern": "^[a-z0-9-]{1,100}$", "description": "unique within its kind"})
        }
        NameRule::Email => {
            json!({"type": "string", "format": "email", "maxLength": 254, "description": "the e-mail address"})
        }
    }
}

fn schema(field: &Field, usage: Use) -> Value {
    let mut schema = bare(&field.ty, usage);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), field.about.into());
        if field.read_only {
            schema.insert("readOnly".to_owned(), usage.is_answer().into());
        }
    }
    if usage == Use::Patch && !field.required { json!({"anyOf": [schema, {"type": "null"}]}) } else { schema }
}

fn bare(ty: &FieldType, usage: Use) -> Value {
    let name_of =
        |kind: &str| Kind::parse(kind).map_or(json!({"type": "string"}), |kind| name_schema(kind.name_rule));
    match ty {
        FieldType::Text { min, max } => json!({"type": "string", "minLength": min, "maxLength": max}),
        FieldType::Choice(options) => json!({"type": "string", "enum": options}),
        FieldType::Flag => json!({"type": "boolean"}),
        FieldType::Url => json!({"type": "string", "pattern": "^$|^https?://", "maxLength": 2000}),
        FieldType::Object => json!({"type": "object"}),
        FieldType::TextMap => {
            let types = if usage == Use::Patch { json!(["string", "null"]) } else { json!("string") };
            json!({"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": {"type": types}})
        }
        FieldType::TextList => json!({"type": "array", "items": {"type": "string"}}),
        FieldType::List(fields) => {
            let properties =
                fields.iter().map(|field| (field.name.to_owned(), schema(field, usage_of_item(usage))));
            let required: Vec<&str> =
                fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            let item = object("one of them".to_owned(), properties.collect(), &required);
            json!({"type": "array", "items": item})
        }
        FieldType::References { kind } => {
            // What was named may have been renamed by a rule that came later: what is shown is what is stored.
            let item = if usage.is_answer() { json!({"type": "string"}) } else { name_of(kind) };
            json!({"type": "array", "items": item, "uniqueItems": true})
        }
        FieldType::Reference { kind, keyed: true, .. } => {
            let required: &[&str] = if usage == Use::Patch { &[] } else { &["name", "key"] };
            json!({
                "type": ["object", "null"],
                "properties": {"name": name_of(kind), "key": {"type": "string", "minLength": 1}},
                "required": required,
                "additionalProperties": false,
            })
        }
        FieldType::Reference { kind, keyed: false, .. } => {
            json!({"anyOf": [name_of(kind), {"type": "null"}]})
        }
    }
}

/// A list is replaced as a whole, also by a merge patch.
const fn usage_of_item(usage: Use) -> Use {
    match usage {
        Use::Patch => Use::Put,
        other => other,
    }
}
