//! Fields: their types, and what is right and wrong in a value.

use serde_json::{Map, Value};

use super::{Faults, Kind, Spec, faults::suggestion};

/// A field of a kind.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: &'static str,
    /// The name in `describe`.
    pub label: &'static str,
    /// What it is, in one sentence, for `explain` and the API's schema.
    pub about: &'static str,
    /// What it holds.
    pub ty: FieldType,
    /// Whether a new resource must have it.
    pub required: bool,
    /// Whether it keeps the value it was created with.
    pub immutable: bool,
    /// Whether it is accepted and never shown: a password, a secret value.
    pub write_only: bool,
    /// Whether it is shown and never accepted, except with the value it has.
    pub read_only: bool,
    /// Whether it changes by itself: a value that comes back from an earlier read says nothing.
    pub volatile: bool,
    /// The section of `describe` that shows it together with others; `None` for its usual place.
    pub section: Option<&'static str>,
    /// What `describe` shows when it is empty; `None` to leave it out.
    pub when_empty: Option<&'static str>,
    /// What `describe` puts behind its value.
    pub remark: Option<&'static str>,
    /// The resource that it names without referring to it; `None` when it names none.
    pub mention: Option<Mention>,
}

/// How text names a resource that need not exist. Nothing is pinned or unlinked: the name counts, whenever it is read.
#[derive(Clone, Copy, Debug)]
pub struct Mention {
    /// The plural of the kind named.
    pub kind: &'static str,
    /// The word that names none on purpose.
    pub off: &'static str,
    /// The remark of `describe` where nothing has the name.
    pub missing: &'static str,
}

/// What a field holds.
#[derive(Debug)]
pub enum FieldType {
    /// Text of `min` to `max` characters.
    Text {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: usize,
    },
    /// One of some words; the default, if any, is the first when the field is not required.
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
    /// An absolute http or https URL without user-info, or empty.
    Url,
    /// Any JSON object.
    Object,
    /// An object of non-empty keys and text.
    TextMap,
    /// A list of text.
    TextList,
    /// A list of objects with these fields.
    List(&'static [Field]),
    /// The names of resources of another kind, each once. One that is deleted leaves the list.
    References {
        /// The plural of the kind referred to.
        kind: &'static str,
    },
    /// The name of a resource of another kind.
    Reference {
        /// The plural of the kind referred to.
        kind: &'static str,
        /// Whether it is written `{name, key}`, naming a key inside the resource, and not just the name.
        keyed: bool,
        /// What becomes of this field when the other resource is deleted.
        on_delete: OnDelete,
    },
}

/// What becomes of a reference when the resource it names is deleted; the strictest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnDelete {
    /// The reference becomes null.
    Unlink,
    /// What refers to it is deleted with it.
    Delete,
    /// The deletion is refused.
    Refuse,
}

impl Field {
    /// An optional field.
    pub const fn new(name: &'static str, label: &'static str, ty: FieldType, about: &'static str) -> Self {
        let (required, immutable, write_only, read_only, volatile) = (false, false, false, false, false);
        let (section, when_empty, remark, mention) = (None, None, None, None);
        Self {
            name,
            label,
            about,
            ty,
            required,
            immutable,
            write_only,
            read_only,
            volatile,
            section,
            when_empty,
            remark,
            mention,
        }
    }

    /// A new resource must have it.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Keeps the value it was created with.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Accepted and never shown.
    #[must_use]
    pub const fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// Shown and never accepted.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Shown, and left aside when it comes back.
    #[must_use]
    pub const fn volatile(mut self) -> Self {
        self.read_only = true;
        self.volatile = true;
        self
    }

    /// Shown by `describe` in the section of this title.
    #[must_use]
    pub(super) const fn in_section(mut self, title: &'static str) -> Self {
        self.section = Some(title);
        self
    }

    /// Shown by `describe` as this when it is empty.
    #[must_use]
    pub(super) const fn empty_is(mut self, word: &'static str) -> Self {
        self.when_empty = Some(word);
        self
    }

    /// Shown by `describe` with this behind it.
    #[must_use]
    pub(super) const fn remarked(mut self, remark: &'static str) -> Self {
        self.remark = Some(remark);
        self
    }

    /// Names a resource that need not exist.
    #[must_use]
    pub(super) const fn mentions(mut self, mention: Mention) -> Self {
        self.mention = Some(mention);
        self
    }

    /// The description every kind has.
    pub const fn description() -> Self {
        Self::new(
            "description",
            "Description",
            FieldType::Text { min: 0, max: 500 },
            "what it is for, in a few words",
        )
    }

    /// The value of an optional field that was not given.
    pub fn default_value(&self) -> Value {
        match &self.ty {
            FieldType::Text { .. } | FieldType::Url => Value::String(String::new()),
            FieldType::Choice(options) => options.first().copied().into(),
            FieldType::Flag => Value::Bool(false),
            FieldType::Object | FieldType::TextMap => Value::Object(Map::new()),
            FieldType::TextList | FieldType::List(_) | FieldType::References { .. } => {
                Value::Array(Vec::new())
            }
            FieldType::Reference { .. } => Value::Null,
        }
    }

    /// Adds to `faults` what is wrong with `value`, under the name `path`.
    pub fn check(&self, path: &str, value: &Value, faults: &mut Faults) {
        match (&self.ty, value) {
            (FieldType::Text { min, max }, Value::String(text)) => check_text(path, text, *min, *max, faults),
            (FieldType::Choice(options), Value::String(text)) => {
                if !options.contains(&text.as_str()) {
                    faults.add(path, format!("must be one of {}, not `{}`", options.join(", "), clip(text)));
                }
            }
            (FieldType::Flag, Value::Bool(_)) | (FieldType::Object, Value::Object(_)) => {}
            (FieldType::Url, Value::String(text)) => {
                if !text.is_empty()
                    && let Some(fault) = super::llm::url_fault(text)
                {
                    faults.add(path, fault);
                }
            }
            (FieldType::TextMap, Value::Object(map)) => check_text_map(path, map, faults),
            (FieldType::TextList, Value::Array(items)) => {
                if items.iter().any(|item| !item.is_string()) {
                    faults.add(path, "must be a list of strings");
                }
            }
            (FieldType::List(fields), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    check_item(&format!("{path}[{index}]"), fields, item, faults);
                }
            }
            (FieldType::References { kind }, Value::Array(items)) => {
                check_references(path, kind, items, faults)
            }
            (FieldType::Reference { .. }, Value::Null) if !self.required => {}
            (FieldType::Reference { kind, keyed, .. }, value) => {
                check_reference(path, kind, *keyed, value, faults)
            }
            _ => faults.add(path, self.ty.expectation()),
        }
    }
}

impl FieldType {
    /// `must be …`, for a value of the wrong type.
    fn expectation(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Choice(_) => "must be a string",
            Self::Url => "must be a string holding an absolute http or https URL",
            Self::Flag => "must be true or false",
            Self::Object | Self::TextMap => "must be an object",
            Self::TextList => "must be a list of strings",
            Self::List(_) => "must be a list of objects",
            Self::References { .. } => "must be a list of names",
            Self::Reference { keyed: true, .. } => "must be an object `{name, key}` or null",
            Self::Reference { keyed: false, .. } => "must be a name",
        }
    }
}

fn check_text(path: &str, text: &str, min: usize, max: usize, faults: &mut Faults) {
    let length = text.chars().count();
    if min > 0 && text.trim().is_empty() {
        faults.add(path, "must not be empty");
    } else if length < min {
        faults.add(path, format!("must have at least {min} characters"));
    } else if length > max {
        faults.add(path, format!("must have at most {max} characters, not {length}"));
    } else if text.contains('\0') {
        faults.add(path, "must not contain NUL");
    }
}

fn check_text_map(path: &str, map: &Spec, faults: &mut Faults) {
    for (key, value) in map {
        if key.is_empty() {
            faults.add(path, "has an empty key");
        } else if !value.is_string() {
            faults.add(&format!("{path}.{}", clip(key)), "must be a string");
        }
    }
}

fn check_item(path: &str, fields: &'static [Field], item: &Value, faults: &mut Faults) {
    let Value::Object(item) = item else {
        faults.add(path, "must be an object");
        return;
    };
    refuse_unknown(path, item, |name| fields.iter().any(|field| field.name == name), fields, faults);
    for field in fields {
        let inner = format!("{path}.{}", field.name);
        match item.get(field.name) {
            Some(value) => field.check(&inner, value, faults),
            None if field.required => faults.add(&inner, "is required"),
            None => {}
        }
    }
}

fn check_references(path: &str, kind: &str, items: &[Value], faults: &mut Faults) {
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        check_reference(&path, kind, false, item, faults);
        if item.as_str().is_some_and(|name| !seen.insert(name)) {
            faults.add(&path, "is in the list already");
        }
    }
}

fn check_reference(path: &str, kind: &str, keyed: bool, value: &Value, faults: &mut Faults) {
    let rule = |name: &str| Kind::parse(kind).and_then(|kind| kind.name_rule.fault(name));
    match (keyed, value) {
        (false, Value::String(name)) => {
            if let Some(fault) = rule(name) {
                faults.add(path, fault);
            }
        }
        (true, Value::Object(parts)) => {
            for key in parts.keys().filter(|key| !["name", "key"].contains(&key.as_str())) {
                faults.add(&format!("{path}.{}", clip(key)), "unknown field; expected `name` and `key`");
            }
            match parts.get("name") {
                Some(Value::String(name)) => {
                    if let Some(fault) = rule(name) {
                        faults.add(&format!("{path}.name"), fault);
                    }
                }
                _ => faults.add(&format!("{path}.name"), "must be a string"),
            }
            if !matches!(parts.get("key"), Some(Value::String(key)) if !key.is_empty()) {
                faults.add(&format!("{path}.key"), "must be a non-empty string");
            }
        }
        (true, _) => faults.add(path, "must be an object `{name, key}` or null"),
        (false, _) => faults.add(path, "must be a name"),
    }
}

/// Adds a fault for each key of `body` that `known` does not accept.
pub(super) fn refuse_unknown(
    path: &str,
    body: &Spec,
    known: impl Fn(&str) -> bool,
    fields: &'static [Field],
    faults: &mut Faults,
) {
    for key in body.keys().filter(|key| !known(key)) {
        let names = fields.iter().filter(|field| !field.read_only).map(|field| field.name);
        let hint = suggestion(key, names.chain(["name"]));
        let full = if path.is_empty() { clip(key) } else { format!("{path}.{}", clip(key)) };
        faults.add(&full, format!("unknown field{hint}"));
    }
}

/// `text`, cut to a length that is fit for an error message, without control characters.
pub(super) fn clip(text: &str) -> String {
    const MOST: usize = 60;
    let mut clipped: String =
        text.chars().take(MOST).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if text.chars().nth(MOST).is_some() {
        clipped.push('…');
    }
    clipped
}
