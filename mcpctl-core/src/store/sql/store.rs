//! The store itself: which database, and what to ask it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

#[cfg(feature = "postgres")]
use super::postgres;
#[cfg(feature = "sqlite")]
use super::sqlite;
use crate::{
    error::{Error, Result},
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, TokenHash},
    store::{Announced, Changes, EventQuery, EventStore, Outcome, SessionStore, Store, Txn, ValueStore},
};

/// How long opening may take, migrations included.
const OPENING: Duration = Duration::from_secs(90);

/// Keeps everything in SQLite or PostgreSQL.
///
/// When the database is away, locked, full or too slow, functions fail with
/// [`ErrorKind::Unavailable`](crate::ErrorKind) within ten seconds, and work again once it is back. A commit that
/// fails so may still have happened, as with any database that is asked over a wire that breaks.
///
/// A future of this store may be dropped at any time: a commit that had begun is then carried out whole.
pub struct SqlStore(Database);

enum Database {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Database),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Database),
}

impl SqlStore {
    /// Opens the database at `url` and brings its tables up to date.
    ///
    /// - `sqlite://PATH`: a file, made with mode 0600 when it is not there; its folder must be.
    ///   `sqlite:///var/lib/x.db` is an absolute path. One process has it to itself, by a lock on `PATH.lock`.
    /// - `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (or `postgresql://`), without TLS.
    ///
    /// Must be called in a tokio runtime with time and I/O, in which the store is then used.
    ///
    /// # Errors
    ///
    /// Invalid, when the URL or the file cannot be used; conflict, when another process has the file or a newer
    /// version of this program made the tables; unavailable, when the server is away. None shows the URL.
    pub async fn open(url: &str) -> Result<Self> {
        let url = url.to_owned();
        match timeout(OPENING, spawn_blocking(move || Database::open(&url))).await {
            Ok(Ok(opened)) => opened.map(Self),
            Ok(Err(panicked)) => Err(Error::internal(panicked)),
            Err(_) => Err(super::fault::unavailable().caused_by("opening took too long")),
        }
        .map_err(|error| error.during("store.open"))
    }
}

impl SqlStore {
    /// The id of the process that has the database file at `url` to itself, if there is one.
    pub fn holder(url: &str) -> Option<u32> {
        match url.split_once("://") {
            #[cfg(feature = "sqlite")]
            Some(("sqlite", path)) => sqlite::holder(std::path::Path::new(path)),
            _ => None,
        }
    }
}

impl Database {
    fn open(url: &str) -> Result<Self> {
        match url.split_once("://") {
            #[cfg(feature = "sqlite")]
            Some(("sqlite", path)) if !path.is_empty() => {
                sqlite::Database::open(std::path::Path::new(path)).map(Self::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => postgres::Database::open(url).map(Self::Postgres),
            #[cfg(not(feature = "sqlite"))]
            Some(("sqlite", _)) => Err(not_built("SQLite")),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Err(not_built("PostgreSQL")),
            _ => Err(Error::invalid(
                "the database's URL must be sqlite://PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            )),
        }
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn not_built(database: &str) -> Error {
    let message = format!("this build has no support for {database}");
    Error::new(crate::ErrorKind::NotImplemented, message)
}

/// Runs one query on whichever database it is.
macro_rules! run {
    ($store:ident.$pool:ident, $operation:literal, $queries:ident => $work:expr) => {
        match &$store.0 {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(database) => {
                use sqlite::queries as $queries;
                database.$pool.run($operation, $work).await
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(database) => {
                use postgres::queries as $queries;
                database.$pool.run($operation, $work).await
            }
        }
    };
}

#[async_trait]
impl Store for SqlStore {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        let id = id.clone();
        run!(self.read, "store.get", queries => move |conn| queries::get(conn, kind, &id))
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        let name = name.to_owned();
        run!(self.read, "store.find", queries => move |conn| queries::find(conn, kind, &name))
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        run!(self.read, "store.list", queries => move |conn| queries::list(conn, kind))
    }

    async fn revision(&self) -> Result<Revision> {
        run!(self.look, "store.revision", queries => queries::revision)
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        run!(self.look, "store.changes", queries => move |conn| queries::changes(conn, since))
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        run!(self.write, "store.commit", queries => move |conn| queries::commit(conn, &txn))
    }

    fn announcements(&self) -> Option<watch::Receiver<Announced>> {
        match &self.0 {
            // One process has the file: nobody else commits.
            #[cfg(feature = "sqlite")]
            Database::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Database::Postgres(database) => Some(database.announcements()),
        }
    }
}

#[async_trait]
impl ValueStore for SqlStore {
    async fn value(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        run!(self.read, "store.value", queries => move |conn| queries::value(conn, &key))
    }
}

#[async_trait]
impl SessionStore for SqlStore {
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        run!(self.read, "store.sessions", queries => move |conn| queries::sessions(conn, now))
    }

    async fn session(&self, token: TokenHash) -> Result<Option<Session>> {
        run!(self.read, "store.session", queries => move |conn| queries::session(conn, token))
    }

    async fn forget_sessions(&self, end: Timestamp) -> Result<()> {
        run!(self.write, "store.forget_sessions", queries => move |conn| queries::forget_sessions(conn, end))
    }

    async fn used(&self, uses: Arc<[(Id, Timestamp)]>) -> Result<()> {
        run!(self.write, "store.used", queries => move |conn| queries::used(conn, &uses))
    }

    async fn last_use(&self, id: &Id) -> Result<Option<Timestamp>> {
        let id = id.clone();
        run!(self.read, "store.last_use", queries => move |conn| queries::last_use(conn, &id))
    }

    async fn last_uses(&self) -> Result<Vec<(Id, Timestamp)>> {
        run!(self.read, "store.last_uses", queries => queries::last_uses)
    }
}

#[async_trait]
impl EventStore for SqlStore {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        run!(self.write, "store.append", queries => move |conn| queries::append(conn, &events))
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        let query = query.clone();
        run!(self.read, "store.events", queries => move |conn| queries::events(conn, &query))
    }

    async fn forget(&self, before: &str, most: usize) -> Result<usize> {
        let before = before.to_owned();
        run!(self.write, "store.forget", queries => move |conn| queries::forget(conn, &before, most))
    }
}
