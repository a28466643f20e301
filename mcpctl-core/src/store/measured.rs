use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Announced, Changes, EventQuery, EventStore, Outcome, SessionStore, Storage, Store, Txn, ValueStore,
};
use crate::{
    error::Result,
    meter::Operation,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
};

/// A store whose operations are counted, whatever it is.
pub(crate) struct Measured {
    store: Arc<dyn Storage>,
    meters: Arc<StoreMeters>,
}

/// What a store was asked, how that ended, and how long it took.
#[derive(Debug, Default)]
pub(crate) struct StoreMeters {
    get: Operation,
    find: Operation,
    list: Operation,
    revision: Operation,
    changes: Operation,
    commit: Operation,
    value: Operation,
    sessions: Operation,
    session: Operation,
    append: Operation,
    events: Operation,
}

impl Measured {
    pub(crate) fn new(store: Arc<dyn Storage>, meters: Arc<StoreMeters>) -> Self {
        Self { store, meters }
    }
}

impl StoreMeters {
    /// Every operation, by name.
    pub(crate) fn all(&self) -> [(&'static str, &Operation); 11] {
        [
            ("append", &self.append),
            ("changes", &self.changes),
            ("commit", &self.commit),
            ("events", &self.events),
            ("find", &self.find),
            ("get", &self.get),
            ("list", &self.list),
            ("revision", &self.revision),
            ("session", &self.session),
            ("sessions", &self.sessions),
            ("value", &self.value),
        ]
    }
}

#[async_trait]
impl Store for Measured {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        self.meters.get.measure(self.store.get(kind, id)).await
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        self.meters.find.measure(self.store.find(kind, name)).await
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        self.meters.list.measure(self.store.list(kind)).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.meters.revision.measure(self.store.revision()).await
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        self.meters.changes.measure(self.store.changes(since)).await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        self.meters.commit.measure(self.store.commit(txn)).await
    }

    fn announcements(&self) -> Option<watch::Receiver<Announced>> {
        self.store.announcements()
    }
}

#[async_trait]
impl ValueStore for Measured {
    async fn value(&self, key: &str) -> Result<Option<String>> {
        self.meters.value.measure(self.store.value(key)).await
    }
}

#[async_trait]
impl SessionStore for Measured {
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        self.meters.sessions.measure(self.store.sessions(now)).await
    }

    async fn session(&self, token: TokenHash) -> Result<Option<Session>> {
        self.meters.session.measure(self.store.session(token)).await
    }
}

#[async_trait]
impl EventStore for Measured {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        self.meters.append.measure(self.store.append(events)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        self.meters.events.measure(self.store.events(query)).await
    }
}
