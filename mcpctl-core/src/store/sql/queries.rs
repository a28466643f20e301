//! What the store does, once, for every database: this file is compiled as a module of each, beside its `Conn`.

use diesel::{
    dsl::{exists, sql},
    prelude::*,
    sql_types::Bool,
    upsert::excluded,
};
use jiff::Timestamp;

use super::{Conn, Db, announce, insert_events, may_forget, snapshot_transaction, write_transaction};
use crate::{
    resource::{AuditEvent, Id, InferenceCall, Kind, Object, Revision, Session, TokenHash},
    store::{
        Changes, Condition, EventQuery, ObjectChange, Outcome, SessionChange, Txn, Write,
        sql::{
            fault::Fault,
            rows::{
                EventRow, ObjectChangeRow, ObjectRow, SessionRow, UseRow, ValueRow, event, id_of, indexed,
                kind_of, micros, micros_up,
            },
            schema::{
                audit_events, encrypted_values, last_uses, object_changes, objects, sessions, store_revision,
            },
        },
    },
};

type Result<T> = std::result::Result<T, Fault>;

pub(in crate::store::sql) fn get(conn: &mut Conn, kind: Kind, id: &Id) -> Result<Option<Object>> {
    let here = objects::id.eq(id.as_str()).and(objects::kind.eq(kind.plural));
    let row: Option<ObjectRow> = objects::table.filter(here).first(conn).optional()?;
    Ok(row.map(ObjectRow::object).transpose()?.flatten())
}

pub(in crate::store::sql) fn find(conn: &mut Conn, kind: Kind, name: &str) -> Result<Option<Object>> {
    if name.contains('\0') {
        // No object has such a name, and PostgreSQL refuses even the question.
        return Ok(None);
    }
    let here = objects::kind.eq(kind.plural).and(objects::name.eq(name));
    let row: Option<ObjectRow> = objects::table.filter(here).first(conn).optional()?;
    Ok(row.map(ObjectRow::object).transpose()?.flatten())
}

pub(in crate::store::sql) fn list(conn: &mut Conn, kind: Kind) -> Result<Vec<Object>> {
    let rows: Vec<ObjectRow> =
        objects::table.filter(objects::kind.eq(kind.plural)).order(objects::name).load(conn)?;
    rows.into_iter().filter_map(|row| row.object().transpose()).collect()
}

pub(in crate::store::sql) fn revision(conn: &mut Conn) -> Result<Revision> {
    Ok(store_revision::table.select(store_revision::revision).first(conn)?)
}

pub(in crate::store::sql) fn changes(conn: &mut Conn, since: Revision) -> Result<Changes> {
    // One snapshot, so that what is reported belongs to one revision.
    snapshot_transaction(conn, |conn| {
        let revision = revision(conn)?;
        let rows: Vec<(String, String, Option<ObjectRow>)> = object_changes::table
            .left_join(objects::table.on(objects::id.eq(object_changes::id)))
            .filter(object_changes::revision.gt(since))
            .order(object_changes::revision)
            .select((object_changes::kind, object_changes::id, objects::all_columns.nullable()))
            .load(conn)?;
        let mut changed = Vec::with_capacity(rows.len());
        for (kind, id, row) in rows {
            // A newer build may have kinds that this one does not know.
            let Some(kind) = kind_of(&kind) else { continue };
            match row {
                Some(row) => changed.extend(row.object()?.map(ObjectChange::Put)),
                None => changed.push(ObjectChange::Deleted { kind, id: id_of(id)? }),
            }
        }
        let rows: Vec<SessionRow> = sessions::table
            .filter(sessions::revision.gt(since))
            .order((sessions::revision, sessions::token))
            .load(conn)?;
        let change = |row: SessionRow| {
            Ok(if row.revoked {
                SessionChange::Revoked(row.token()?)
            } else {
                SessionChange::Put(row.session()?)
            })
        };
        let sessions = rows.into_iter().map(change).collect::<Result<_>>()?;
        Ok(Changes::All { revision, objects: changed, sessions })
    })
}

pub(in crate::store::sql) fn commit(conn: &mut Conn, txn: &Txn) -> Result<Outcome> {
    let result = write_transaction(conn, |conn| {
        // First, because it makes every other commit wait until this one has ended.
        let revision: Revision = diesel::update(store_revision::table)
            .set(store_revision::revision.eq(store_revision::revision + 1))
            .returning(store_revision::revision)
            .get_result(conn)?;
        for condition in &txn.conditions {
            if !holds(conn, condition)? {
                return Err(Fault::Refused(condition.clone()));
            }
        }
        for write in &txn.writes {
            self::write(conn, write, revision)?;
        }
        append_within(conn, &txn.events)?;
        announce(conn, revision)?;
        Ok(revision)
    });
    match result {
        Ok(revision) => Ok(Outcome::Committed(revision)),
        Err(Fault::Refused(condition)) => Ok(Outcome::Refused(condition)),
        Err(fault) => Err(fault),
    }
}

fn holds(conn: &mut Conn, condition: &Condition) -> Result<bool> {
    Ok(match condition {
        Condition::Version { kind, id, version } => {
            let here = objects::id.eq(id.as_str()).and(objects::kind.eq(kind.plural));
            let row = objects::table.filter(here.and(objects::version.eq(version)));
            diesel::select(exists(row)).get_result(conn)?
        }
        Condition::ValueAbsent { key } => value(conn, key)?.is_none(),
        Condition::NameAbsent { kind, name } => find(conn, *kind, name)?.is_none(),
        Condition::KindUnchanged { kind, since } => {
            let later = object_changes::kind.eq(kind.plural).and(object_changes::revision.gt(since));
            let changed: bool =
                diesel::select(exists(object_changes::table.filter(later))).get_result(conn)?;
            !changed
        }
    })
}

fn write(conn: &mut Conn, write: &Write, revision: Revision) -> Result<()> {
    match write {
        Write::Put(object) => put(conn, object, revision)?,
        Write::Delete { kind, id } => {
            let here = objects::id.eq(id.as_str()).and(objects::kind.eq(kind.plural));
            if diesel::delete(objects::table.filter(here)).execute(conn)? > 0 {
                note_change(conn, *kind, id, revision)?;
                diesel::delete(last_uses::table.find(id.as_str())).execute(conn)?;
            }
        }
        Write::PutValue { key, value } => {
            let row = ValueRow { id: indexed(key), content: value };
            diesel::insert_into(encrypted_values::table)
                .values(&row)
                .on_conflict(encrypted_values::id)
                .do_update()
                .set(&row)
                .execute(conn)?;
        }
        Write::DeleteValue { key } => {
            diesel::delete(encrypted_values::table.find(indexed(key))).execute(conn)?;
        }
        Write::PutSession(session) => {
            let row = SessionRow::new(session, revision);
            diesel::insert_into(sessions::table)
                .values(&row)
                .on_conflict(sessions::token)
                .do_update()
                .set(&row)
                .execute(conn)?;
        }
        Write::RevokeSession(token) => {
            let here = sessions::token.eq(token.to_hex()).and(sessions::revoked.eq(false));
            diesel::update(sessions::table.filter(here))
                .set((sessions::revoked.eq(true), sessions::revision.eq(revision)))
                .execute(conn)?;
        }
        Write::RevokeSessionsOf(user) => {
            let theirs = sessions::user_id.eq(user.as_str()).and(sessions::revoked.eq(false));
            diesel::update(sessions::table.filter(theirs))
                .set((sessions::revoked.eq(true), sessions::revision.eq(revision)))
                .execute(conn)?;
        }
    }
    Ok(())
}

fn put(conn: &mut Conn, object: &Object, revision: Revision) -> Result<()> {
    let row = ObjectRow::new(object, revision)?;
    let put = diesel::insert_into(objects::table)
        .values(&row)
        .on_conflict(objects::id)
        .do_update()
        .set(&row)
        .execute(conn);
    match put {
        // The id cannot clash here, so it is the name.
        Err(diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::UniqueViolation, _)) => {
            return Err(Fault::Refused(Condition::NameAbsent {
                kind: object.kind,
                name: object.name.clone(),
            }));
        }
        put => put?,
    };
    note_change(conn, object.kind, &object.id, revision)
}

fn note_change(conn: &mut Conn, kind: Kind, id: &Id, revision: Revision) -> Result<()> {
    let row = ObjectChangeRow { id: id.as_str(), kind: kind.plural, revision };
    diesel::insert_into(object_changes::table)
        .values(&row)
        .on_conflict(object_changes::id)
        .do_update()
        .set(&row)
        .execute(conn)?;
    Ok(())
}

pub(in crate::store::sql) fn value(conn: &mut Conn, key: &str) -> Result<Option<String>> {
    let row = encrypted_values::table.find(indexed(key)).select(encrypted_values::content);
    Ok(row.first(conn).optional()?)
}

pub(in crate::store::sql) fn sessions(conn: &mut Conn, now: Timestamp) -> Result<Vec<Session>> {
    let current = sessions::revoked.eq(false).and(sessions::expires_at.gt(micros(now)));
    let rows: Vec<SessionRow> = sessions::table.filter(current).load(conn)?;
    rows.into_iter().map(SessionRow::session).collect()
}

pub(in crate::store::sql) fn session(conn: &mut Conn, token: TokenHash) -> Result<Option<Session>> {
    let here = sessions::token.eq(token.to_hex()).and(sessions::revoked.eq(false));
    let row: Option<SessionRow> = sessions::table.filter(here).first(conn).optional()?;
    row.map(SessionRow::session).transpose()
}

pub(in crate::store::sql) fn forget_sessions(conn: &mut Conn, end: Timestamp) -> Result<()> {
    diesel::delete(sessions::table.filter(sessions::expires_at.lt(micros(end)))).execute(conn)?;
    Ok(())
}

pub(in crate::store::sql) fn used(conn: &mut Conn, uses: &[(Id, Timestamp)]) -> Result<()> {
    use diesel::query_dsl::methods::FilterDsl as _;
    write_transaction(conn, |conn| {
        for row in uses.iter().map(UseRow::new) {
            diesel::insert_into(last_uses::table)
                .values(&row)
                .on_conflict(last_uses::id)
                .do_update()
                .set(last_uses::used_at.eq(excluded(last_uses::used_at)))
                .filter(last_uses::used_at.lt(excluded(last_uses::used_at)))
                .execute(conn)?;
        }
        Ok(())
    })
}

pub(in crate::store::sql) fn last_use(conn: &mut Conn, id: &Id) -> Result<Option<Timestamp>> {
    let row: Option<UseRow> = last_uses::table.find(id.as_str()).first(conn).optional()?;
    Ok(row.map(UseRow::last_use).transpose()?.map(|(_, at)| at))
}

pub(in crate::store::sql) fn last_uses(conn: &mut Conn) -> Result<Vec<(Id, Timestamp)>> {
    let rows: Vec<UseRow> = last_uses::table.load(conn)?;
    rows.into_iter().map(UseRow::last_use).collect()
}

pub(in crate::store::sql) fn append(conn: &mut Conn, events: &[AuditEvent]) -> Result<()> {
    write_transaction(conn, |conn| append_within(conn, events))
}

fn append_within(conn: &mut Conn, events: &[AuditEvent]) -> Result<()> {
    let rows = events.iter().map(EventRow::new).collect::<Result<Vec<_>>>()?;
    Ok(insert_events(conn, &rows)?)
}

pub(in crate::store::sql) fn events(conn: &mut Conn, query: &EventQuery) -> Result<Vec<AuditEvent>> {
    let columns = (audit_events::id, audit_events::at, audit_events::event);
    let mut rows = audit_events::table.select(columns).into_boxed::<Db>();
    if let Some(kind) = &query.kind {
        rows = rows.filter(audit_events::kind.eq(indexed(kind)));
        if kind != InferenceCall::KIND {
            // The condition of the index of all other kinds, in its own words: databases do not infer it.
            rows = rows.filter(sql::<Bool>("kind <> 'llm_inference_call'"));
        }
    }
    if let Some(llm) = &query.llm {
        rows = rows.filter(audit_events::llm.eq(indexed(llm)));
    }
    if let Some(user) = &query.user {
        let user = indexed(user);
        rows = rows.filter(audit_events::user_id.eq(user.clone()).or(audit_events::user_name.eq(user)));
    }
    if let Some(since) = query.since {
        rows = rows.filter(audit_events::at.ge(micros_up(since)));
    }
    if let Some(until) = query.until {
        rows = rows.filter(audit_events::at.lt(micros_up(until)));
    }
    if let Some(before) = &query.before {
        rows = rows.filter(audit_events::id.lt(without_nul(before)));
    }
    if let Some(after) = &query.after {
        rows = rows.filter(audit_events::id.ge(without_nul(&format!("{after}\0"))));
    }
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let rows: Vec<(String, i64, String)> = rows.order(audit_events::id.desc()).limit(limit).load(conn)?;
    rows.into_iter().map(event).collect()
}

/// What lies between the same ids as `bound`: no id has a NUL, so what is less than "x\0…" is less than "x\u{1}",
/// which PostgreSQL accepts.
fn without_nul(bound: &str) -> String {
    match bound.split_once('\0') {
        Some((start, _)) => format!("{start}\u{1}"),
        None => bound.to_owned(),
    }
}

pub(in crate::store::sql) fn forget(conn: &mut Conn, before: &str, most: usize) -> Result<usize> {
    write_transaction(conn, |conn| {
        if !may_forget(conn)? {
            return Ok(0);
        }
        let before = without_nul(before);
        let old = audit_events::table.select(audit_events::id).filter(audit_events::id.lt(&before));
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let first_to_stay: Option<String> =
            old.order(audit_events::id).offset(most).first(conn).optional()?;
        let doomed = audit_events::id.lt(first_to_stay.unwrap_or(before));
        Ok(diesel::delete(audit_events::table.filter(doomed)).execute(conn)?)
    })
}
