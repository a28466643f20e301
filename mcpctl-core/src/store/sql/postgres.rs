//! PostgreSQL, with a driver in Rust.

use std::sync::Arc;

use diesel::{
    connection::SimpleConnection,
    dsl::sql,
    pg::Pg,
    prelude::*,
    result::QueryResult,
    sql_types::{Bool, Text},
};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{
    fault::{Fault, unavailable},
    listener::{self, CHANNEL},
    migrate::migrate,
    pool::{Connector, PATIENCE, Pool},
    rows::EventRow,
    schema::audit_events,
};
use crate::{
    error::{Error, Result},
    resource::Revision,
    store::Announced,
};

#[cfg_attr(
    feature = "sqlite",
    expect(
        clippy::duplicate_mod,
        reason = "diesel's queries cannot be generic over the database and stay readable"
    )
)]
#[path = "queries.rs"]
pub(super) mod queries;

pub(super) type Conn = AsyncConnectionWrapper<AsyncPgConnection>;
type Db = Pg;

/// Connections that read, and as many that write, so that slow reads cannot keep writes waiting.
const CONNECTIONS: usize = 4;
/// Connections that look for changes: slow reads must not keep a revocation waiting either.
const LOOKERS: usize = 2;

/// Rows of one insert: a trip to the server for so many.
const ROWS: usize = 128;

/// What the server ends by itself, so that nothing waits for ever.
const LIMITS: &str = "SET lock_timeout = '5s'; SET statement_timeout = '9s'; \
                      SET idle_in_transaction_session_timeout = '30s'; SET synchronous_commit = 'on'";

/// Two servers that start together migrate one after the other. The number is `mcpctl` in ASCII. Text must
/// compare bytewise whatever the database's locale, under the name that SQLite has for that.
const BEFORE_MIGRATIONS: &str = "SET lock_timeout = '60s'; SELECT pg_advisory_lock(120273854755948); \
                                 CREATE COLLATION IF NOT EXISTS \"binary\" FROM pg_catalog.\"C\"";
const AFTER_MIGRATIONS: &str = "SELECT pg_advisory_unlock(120273854755948)";

/// Makes the system notice a server that vanished, unless the URL says otherwise.
const PARAMETERS: [(&str, &str); 4] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "10"),
    ("keepalives_idle", "30"),
    ("application_name", "mcpctl"),
];

/// A database on a server.
pub(super) struct Database {
    pub(super) read: Pool<Server>,
    pub(super) look: Pool<Server>,
    pub(super) write: Pool<Server>,
    server: Arc<Server>,
}

/// Where the database is.
pub(super) struct Server {
    /// Holds a password: never shown.
    url: String,
}

impl Database {
    /// Connects, and brings the tables up to date. Blocks, in a runtime.
    pub(super) fn open(url: &str) -> Result<Self> {
        let server = Arc::new(Server::new(url));
        let mut conn = server.establish()?;
        let away = |error| Fault::from(error).into_error(false);
        conn.batch_execute(BEFORE_MIGRATIONS).map_err(away)?;
        let migrated = migrate(&mut conn);
        conn.batch_execute(AFTER_MIGRATIONS).map_err(away)?;
        migrated?;
        let pool = |size| Pool::new(Arc::clone(&server), size);
        Ok(Self { read: pool(CONNECTIONS), look: pool(LOOKERS), write: pool(CONNECTIONS), server })
    }

    /// Listens for commits on a connection of its own, for as long as somebody has the receiver.
    pub(super) fn announcements(&self) -> watch::Receiver<Announced> {
        let (tell, announced) = watch::channel(Announced::Nothing);
        tokio::spawn(listener::listen(Arc::clone(&self.server), tell));
        announced
    }
}

impl Server {
    fn new(url: &str) -> Self {
        let mut url = url.to_owned();
        for (name, value) in PARAMETERS {
            if !url.contains(&format!("{name}=")) {
                let mark = if url.contains('?') { '&' } else { '?' };
                url.push_str(&format!("{mark}{name}={value}"));
            }
        }
        Self { url }
    }

    fn establish(&self) -> Result<Conn> {
        let runtime = Handle::try_current().map_err(Error::internal)?;
        runtime.block_on(self.establish_async()).map(Conn::from)
    }

    /// A connection without limits, in bounded time.
    pub(super) async fn establish_async(&self) -> Result<AsyncPgConnection> {
        let establishing = <AsyncPgConnection as diesel_async::AsyncConnection>::establish(&self.url);
        match timeout(PATIENCE, establishing).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => Err(unavailable().caused_by(error)),
            Err(_) => Err(unavailable().caused_by("the database server does not answer")),
        }
    }
}

impl Connector for Server {
    type Connection = Conn;

    fn connect(&self) -> Result<Conn> {
        let mut conn = self.establish()?;
        conn.batch_execute(LIMITS).map_err(|error| Fault::from(error).into_error(false))?;
        Ok(conn)
    }

    fn is_usable(&self, conn: &mut Conn) -> bool {
        // The server may have been restarted since.
        conn.batch_execute("SELECT 1").is_ok()
    }
}

fn write_transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.transaction(work)
}

fn snapshot_transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.transaction(|conn| {
        conn.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        work(conn)
    })
}

/// Whether nobody else deletes events at the same time: two servers at the same rows would wait for each other. The
/// number is `forget` in ASCII.
fn may_forget(conn: &mut Conn) -> QueryResult<bool> {
    diesel::select(sql::<Bool>("pg_try_advisory_xact_lock(112628846781812)")).get_result(conn)
}

/// Tells every listener, once the transaction has happened.
fn announce(conn: &mut Conn, revision: Revision) -> QueryResult<()> {
    let notify = diesel::sql_query("SELECT pg_notify($1, $2)");
    notify.bind::<Text, _>(CHANNEL).bind::<Text, _>(revision.to_string()).execute(conn).map(drop)
}

fn insert_events(conn: &mut Conn, rows: &[EventRow<'_>]) -> QueryResult<()> {
    // Always the same statement, so that it is prepared once; what is left over is one of its own.
    let (chunks, rest) = rows.as_chunks::<ROWS>();
    for rows in chunks {
        diesel::insert_into(audit_events::table)
            .values(rows)
            .on_conflict(audit_events::id)
            .do_nothing()
            .execute(conn)?;
    }
    if !rest.is_empty() {
        diesel::insert_into(audit_events::table)
            .values(rest)
            .on_conflict(audit_events::id)
            .do_nothing()
            .execute(conn)?;
    }
    Ok(())
}
