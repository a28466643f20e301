//! Rows, and what they stand for.

use std::borrow::Cow;

use diesel::prelude::*;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    fault::{Fault, Stored},
    schema::{audit_events, encrypted_values, last_uses, object_changes, objects, sessions},
};
use crate::{
    resource::{Actor, AuditEvent, EventDetail, Id, Kind, Object, Revision, Session, Spec, TokenHash},
    store::event_user,
};

#[derive(Queryable, Insertable, AsChangeset)]
#[diesel(table_name = objects)]
pub(super) struct ObjectRow {
    id: String,
    kind: String,
    name: String,
    spec: String,
    version: i64,
    revision: Revision,
    created_at: i64,
    updated_at: i64,
}

#[derive(Insertable, AsChangeset)]
#[diesel(table_name = object_changes)]
pub(super) struct ObjectChangeRow<'a> {
    pub(super) id: &'a str,
    pub(super) kind: &'a str,
    pub(super) revision: Revision,
}

#[derive(Insertable, AsChangeset)]
#[diesel(table_name = encrypted_values)]
pub(super) struct ValueRow<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) content: &'a str,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = last_uses)]
pub(super) struct UseRow {
    pub(super) id: String,
    used_at: i64,
}

#[derive(Queryable, Insertable, AsChangeset)]
#[diesel(table_name = sessions)]
pub(super) struct SessionRow {
    pub(super) token: String,
    user_id: String,
    created_at: i64,
    expires_at: i64,
    revision: Revision,
    pub(super) revoked: bool,
}

/// Without a value for each column, diesel would write every row as a statement of its own.
#[derive(Insertable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
pub(super) struct EventRow<'a> {
    pub(super) id: &'a str,
    pub(super) at: i64,
    pub(super) kind: &'static str,
    pub(super) llm: Option<Cow<'a, str>>,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) user_name: Option<Cow<'a, str>>,
    pub(super) event: String,
}

impl ObjectRow {
    pub(super) fn new(object: &Object, revision: Revision) -> Result<Self, Fault> {
        Ok(Self {
            id: object.id.to_string(),
            kind: object.kind.plural.to_owned(),
            name: object.name.clone(),
            spec: serde_json::to_string(&object.spec).map_err(Stored::new("object", object.id.as_str()))?,
            version: object.version,
            revision,
            created_at: micros(object.created_at),
            updated_at: micros(object.updated_at),
        })
    }

    /// The object; `None` when this build does not know its kind.
    pub(super) fn object(self) -> Result<Option<Object>, Fault> {
        let Some(kind) = kind_of(&self.kind) else { return Ok(None) };
        let spec: Spec = serde_json::from_str(&self.spec).map_err(Stored::new("object", &self.id))?;
        let created_at = time(self.created_at).map_err(Stored::new("object", &self.id))?;
        let updated_at = time(self.updated_at).map_err(Stored::new("object", &self.id))?;
        let id = id_of(self.id)?;
        let Self { name, version, revision, .. } = self;
        Ok(Some(Object { kind, id, name, spec, version, revision, created_at, updated_at }))
    }
}

impl UseRow {
    pub(super) fn new((id, at): &(Id, Timestamp)) -> Self {
        Self { id: id.to_string(), used_at: micros(*at) }
    }

    pub(super) fn last_use(self) -> Result<(Id, Timestamp), Fault> {
        let at = time(self.used_at).map_err(Stored::new("use", &self.id))?;
        Ok((id_of(self.id)?, at))
    }
}

impl SessionRow {
    pub(super) fn new(session: &Session, revision: Revision) -> Self {
        Self {
            token: session.token.to_hex(),
            user_id: session.user_id.to_string(),
            created_at: micros(session.created_at),
            expires_at: micros(session.expires_at),
            revision,
            revoked: false,
        }
    }

    pub(super) fn token(&self) -> Result<TokenHash, Fault> {
        let token = TokenHash::from_hex(&self.token).ok_or("not a token's hash");
        Ok(token.map_err(Stored::new("session", &self.token))?)
    }

    pub(super) fn session(self) -> Result<Session, Fault> {
        Ok(Session {
            token: self.token()?,
            created_at: time(self.created_at).map_err(Stored::new("session", &self.token))?,
            expires_at: time(self.expires_at).map_err(Stored::new("session", &self.token))?,
            user_id: id_of(self.user_id)?,
        })
    }
}

impl<'a> EventRow<'a> {
    pub(super) fn new(event: &'a AuditEvent) -> Result<Self, Fault> {
        Ok(Self {
            id: &event.id,
            at: micros(event.at),
            kind: event.kind(),
            llm: event.llm().map(indexed),
            user_id: event.actor.user_id.as_deref().map(indexed),
            user_name: event_user(event).map(indexed),
            event: json_of(&EventBody { detail: &event.detail, actor: &event.actor })
                .map_err(Stored::new("event", &event.id))?,
        })
    }
}

/// As `serde_json::to_string`, for a text that is rarely longer than what it begins with.
fn json_of(body: &impl Serialize) -> serde_json::Result<String> {
    let mut json = Vec::with_capacity(640);
    serde_json::to_writer(&mut json, body)?;
    String::from_utf8(json).map_err(serde::ser::Error::custom)
}

/// An event without what has columns of its own and comes back from them.
#[derive(Serialize, Deserialize)]
struct EventBody<D, A> {
    #[serde(flatten)]
    detail: D,
    #[serde(flatten)]
    actor: A,
}

/// An event from its id, its time and its body.
pub(super) fn event((id, at, body): (String, i64, String)) -> Result<AuditEvent, Fault> {
    let EventBody { detail, actor } =
        serde_json::from_str::<EventBody<EventDetail, Actor>>(&body).map_err(Stored::new("event", &id))?;
    let at = time(at).map_err(Stored::new("event", &id))?;
    Ok(AuditEvent { id, at, detail, actor })
}

pub(super) fn id_of(text: String) -> Result<Id, Fault> {
    Ok(Id::parse(&text).ok_or("not an id").map_err(Stored::new("object", &text))?)
}

/// The kind with this plural: aliases and other spellings are for people, not for the database.
pub(super) fn kind_of(plural: &str) -> Option<Kind> {
    Kind::all().find(|kind| kind.plural == plural)
}

/// Text as a key of an index: as it is, or, when no index could hold it, its hash.
///
/// PostgreSQL keeps no NUL in text, and nothing over 2,700 bytes in an index. The same is done to what is
/// searched for, so that equal text is found either way.
pub(super) fn indexed(text: &str) -> Cow<'_, str> {
    if text.len() <= 1024 && !text.contains('\0') {
        return text.into();
    }
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .fold("\u{1}sha256:".to_owned(), |all, byte| all + &byte)
        .into()
}

/// Microseconds since 1970, rounded down.
pub(super) fn micros(time: Timestamp) -> i64 {
    // Every timestamp of jiff's range fits.
    i64::try_from(time.as_nanosecond().div_euclid(1000)).unwrap_or(i64::MAX)
}

/// Microseconds since 1970, rounded up.
pub(super) fn micros_up(time: Timestamp) -> i64 {
    i64::try_from(-(-time.as_nanosecond()).div_euclid(1000)).unwrap_or(i64::MAX)
}

fn time(micros: i64) -> Result<Timestamp, jiff::Error> {
    // `from_microsecond` refuses the last second of jiff's range.
    Timestamp::from_nanosecond(i128::from(micros) * 1000)
}
