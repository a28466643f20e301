//! A store in memory, for tests and for programs that keep nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Changes, Condition, EventQuery, EventStore, ObjectChange, Outcome, SessionChange, SessionStore, Store,
    Txn, ValueStore, Write,
};
use crate::{
    error::Result,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
};

/// Keeps everything in memory, and forgets it when dropped.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    revision: Revision,
    objects: BTreeMap<(Kind, String), Object>,
    /// When each object was last written or deleted, the deleted ones included.
    touched: HashMap<(Kind, Id), Revision>,
    values: HashMap<String, String>,
    sessions: HashMap<TokenHash, (Session, Revision)>,
    revoked: HashMap<TokenHash, Revision>,
    events: BTreeMap<String, AuditEvent>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A transaction works on a copy, so a panic in one cannot leave half of it behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        Ok(self.state().by_id(kind, id).cloned())
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        Ok(self.state().objects.get(&(kind, name.to_owned())).cloned())
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        Ok(self.state().objects.values().filter(|object| object.kind == kind).cloned().collect())
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.state().revision)
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        let state = self.state();
        let objects = state
            .touched
            .iter()
            .filter(|(_, revision)| **revision > since)
            .map(|((kind, id), _)| match state.by_id(*kind, id) {
                Some(object) => ObjectChange::Put(object.clone()),
                None => ObjectChange::Deleted { kind: *kind, id: id.clone() },
            })
            .collect();
        let began = state.sessions.values().filter(|(_, revision)| *revision > since);
        let revoked = state.revoked.iter().filter(|(_, revision)| **revision > since);
        let sessions = began
            .map(|(session, _)| SessionChange::Put(session.clone()))
            .chain(revoked.map(|(token, _)| SessionChange::Revoked(*token)))
            .collect();
        Ok(Changes::All { revision: state.revision, objects, sessions })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let mut state = self.state();
        if let Some(refused) = txn.conditions.iter().find(|condition| !state.holds(condition)) {
            return Ok(Outcome::Refused(refused.clone()));
        }
        let mut next = state.clone();
        next.revision += 1;
        for write in txn.writes {
            next.write(write);
        }
        next.events.extend(txn.events.into_iter().map(|event| (event.id.clone(), event)));
        let revision = next.revision;
        *state = next;
        Ok(Outcome::Committed(revision))
    }
}

impl State {
    fn by_id(&self, kind: Kind, id: &Id) -> Option<&Object> {
        self.objects.values().find(|object| object.kind == kind && object.id == *id)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Version { kind, id, version } => {
                self.by_id(*kind, id).is_some_and(|object| object.version == *version)
            }
            Condition::NameAbsent { kind, name } => !self.objects.contains_key(&(*kind, name.clone())),
            Condition::KindUnchanged { kind, since } => {
                !self.touched.iter().any(|((touched, _), revision)| touched == kind && revision > since)
            }
        }
    }

    fn write(&mut self, write: Write) {
        let revision = self.revision;
        match write {
            Write::Put(mut object) => {
                object.revision = revision;
                self.touched.insert((object.kind, object.id.clone()), revision);
                self.objects.insert((object.kind, object.name.clone()), object);
            }
            Write::Delete { kind, id } => {
                self.objects.retain(|_, object| !(object.kind == kind && object.id == id));
                self.touched.insert((kind, id), revision);
            }
            Write::PutValue { key, value } => {
                self.values.insert(key, value);
            }
            Write::DeleteValue { key } => {
                self.values.remove(&key);
            }
            Write::PutSession(session) => {
                self.sessions.insert(session.token, (session, revision));
            }
            Write::RevokeSession(token) => {
                if self.sessions.remove(&token).is_some() {
                    self.revoked.insert(token, revision);
                }
            }
            Write::RevokeSessionsOf(user) => {
                let ended = self.sessions.extract_if(|_, (session, _)| session.user_id == user);
                self.revoked.extend(ended.map(|(token, _)| (token, revision)));
            }
        }
    }
}

#[async_trait]
impl ValueStore for MemoryStore {
    async fn value(&self, key: &str) -> Result<Option<String>> {
        Ok(self.state().values.get(key).cloned())
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        let state = self.state();
        let current = state.sessions.values().filter(|(session, _)| session.expires_at > now);
        Ok(current.map(|(session, _)| session.clone()).collect())
    }

    async fn session(&self, token: TokenHash) -> Result<Option<Session>> {
        Ok(self.state().sessions.get(&token).map(|(session, _)| session.clone()))
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, events: &[AuditEvent]) -> Result<()> {
        let mut state = self.state();
        for event in events {
            state.events.entry(event.id.clone()).or_insert_with(|| event.clone());
        }
        Ok(())
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        let state = self.state();
        Ok(state
            .events
            .values()
            .rev()
            .filter(|event| query.matches(event))
            .take(query.limit)
            .cloned()
            .collect())
    }
}
