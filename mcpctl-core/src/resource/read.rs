//! From a request's body to a spec: unknown fields, types, defaults, merging, and every fault at once.

use serde_json::Value;

use super::{
    Faults, Field, KindDef, Object, Spec,
    field::refuse_unknown,
    view::{view, wire_form},
};
use crate::error::Result;

/// A valid body.
#[derive(Debug)]
pub struct Reading {
    /// The whole spec after the change, in wire form, without write-only fields.
    pub spec: Spec,
    /// The write-only fields the body carried.
    pub supplied: SuppliedSpec,
    /// The version the body was made from, when it says so.
    pub version: Option<i64>,
}

/// Write-only fields as they were supplied. `Debug` prints their names alone.
#[derive(Default)]
pub struct SuppliedSpec {
    values: Spec,
    /// Whether they are merged into what is stored (PATCH) and do not replace it.
    pub merge: bool,
}

impl SuppliedSpec {
    /// Takes the value supplied for `field`.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.values.remove(field)
    }
}

impl std::fmt::Debug for SuppliedSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// How a body changes what is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Put,
    Patch,
}

impl KindDef {
    /// Reads the body of a request that creates a resource: its name, and the rest with defaults filled in.
    ///
    /// # Errors
    ///
    /// Invalid, with every fault.
    pub fn read_new(&self, mut body: Spec) -> Result<(String, Reading)> {
        let mut faults = Faults::default();
        let name = match body.remove("name") {
            Some(Value::String(name)) => {
                if let Some(fault) = self.name_rule.fault(&name) {
                    faults.add("name", fault);
                }
                name
            }
            Some(_) => {
                faults.add("name", "must be a string");
                String::new()
            }
            None => {
                faults.add("name", "is required");
                String::new()
            }
        };
        for own in ["id", "version", "createdAt", "updatedAt"] {
            if body.remove(own).is_some() {
                faults.add(own, "is set by the server");
            }
        }
        let reading = self.read(body, None, Mode::Create, faults)?;
        Ok((name, reading))
    }

    /// Reads the body of a PUT: the fields it carries replace what is stored, the others stay.
    ///
    /// # Errors
    ///
    /// Invalid, with every fault.
    pub fn read_put(&self, stored: &Object, body: Spec) -> Result<Reading> {
        self.read_update(stored, body, Mode::Put)
    }

    /// Reads the body of a PATCH: a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// Invalid, with every fault.
    pub fn read_patch(&self, stored: &Object, body: Spec) -> Result<Reading> {
        self.read_update(stored, body, Mode::Patch)
    }

    fn read_update(&self, stored: &Object, mut body: Spec, mode: Mode) -> Result<Reading> {
        let mut faults = Faults::default();
        let version = match body.remove("version") {
            None => None,
            Some(version) => {
                let version = version.as_i64().filter(|version| *version > 0);
                if version.is_none() {
                    faults.add("version", "must be a positive whole number");
                }
                version
            }
        };
        let shown = view(stored);
        for own in ["id", "name", "createdAt"] {
            if let Some(value) = body.remove(own)
                && shown.get(own) != Some(&value)
            {
                faults.add(own, "cannot be changed");
            }
        }
        // It changes by itself: one that came from an earlier read says nothing.
        body.remove("updatedAt");
        let mut reading = self.read(body, Some(stored), mode, faults)?;
        reading.version = version;
        Ok(reading)
    }

    fn read(
        &self,
        mut body: Spec,
        stored: Option<&Object>,
        mode: Mode,
        mut faults: Faults,
    ) -> Result<Reading> {
        refuse_unknown("", &body, |name| self.field(name).is_some(), self.fields, &mut faults);
        let before = stored.map(|object| wire_form(self.fields, &object.spec));
        let mut supplied = SuppliedSpec { values: Spec::new(), merge: mode == Mode::Patch };
        let mut spec = Spec::new();
        for field in self.fields {
            let given = body.remove(field.name);
            let old = before.as_ref().and_then(|before| before.get(field.name));
            if field.write_only {
                take_write_only(field, given, mode, &mut supplied, &mut faults);
            } else if field.read_only {
                if !field.volatile && given.as_ref().is_some_and(|given| Some(given) != old) {
                    faults.add(field.name, "is set by the server");
                }
                spec.extend(old.map(|old| (field.name.to_owned(), old.clone())));
            } else if let Some(value) = settle(field, given, old, mode, &mut faults) {
                if field.immutable && old.is_some_and(|old| *old != value) {
                    faults.add(field.name, "cannot be changed");
                }
                field.check(field.name, &value, &mut faults);
                spec.insert(field.name.to_owned(), value);
            }
        }
        if faults.is_empty() {
            (self.check)(&mut spec, stored.map(|object| &object.spec), &mut faults);
        }
        faults.into_result()?;
        Ok(Reading { spec, supplied, version: None })
    }
}

/// The value a field will have, or `None` when it is missing and must not be.
fn settle(
    field: &Field,
    given: Option<Value>,
    old: Option<&Value>,
    mode: Mode,
    faults: &mut Faults,
) -> Option<Value> {
    match (given, old) {
        (Some(Value::Null), _) if mode == Mode::Patch => {
            if field.required {
                faults.add(field.name, "is required");
            }
            Some(field.default_value())
        }
        (Some(given), Some(old)) if mode == Mode::Patch => Some(merge_patch(old.clone(), given)),
        (Some(given), _) => Some(given),
        (None, Some(old)) => Some(old.clone()),
        (None, None) if field.required => {
            faults.add(field.name, "is required");
            None
        }
        (None, None) => Some(field.default_value()),
    }
}

fn take_write_only(
    field: &Field,
    given: Option<Value>,
    mode: Mode,
    supplied: &mut SuppliedSpec,
    faults: &mut Faults,
) {
    let Some(mut value) = given else {
        if field.required && mode == Mode::Create {
            faults.add(field.name, "is required");
        }
        return;
    };
    // In a merge patch, a null inside an object removes that key: it is no fault.
    let nulls = match &mut value {
        Value::Object(map) if mode == Mode::Patch => {
            let nulls: Vec<String> =
                map.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.clone()).collect();
            map.retain(|_, value| !value.is_null());
            nulls
        }
        _ => Vec::new(),
    };
    field.check(field.name, &value, faults);
    if let Value::Object(map) = &mut value {
        map.extend(nulls.into_iter().map(|key| (key, Value::Null)));
    }
    supplied.values.insert(field.name.to_owned(), value);
}

/// RFC 7396.
fn merge_patch(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut merged = match target {
        Value::Object(map) => map,
        _ => Spec::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            merged.shift_remove(&key);
        } else {
            let old = merged.get_mut(&key).map(Value::take).unwrap_or_default();
            merged.insert(key, merge_patch(old, value));
        }
    }
    Value::Object(merged)
}
