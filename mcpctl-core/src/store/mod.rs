//! Where things are kept: objects as in Kubernetes and etcd, behind small traits.
//!
//! A store keeps [`Object`]s of every kind alike, one growing revision number, and what changed at each
//! revision. It decides nothing: what may be written is decided once, in the registry, and a [`Txn`] carries the
//! [`Condition`]s under which that decision holds.

#[cfg(feature = "conformance")]
pub mod conformance;
mod event_query;
mod measured;
mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
mod txn;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use event_query::event_user;
pub(crate) use measured::{Measured, StoreMeters};
pub use memory::MemoryStore;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql::SqlStore;
pub use txn::{Condition, Outcome, Txn, Write};

use crate::{
    error::Result,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
};

/// Keeps objects.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The object of this kind and id.
    ///
    /// # Errors
    ///
    /// Unavailable, when the store is away; likewise for every function here.
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>>;

    /// The object of this kind and name.
    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>>;

    /// All objects of a kind, sorted by the bytes of their names.
    async fn list(&self, kind: Kind) -> Result<Vec<Object>>;

    /// The revision of the last commit; 0 for a new store.
    async fn revision(&self) -> Result<Revision>;

    /// What changed after `since`: each object and session that did, once, as it is now; oldest change first.
    ///
    /// Objects of a kind that this build does not know are left out.
    async fn changes(&self, since: Revision) -> Result<Changes>;

    /// Carries out a transaction: all of it, or, when a condition does not hold, nothing.
    ///
    /// A [`Write::Put`] under a name that another object of the kind has is refused too, as if by
    /// [`Condition::NameAbsent`].
    ///
    /// When the future is dropped, or fails as unavailable, the transaction has happened whole or not at all.
    ///
    /// Once this returns [`Outcome::Committed`], the change survives the end of the process.
    async fn commit(&self, txn: Txn) -> Result<Outcome>;

    /// Tells of commits as they happen, whoever made them. `None`, which is the default, says that this store has
    /// to be asked. Whoever follows a store asks it all the same, only less often while commits are announced.
    ///
    /// Must be called in a tokio runtime. The store listens until the receiver is dropped.
    fn announcements(&self) -> Option<watch::Receiver<Announced>> {
        None
    }
}

/// What a store says of its commits; see [`Store::announcements`].
///
/// Whenever it changes, there may be something new. A receiver that is slow sees the last of several changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announced {
    /// Nothing, for now: the store has to be asked.
    #[default]
    Nothing,
    /// Every commit, from when this was first said, up to this revision; 0 when there was none yet.
    UpTo(Revision),
}

/// Keeps encrypted values, by key. They are written with [`Write::PutValue`].
#[async_trait]
pub trait ValueStore: Send + Sync + 'static {
    /// The value of `key`, as it was written.
    async fn value(&self, key: &str) -> Result<Option<String>>;
}

/// Keeps sessions. They are written with [`Write::PutSession`].
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// All sessions that have not been revoked and expire after `now`.
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>>;

    /// The session of this token, unless it was revoked. It may have expired.
    async fn session(&self, token: TokenHash) -> Result<Option<Session>>;

    /// Forgets sessions that ended before `end`, revoked or not. Nobody can tell the difference, but by the room they
    /// take; a store that has room may leave this as it is.
    async fn forget_sessions(&self, end: Timestamp) -> Result<()> {
        let _ = end;
        Ok(())
    }

    /// Notes when objects were last used. An earlier time than the one noted changes nothing, nor does an object's
    /// version or the store's revision change. What is noted of an object may go with the object.
    ///
    /// A store that has no place for it may leave this as it is: it notes nothing.
    async fn used(&self, uses: Arc<[(Id, Timestamp)]>) -> Result<()> {
        let _ = uses;
        Ok(())
    }

    /// When this object was last used, as far as it was noted.
    async fn last_use(&self, id: &Id) -> Result<Option<Timestamp>> {
        Ok(self.last_uses().await?.into_iter().find(|(used, _)| used == id).map(|(_, at)| at))
    }

    /// When each object was last used, as far as it was noted.
    async fn last_uses(&self) -> Result<Vec<(Id, Timestamp)>> {
        Ok(Vec::new())
    }
}

/// Keeps audit events.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Adds events, all or none. An event whose id is there already is left as it is.
    ///
    /// Once this returns, the events survive the end of the process.
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()>;

    /// The events that `query` asks for, newest (greatest id) first.
    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>>;

    /// Deletes the oldest events of those with an id less than `before`, at most so many, and says how many there
    /// were. Less than `most` may mean that somebody else who shares the store is at it, too.
    async fn forget(&self, before: &str, most: usize) -> Result<usize>;
}

/// Everything that has to be kept.
pub trait Storage: Store + ValueStore + SessionStore + EventStore {}

impl<T: Store + ValueStore + SessionStore + EventStore> Storage for T {}

/// What changed after a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Changes {
    /// Everything that did.
    All {
        /// The store's revision that this leads to.
        revision: Revision,
        /// Objects that were written or deleted.
        objects: Vec<ObjectChange>,
        /// Sessions that began or were revoked.
        sessions: Vec<SessionChange>,
    },
    /// The store no longer knows what changed that long ago: list everything anew.
    Compacted,
}

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectChange {
    /// It was written; this is how it is now.
    Put(Object),
    /// It is gone.
    Deleted {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
}

impl ObjectChange {
    /// The id of what changed, if it is of this kind.
    pub(crate) fn id_of(&self, wanted: Kind) -> Option<&Id> {
        match self {
            Self::Put(object) => (object.kind == wanted).then_some(&object.id),
            Self::Deleted { kind, id } => (*kind == wanted).then_some(id),
        }
    }
}

/// A change of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionChange {
    /// It began.
    Put(Session),
    /// It was revoked.
    Revoked(TokenHash),
}

/// Which audit events to read. `None` and empty mean any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventQuery {
    /// Only events of this kind.
    pub kind: Option<String>,
    /// Only events about the Llm of this name.
    pub llm: Option<String>,
    /// Only events of the user with this id or e-mail address.
    pub user: Option<String>,
    /// Only events at or after this time.
    pub since: Option<Timestamp>,
    /// Only events before this time.
    pub until: Option<Timestamp>,
    /// Only events older than (with an id less than) this one.
    pub before: Option<String>,
    /// Only events newer than (with an id greater than) this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}
