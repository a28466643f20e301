//! Objects: resources as they are stored.

use jiff::{Timestamp, Unit};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Id, Kind};
use crate::error::{Error, Result};

/// A resource's fields. As stored, references carry the `id` they were resolved to.
pub type Spec = serde_json::Map<String, Value>;

/// A number that grows by one with every committed change of a store.
pub type Revision = i64;

/// A resource as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its id, unique over all kinds and for ever.
    pub id: Id,
    /// Its name, unique within the kind.
    pub name: String,
    /// Its fields.
    pub spec: Spec,
    /// 1, and one more at every change.
    pub version: i64,
    /// The store's revision at its last change. Set by the store.
    pub revision: Revision,
    /// When it was made, to the microsecond.
    pub created_at: Timestamp,
    /// When it was last changed, to the microsecond.
    pub updated_at: Timestamp,
}

impl Object {
    /// A new object at version 1.
    pub fn new(kind: Kind, name: impl Into<String>, spec: Spec) -> Self {
        let now = now();
        let (name, id) = (name.into(), Id::random());
        Self { kind, id, name, spec, version: 1, revision: 0, created_at: now, updated_at: now }
    }

    /// The next version of this object, with another spec.
    #[must_use]
    pub fn updated(&self, spec: Spec) -> Self {
        // A clock that was set back must not make an update older than what it updates.
        let updated_at = now().max(self.updated_at);
        Self { spec, version: self.version + 1, updated_at, ..self.clone() }
    }

    /// The spec as the kind's own type.
    ///
    /// # Errors
    ///
    /// Internal, when what is stored does not fit the type.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.spec.clone())).map_err(|cause| {
            Error::internal(cause).context(format_args!("stored {} `{}`", self.kind.singular, self.name))
        })
    }
}

/// The time, cut to what every store can keep: microseconds.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc))
        .unwrap_or(now)
}
