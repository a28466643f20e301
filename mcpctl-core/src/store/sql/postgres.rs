//! PostgreSQL, with a driver in Rust.

use std::sync::Arc;

use diesel::{
    connection::SimpleConnection, dsl::sql, pg::Pg, prelude::*, result::QueryResult, sql_types::Bool,
};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use tokio::{runtime::Handle, time::timeout};

use super::{
    fault::{Fault, unavailable},
    migrate::migrate,
    pool::{Connector, PATIENCE, Pool},
    rows::EventRow,
    schema::audit_events,
};
use crate::error::{Error, Result};

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

const CONNECTIONS: usize = 8;

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
    pub(super) write: Pool<Server>,
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
        // Half for each, so that slow reads cannot keep writes waiting.
        let pool = || Pool::new(Arc::clone(&server), CONNECTIONS / 2);
        Ok(Self { read: pool(), write: pool() })
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
        match runtime.block_on(async {
            timeout(PATIENCE, <AsyncPgConnection as diesel_async::AsyncConnection>::establish(&self.url))
                .await
        }) {
            Ok(Ok(conn)) => Ok(conn.into()),
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
