//! Kinds: what every part of the system knows about a sort of resource.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

use super::{Faults, Field, NameRule, Spec, kinds};

/// A kind of resource: a cheap handle to its definition.
#[derive(Clone, Copy)]
pub struct Kind(pub(super) &'static KindDef);

/// The definition of a kind. Everything generic (validation, storage, routes, tables) is derived from it.
pub struct KindDef {
    /// The name in paths, permissions and plural YAML keys: `llms`.
    pub plural: &'static str,
    /// The name in `kind:` and in messages: `llm`.
    pub singular: &'static str,
    /// Other names that are accepted.
    pub aliases: &'static [&'static str],
    /// What it is, in one sentence.
    pub about: &'static str,
    /// `apply` goes through kinds in ascending order, so that what is referred to comes first.
    pub apply_order: u8,
    /// Which names it accepts.
    pub name_rule: NameRule,
    /// The fields besides id, name, version and times.
    pub fields: &'static [Field],
    /// The table of `get`.
    pub columns: &'static [Column],
    /// Rules over several fields; may also normalise. Runs only when every field is fine by itself.
    /// The second argument is the stored spec, on updates.
    pub check: fn(&mut Spec, Option<&Spec>, &mut Faults),
    /// What the registry does for it beyond storing it.
    pub behaviour: Behaviour,
}

/// What the registry does for a kind beyond storing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Nothing.
    Plain,
    /// Its credential decides where a key is sent: changing that needs the right to read the key.
    Llm,
    /// Its values are kept by a secret backend.
    Secret,
    /// Exactly one of them is the default.
    SecretBackend,
    /// It has a password, and sessions that end with it.
    User,
    /// Whoever joins gets its roles.
    Group,
    /// Its subjects and scopes are pinned to ids.
    Rbac,
    /// It has a value that is shown once, and scopes that are pinned to ids.
    McpToken,
}

/// A column of a kind's table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading, in capitals.
    pub header: &'static str,
    /// Where the cell comes from.
    pub value: ColumnValue,
    /// Whether it is shown by `-o wide` only.
    pub wide: bool,
}

/// Where a table cell comes from.
#[derive(Clone, Copy, Debug)]
pub enum ColumnValue {
    /// A field of the resource as it is on the wire, by its JSON name.
    Field(&'static str),
    /// The time since the instant in the field of this JSON name.
    Age(&'static str),
    /// Made from the resource as it is on the wire.
    With(fn(&Spec) -> String),
}

impl Column {
    /// A column that shows a field.
    pub const fn field(header: &'static str, name: &'static str) -> Self {
        Self { header, value: ColumnValue::Field(name), wide: false }
    }

    /// A column made by a function.
    pub const fn with(header: &'static str, make: fn(&Spec) -> String) -> Self {
        Self { header, value: ColumnValue::With(make), wide: false }
    }

    /// A column that shows how long ago a time was.
    pub const fn age(header: &'static str, name: &'static str) -> Self {
        Self { header, value: ColumnValue::Age(name), wide: false }
    }

    /// Shown by `-o wide` only.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

impl Kind {
    /// All kinds, in the order of the table in [`kinds`].
    pub fn all() -> impl Iterator<Item = Self> {
        kinds::ALL.iter().copied()
    }

    /// All kinds in the order in which `apply` goes through them.
    pub fn in_apply_order() -> Vec<Self> {
        let mut all: Vec<Self> = Self::all().collect();
        all.sort_by_key(|kind| kind.apply_order);
        all
    }

    /// Finds a kind by plural, singular or alias, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|kind| kind.names().any(|name| name.eq_ignore_ascii_case(text)))
    }

    /// Every name the kind answers to: plural, singular, aliases.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [self.0.plural, self.0.singular].into_iter().chain(self.0.aliases.iter().copied())
    }

    /// The definition, with the lifetime of the program.
    pub fn def(self) -> &'static KindDef {
        self.0
    }
}

impl KindDef {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Deref for Kind {
    type Target = KindDef;

    fn deref(&self) -> &KindDef {
        self.0
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.plural == other.0.plural
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.plural.hash(state);
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.plural.cmp(other.0.plural)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.plural)
    }
}
