//! SQLite: one file, one process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    result::QueryResult,
    sql_types::{BigInt, Nullable, Text},
    sqlite::Sqlite,
};

use super::{
    fault::{Fault, unavailable},
    migrate::migrate,
    pool::{Connector, Pool},
    rows::EventRow,
};
use crate::{
    error::{Error, Result},
    resource::Revision,
};

#[path = "queries.rs"]
pub(super) mod queries;

pub(super) type Conn = SqliteConnection;
type Db = Sqlite;

/// Connections that read at the same time.
const READERS: usize = 4;
/// Connections that look for changes.
const LOOKERS: usize = 2;

/// Rows of one insert.
const ROWS: usize = 32;

/// WAL lets readers go on during a write; FULL makes a commit survive a power cut. 512 KiB of cache are enough for a
/// file that is written at its end, and a connection would never give back more.
const SET_UP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                      PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -512;";

/// A database file that is open.
pub(super) struct Database {
    pub(super) read: Pool<DatabaseFile>,
    /// Slow reads must not keep a revocation waiting.
    pub(super) look: Pool<DatabaseFile>,
    /// SQLite has one writer at a time. Waiting for a turn here is fair; polling for its lock is not.
    pub(super) write: Pool<DatabaseFile>,
}

/// A database file that no other process may open.
pub(super) struct DatabaseFile {
    path: String,
    identity: Identity,
    /// Locked for as long as the store lives; the system unlocks it when the process ends, however it does.
    _lock: File,
}

impl Database {
    /// Opens the file, which is made when it is not there, and brings its tables up to date. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(DatabaseFile::open(path)?);
        let mut conn = file.connect()?;
        migrate(&mut conn).map_err(|error| error.context(format_args!("database `{}`", file.path)))?;
        let pool = |size| Pool::new(Arc::clone(&file), size);
        Ok(Self { read: pool(READERS), look: pool(LOOKERS), write: pool(1) })
    }
}

impl DatabaseFile {
    fn open(path: &Path) -> Result<Self> {
        let fault = |cause: io::Error| {
            Error::invalid(format!("the database file `{}` cannot be opened: {cause}", path.display()))
                .caused_by(cause)
        };
        // SQLite gives its companion files the mode of this one.
        match private(OpenOptions::new().create_new(true)).open(path) {
            Ok(_) => sync_folder_of(path).map_err(fault)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fault(error)),
        }
        // The real path: the lock must be the same one for everybody who gets here through links.
        let path = path.canonicalize().map_err(fault)?;
        if !path.is_file() {
            return Err(Error::invalid(format!(
                "the database `{}` cannot be opened: not a file",
                path.display()
            )));
        }
        let lock = lock(&path)?;
        let identity = Identity::of(&path).map_err(fault)?;
        let path = path
            .into_os_string()
            .into_string()
            .map_err(|_| Error::invalid("the path of the database file must be valid UTF-8"))?;
        Ok(Self { path, identity, _lock: lock })
    }

    /// Fails when the file was removed or replaced: writes to one that nobody can find would be lost.
    fn check(&self) -> Result<()> {
        match Identity::of(Path::new(&self.path)) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => Err(unavailable().caused_by("the database file was replaced by another one")),
            Err(error) => Err(unavailable().caused_by(error)),
        }
    }
}

impl Connector for DatabaseFile {
    type Connection = Conn;

    fn connect(&self) -> Result<Conn> {
        self.check()?;
        let mut conn = Conn::establish(&self.path).map_err(|error| unavailable().caused_by(error))?;
        conn.batch_execute(SET_UP).map_err(|error| Fault::from(error).into_error(false))?;
        Ok(conn)
    }

    fn is_usable(&self, _: &mut Conn) -> bool {
        self.check().is_ok()
    }
}

/// The process that has the database at `path` open, if one has.
pub(super) fn holder(path: &Path) -> Option<u32> {
    let path = lock_path(&path.canonicalize().ok()?);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => std::fs::read_to_string(&path).ok()?.parse().ok(),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = PathBuf::from(database).into_os_string();
    path.push(".lock");
    PathBuf::from(path)
}

/// Takes the lock of a database file.
fn lock(database: &Path) -> Result<File> {
    let path = lock_path(database);
    let fault = |cause: io::Error| {
        Error::invalid(format!("the lock file `{}` cannot be used: {cause}", path.display())).caused_by(cause)
    };
    let file = private(OpenOptions::new().create(true).truncate(false)).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {
            // Who it is, for those who come later: see `holder`.
            file.set_len(0)
                .and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()))
                .map_err(fault)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Error::conflict(format!(
            "the database `{}` is in use by another process; stop that one first",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => Err(fault(error)),
    }
}

/// Options that make a file for nobody but its owner.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.read(true).write(true)
}

/// Makes a new file's name survive a power cut.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// What tells a file from another one with the same path.
#[derive(PartialEq)]
struct Identity(u64, u64);

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        #[cfg(unix)]
        return Ok(Self(
            std::os::unix::fs::MetadataExt::dev(&metadata),
            std::os::unix::fs::MetadataExt::ino(&metadata),
        ));
        #[cfg(not(unix))]
        return Ok(Self(u64::from(metadata.is_file()), 0));
    }
}

fn write_transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, Fault>,
) -> Result<T, Fault> {
    // Takes the write lock at once: a transaction that turns from reading to writing can fail half-way.
    conn.immediate_transaction(work)
}

fn snapshot_transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.transaction(work)
}

/// Whether nobody else deletes events at the same time: here, nobody else can.
fn may_forget(_: &mut Conn) -> QueryResult<bool> {
    Ok(true)
}

/// Nobody else has the file, who could be told.
fn announce(_: &mut Conn, _: Revision) -> QueryResult<()> {
    Ok(())
}

fn insert_events(conn: &mut Conn, rows: &[EventRow<'_>]) -> QueryResult<()> {
    // Always the same two statements, so that they are prepared once.
    let (chunks, rest) = rows.as_chunks::<ROWS>();
    for rows in chunks {
        InsertEvents(rows).execute(conn)?;
    }
    for row in rest {
        InsertEvents(std::array::from_ref(row)).execute(conn)?;
    }
    Ok(())
}

/// Inserts as many events, unless they are there. diesel's own statement would put its text together each time, only
/// to find that it is prepared already; this one is found by its type.
struct InsertEvents<'a, const N: usize>(&'a [EventRow<'a>; N]);

impl<const N: usize> QueryId for InsertEvents<'_, N> {
    type QueryId = InsertEvents<'static, N>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const N: usize> QueryFragment<Db> for InsertEvents<'_, N> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("INSERT INTO audit_events (id, at, kind, llm, user_id, user_name, event) VALUES ");
        for (number, row) in self.0.iter().enumerate() {
            out.push_sql(if number == 0 { "(" } else { "), (" });
            out.push_bind_param::<Text, _>(row.id)?;
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(&row.at)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(row.kind)?;
            for text in [&row.llm, &row.user_id, &row.user_name] {
                out.push_sql(", ");
                out.push_bind_param::<Nullable<Text>, _>(text)?;
            }
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(&row.event)?;
        }
        out.push_sql(") ON CONFLICT (id) DO NOTHING");
        Ok(())
    }
}

impl<const N: usize> RunQueryDsl<Conn> for InsertEvents<'_, N> {}
