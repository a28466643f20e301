//! A store on which changes are tried out: what they come to is one transaction for the store underneath.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    error::Result,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
    store::{
        Changes, Condition, EventQuery, EventStore, ObjectChange, Outcome, SessionStore, Storage, Store, Txn,
        ValueStore, Write,
    },
};

/// Shows the store underneath with the changes that were committed here, and leaves it as it is.
///
/// Its commits decide on what is staged; what they demand of the store underneath is demanded when
/// what was [taken](Self::take) is committed there. Sessions and the audit trail are those of the store underneath.
pub(super) struct Rehearsal {
    base: Arc<dyn Storage>,
    /// The revision that the rehearsal began at.
    began: Revision,
    staged: Mutex<Staged>,
}

struct Staged {
    revision: Revision,
    /// What is to be committed underneath.
    txn: Txn,
    /// Written objects. None is deleted: what is applied is made or changed.
    objects: HashMap<(Kind, Id), Object>,
    names: HashMap<(Kind, String), Id>,
    /// Encrypted values; `None` for those that were deleted.
    values: HashMap<String, Option<String>>,
}

impl Rehearsal {
    /// A rehearsal over `base`, as it is from the revision `began` on.
    pub(super) fn new(base: Arc<dyn Storage>, began: Revision) -> Self {
        let staged = Staged {
            revision: began,
            txn: Txn::default(),
            objects: HashMap::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        };
        Self { base, began, staged: Mutex::new(staged) }
    }

    /// All that was committed here, as one transaction for the store underneath.
    pub(super) fn take(&self) -> Txn {
        std::mem::take(&mut self.staged().txn)
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Staged {
    /// Whether a condition holds here; `None` when only the store underneath can tell.
    fn holds(&self, condition: &Condition) -> Option<bool> {
        match condition {
            Condition::Version { kind, id, version } => {
                Some(self.objects.get(&(*kind, id.clone()))?.version == *version)
            }
            Condition::NameAbsent { kind, name } => {
                self.names.contains_key(&(*kind, name.clone())).then_some(false)
            }
            Condition::ValueAbsent { key } => self.values.get(key).map(Option::is_none),
            Condition::KindUnchanged { kind, since } => {
                let later = |object: &Object| object.kind == *kind && object.revision > *since;
                self.objects.values().any(later).then_some(false)
            }
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Put(object) => {
                let object = Object { revision: self.revision, ..object.clone() };
                self.names.insert((object.kind, object.name.clone()), object.id.clone());
                self.objects.insert((object.kind, object.id.clone()), object);
            }
            Write::PutValue { key, value } => {
                self.values.insert(key.clone(), Some(value.clone()));
            }
            Write::DeleteValue { key } => {
                self.values.insert(key.clone(), None);
            }
            Write::Delete { .. }
            | Write::PutSession(_)
            | Write::RevokeSession(_)
            | Write::RevokeSessionsOf(_) => {}
        }
    }
}

#[async_trait]
impl Store for Rehearsal {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        let staged = self.staged().objects.get(&(kind, id.clone())).cloned();
        match staged {
            Some(object) => Ok(Some(object)),
            None => self.base.get(kind, id).await,
        }
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        let staged = {
            let staged = self.staged();
            let id = staged.names.get(&(kind, name.to_owned()));
            id.and_then(|id| staged.objects.get(&(kind, id.clone()))).cloned()
        };
        match staged {
            Some(object) => Ok(Some(object)),
            None => self.base.find(kind, name).await,
        }
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        let stored = self.base.list(kind).await?;
        let mut by_name: BTreeMap<String, Object> =
            stored.into_iter().map(|object| (object.name.clone(), object)).collect();
        let staged = self.staged();
        let written = staged.objects.values().filter(|object| object.kind == kind).cloned();
        by_name.extend(written.map(|object| (object.name.clone(), object)));
        Ok(by_name.into_values().collect())
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.staged().revision)
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        let staged = self.staged();
        let later = staged.objects.values().filter(|object| object.revision > since);
        let objects = later.cloned().map(ObjectChange::Put).collect();
        Ok(Changes::All { revision: staged.revision, objects, sessions: Vec::new() })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let mut staged = self.staged();
        let mut demanded = Vec::new();
        for condition in txn.conditions {
            match (staged.holds(&condition), condition) {
                (Some(false), condition) => return Ok(Outcome::Refused(condition)),
                (Some(true), _) => {}
                (None, Condition::KindUnchanged { kind, since }) => {
                    // What changed here since is no change of anybody else's.
                    demanded.push(Condition::KindUnchanged { kind, since: since.min(self.began) });
                }
                (None, condition) => demanded.push(condition),
            }
        }
        for condition in demanded {
            let is_broad = matches!(condition, Condition::KindUnchanged { .. });
            if !is_broad || !staged.txn.conditions.contains(&condition) {
                staged.txn.conditions.push(condition);
            }
        }
        staged.revision += 1;
        for write in &txn.writes {
            staged.write(write);
        }
        staged.txn.writes.extend(txn.writes);
        staged.txn.events.extend(txn.events);
        Ok(Outcome::Committed(staged.revision))
    }
}

#[async_trait]
impl ValueStore for Rehearsal {
    async fn value(&self, key: &str) -> Result<Option<String>> {
        let staged = self.staged().values.get(key).cloned();
        match staged {
            Some(value) => Ok(value),
            None => self.base.value(key).await,
        }
    }
}

#[async_trait]
impl SessionStore for Rehearsal {
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        self.base.sessions(now).await
    }

    async fn session(&self, token: TokenHash) -> Result<Option<Session>> {
        self.base.session(token).await
    }
}

#[async_trait]
impl EventStore for Rehearsal {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        self.base.append(events).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        self.base.events(query).await
    }

    async fn forget(&self, _before: &str, _most: usize) -> Result<usize> {
        Ok(0)
    }
}
