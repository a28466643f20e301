//! A store in memory, for tests and for programs that keep nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Announced, Changes, Condition, EventQuery, EventStore, ObjectChange, Outcome, SessionChange,
    SessionStore, Store, Txn, ValueStore, Write,
};
use crate::{
    error::Result,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
};

/// Keeps everything in memory, and forgets it when dropped.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    announced: watch::Sender<Announced>,
}

#[derive(Default)]
struct State {
    revision: Revision,
    objects: HashMap<(Kind, Id), Object>,
    names: BTreeMap<(Kind, String), Id>,
    /// When each object was last written or deleted, the deleted ones included.
    touched: HashMap<(Kind, Id), Revision>,
    /// When any object of each kind was.
    touched_kinds: HashMap<Kind, Revision>,
    values: HashMap<String, String>,
    sessions: HashMap<TokenHash, (Session, Revision)>,
    revoked: HashMap<TokenHash, Revision>,
    events: BTreeMap<String, AuditEvent>,
    last_uses: HashMap<Id, Timestamp>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        Ok(self.state().objects.get(&(kind, id.clone())).cloned())
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        let state = self.state();
        let id = state.names.get(&(kind, name.to_owned()));
        Ok(id.and_then(|id| state.objects.get(&(kind, id.clone()))).cloned())
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        let state = self.state();
        let named = state.names.range((kind, String::new())..).take_while(|((of, _), _)| *of == kind);
        Ok(named.filter_map(|(_, id)| state.objects.get(&(kind, id.clone()))).cloned().collect())
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.state().revision)
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        let state = self.state();
        let touched = state.touched.iter().map(|(key, revision)| (*revision, key));
        let objects = later(touched, since).map(|key| match state.objects.get(key) {
            Some(object) => ObjectChange::Put(object.clone()),
            None => ObjectChange::Deleted { kind: key.0, id: key.1.clone() },
        });
        let began = state.sessions.values().map(|(session, at)| (*at, SessionChange::Put(session.clone())));
        let revoked = state.revoked.iter().map(|(token, at)| (*at, SessionChange::Revoked(*token)));
        let sessions = later(began.chain(revoked), since).collect();
        Ok(Changes::All { revision: state.revision, objects: objects.collect(), sessions })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let mut state = self.state();
        if let Some(refused) = txn.conditions.iter().find(|condition| !state.holds(condition)) {
            return Ok(Outcome::Refused(refused.clone()));
        }
        if let Some(refused) = state.name_clash(&txn.writes) {
            return Ok(Outcome::Refused(refused));
        }
        state.revision += 1;
        for write in txn.writes {
            state.write(write);
        }
        state.append(&txn.events);
        self.announced.send_replace(Announced::UpTo(state.revision));
        Ok(Outcome::Committed(state.revision))
    }

    fn announcements(&self) -> Option<watch::Receiver<Announced>> {
        self.announced.send_replace(Announced::UpTo(self.state().revision));
        Some(self.announced.subscribe())
    }
}

/// What happened after a revision, oldest first.
fn later<T>(all: impl Iterator<Item = (Revision, T)>, since: Revision) -> impl Iterator<Item = T> {
    let mut later: Vec<_> = all.filter(|(revision, _)| *revision > since).collect();
    later.sort_by_key(|(revision, _)| *revision);
    later.into_iter().map(|(_, what)| what)
}

impl State {
    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Version { kind, id, version } => {
                self.objects.get(&(*kind, id.clone())).is_some_and(|object| object.version == *version)
            }
            Condition::ValueAbsent { key } => !self.values.contains_key(key),
            Condition::NameAbsent { kind, name } => !self.names.contains_key(&(*kind, name.clone())),
            Condition::KindUnchanged { kind, since } => {
                self.touched_kinds.get(kind).is_none_or(|revision| revision <= since)
            }
        }
    }

    /// The first name that the writes, done in order, would give to a second object.
    fn name_clash(&self, writes: &[Write]) -> Option<Condition> {
        // Who has which name, and the other way round, where the writes before changed that.
        let mut owners: HashMap<(Kind, &str), Option<&Id>> = HashMap::new();
        let mut names: HashMap<(Kind, &Id), &str> = HashMap::new();
        for write in writes {
            let (kind, id, name) = match write {
                Write::Put(object) => (object.kind, &object.id, Some(object.name.as_str())),
                Write::Delete { kind, id } => (*kind, id, None),
                _ => continue,
            };
            if let Some(name) = name {
                let stored = || self.names.get(&(kind, name.to_owned()));
                let owner = owners.get(&(kind, name)).copied().unwrap_or_else(stored);
                if owner.is_some_and(|owner| owner != id) {
                    return Some(Condition::NameAbsent { kind, name: name.to_owned() });
                }
            }
            let stored = || self.objects.get(&(kind, id.clone())).map(|object| object.name.as_str());
            if let Some(old) = names.remove(&(kind, id)).or_else(stored) {
                // A name that somebody else took since is not given up here.
                let entry = owners.entry((kind, old)).or_insert(None);
                if *entry == Some(id) {
                    *entry = None;
                }
            }
            if let Some(name) = name {
                owners.insert((kind, name), Some(id));
                names.insert((kind, id), name);
            }
        }
        None
    }

    fn write(&mut self, write: Write) {
        let revision = self.revision;
        match write {
            Write::Put(mut object) => {
                object.revision = revision;
                let key = (object.kind, object.id.clone());
                self.remove(&key);
                self.names.insert((object.kind, object.name.clone()), object.id.clone());
                self.touch(key.clone());
                self.objects.insert(key, object);
            }
            Write::Delete { kind, id } => {
                let key = (kind, id);
                if self.remove(&key) {
                    self.last_uses.remove(&key.1);
                    self.touch(key);
                }
            }
            Write::PutValue { key, value } => {
                self.values.insert(key, value);
            }
            Write::DeleteValue { key } => {
                self.values.remove(&key);
            }
            Write::PutSession(session) => {
                self.revoked.remove(&session.token);
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

    fn remove(&mut self, key: &(Kind, Id)) -> bool {
        let removed = self.objects.remove(key);
        if let Some(object) = &removed {
            self.names.remove(&(object.kind, object.name.clone()));
        }
        removed.is_some()
    }

    fn touch(&mut self, key: (Kind, Id)) {
        self.touched_kinds.insert(key.0, self.revision);
        self.touched.insert(key, self.revision);
    }

    fn append(&mut self, events: &[AuditEvent]) {
        for event in events {
            self.events.entry(event.id.clone()).or_insert_with(|| event.clone());
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

    async fn forget_sessions(&self, end: Timestamp) -> Result<()> {
        self.state().sessions.retain(|_, (session, _)| session.expires_at >= end);
        Ok(())
    }

    async fn used(&self, uses: Arc<[(Id, Timestamp)]>) -> Result<()> {
        let mut state = self.state();
        for (id, at) in uses.iter() {
            let noted = state.last_uses.entry(id.clone()).or_insert(*at);
            *noted = (*noted).max(*at);
        }
        Ok(())
    }

    async fn last_uses(&self) -> Result<Vec<(Id, Timestamp)>> {
        Ok(self.state().last_uses.iter().map(|(id, at)| (id.clone(), *at)).collect())
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        self.state().append(&events);
        Ok(())
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        let state = self.state();
        let found = state.events.values().rev().filter(|event| query.matches(event));
        Ok(found.take(query.limit).cloned().collect())
    }

    async fn forget(&self, before: &str, most: usize) -> Result<usize> {
        let mut state = self.state();
        let old = state.events.extract_if(..before.to_owned(), |_, _| true);
        Ok(old.take(most).count())
    }
}
