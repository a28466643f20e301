use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Announced, Changes, EventQuery, EventStore, Outcome, SessionStore, Storage, Store, Txn, ValueStore,
};
use crate::{
    error::{Error, Result},
    meter::Operation,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
};

/// A store whose operations are counted, whatever it is.
pub(crate) struct Measured {
    store: Arc<dyn Storage>,
    meters: Arc<StoreMeters>,
    observer: Option<Observer>,
}

/// Who is told of the events that a store has kept.
pub(crate) type Observer = Arc<dyn Fn(Arc<[AuditEvent]>) + Send + Sync>;

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
    used: Operation,
    last_use: Operation,
    last_uses: Operation,
    append: Operation,
    events: Operation,
    forget: Operation,
}

impl Measured {
    pub(crate) fn new(store: Arc<dyn Storage>, meters: Arc<StoreMeters>, observer: Option<Observer>) -> Self {
        Self { store, meters, observer }
    }
}

/// Does `work` to its end, also when the caller goes away: else its events could be kept, and nobody told of them.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(Error::internal)?
}

impl StoreMeters {
    /// Every operation, by name.
    pub(crate) fn all(&self) -> [(&'static str, &Operation); 15] {
        [
            ("append", &self.append),
            ("changes", &self.changes),
            ("commit", &self.commit),
            ("events", &self.events),
            ("find", &self.find),
            ("forget", &self.forget),
            ("get", &self.get),
            ("last_use", &self.last_use),
            ("last_uses", &self.last_uses),
            ("list", &self.list),
            ("revision", &self.revision),
            ("session", &self.session),
            ("sessions", &self.sessions),
            ("used", &self.used),
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
        let Some(observer) = self.observer.clone().filter(|_| !txn.events.is_empty()) else {
            return self.meters.commit.measure(self.store.commit(txn)).await;
        };
        let (store, events) = (self.store.clone(), Arc::from(txn.events.as_slice()));
        let commit = async move {
            let outcome = store.commit(txn).await?;
            if matches!(outcome, Outcome::Committed(_)) {
                observer(events);
            }
            Ok(outcome)
        };
        self.meters.commit.measure(to_the_end(commit)).await
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

    async fn forget_sessions(&self, end: Timestamp) -> Result<()> {
        self.meters.forget.measure(self.store.forget_sessions(end)).await
    }

    async fn used(&self, uses: Arc<[(Id, Timestamp)]>) -> Result<()> {
        self.meters.used.measure(self.store.used(uses)).await
    }

    async fn last_use(&self, id: &Id) -> Result<Option<Timestamp>> {
        self.meters.last_use.measure(self.store.last_use(id)).await
    }

    async fn last_uses(&self) -> Result<Vec<(Id, Timestamp)>> {
        self.meters.last_uses.measure(self.store.last_uses()).await
    }
}

#[async_trait]
impl EventStore for Measured {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        let Some(observer) = self.observer.clone() else {
            return self.meters.append.measure(self.store.append(events)).await;
        };
        let store = self.store.clone();
        let append = async move {
            store.append(events.clone()).await?;
            observer(events);
            Ok(())
        };
        self.meters.append.measure(to_the_end(append)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        self.meters.events.measure(self.store.events(query)).await
    }

    async fn forget(&self, before: &str, most: usize) -> Result<usize> {
        self.meters.forget.measure(self.store.forget(before, most)).await
    }
}
