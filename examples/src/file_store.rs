//! A store of one's own: one JSON file, written anew and swapped in at every commit. Small and safe, and slow
//! when there is much in it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use mcpctl_core::{
    Error, Result,
    resource::{AuditEvent, Id, Kind, Object, Revision, Session, Spec, TokenHash},
    store::{
        Changes, Condition, EventQuery, EventStore, ObjectChange, Outcome, SessionChange, SessionStore,
        Store, Txn, ValueStore, Write,
    },
};
use serde::{Deserialize, Serialize};

/// Keeps everything in one JSON file, and in memory for reading.
pub struct FileStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    document: Mutex<Document>,
    /// Held while the store lives: a second process would overwrite what this one commits.
    _lock: File,
}

/// What the file holds.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Document {
    revision: Revision,
    objects: Vec<ObjectRow>,
    /// Without a trace of what is gone, `changes` could not tell of it.
    deleted: Vec<DeletedRow>,
    values: BTreeMap<String, String>,
    sessions: Vec<SessionRow>,
    /// By id, so that they are in order and there once.
    events: BTreeMap<String, AuditEvent>,
}

/// The kind is kept by its name: rows of a kind that this build does not know stay in the file, unseen.
#[derive(Clone, Serialize, Deserialize)]
struct ObjectRow {
    kind: String,
    id: Id,
    name: String,
    spec: Spec,
    version: i64,
    revision: Revision,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Clone, Serialize, Deserialize)]
struct DeletedRow {
    kind: String,
    id: Id,
    revision: Revision,
}

#[derive(Clone, Serialize, Deserialize)]
struct SessionRow {
    token: String,
    user_id: Id,
    created_at: Timestamp,
    expires_at: Timestamp,
    revoked: bool,
    revision: Revision,
}

impl FileStore {
    /// Opens the file at `path`, which need not be there yet; its folder must be. Blocks.
    ///
    /// # Errors
    ///
    /// Invalid, when the file cannot be used; conflict, when another process has it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let fault = |cause: io::Error| {
            Error::invalid(format!("the file `{}` cannot be used: {cause}", path.display())).caused_by(cause)
        };
        let lock = private().truncate(false).open(path.with_extension("lock")).map_err(fault)?;
        lock.try_lock().map_err(|_| Error::conflict(format!("the file `{}` is in use", path.display())))?;
        let document = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|cause| fault(cause.into()))?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(cause) => return Err(fault(cause)),
        };
        Ok(Self(Arc::new(Inner { path, document: Mutex::new(document), _lock: lock })))
    }

    /// Changes the document, the file first. What `change` makes of its copy counts only if it is `Ok`.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Document) -> Result<T, T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        // Not on a thread of the runtime, since files block; and once begun it ends, whoever goes away.
        let work = move || {
            let mut document = inner.document();
            let mut next = document.clone();
            let done = match change(&mut next) {
                Ok(done) => done,
                Err(refused) => return Ok(refused),
            };
            let unwritten = Error::unavailable("the store cannot be written", Duration::from_secs(5));
            inner.write(&next).map_err(|cause| unwritten.caused_by(cause))?;
            *document = next;
            Ok(done)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

impl Inner {
    fn document(&self) -> MutexGuard<'_, Document> {
        // A change works on a copy, so a panic in one leaves no half of it behind.
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a crash at any moment, the file is the old one or the new one.
    fn write(&self, document: &Document) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let mut file = private().truncate(true).open(&draft)?;
        file.write_all(&serde_json::to_vec(document)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        // The rename is in the folder, which has to reach the disk as well.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Session hashes and encrypted values are nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[async_trait]
impl Store for FileStore {
    async fn get(&self, kind: Kind, id: &Id) -> Result<Option<Object>> {
        Ok(self.0.document().objects(kind).find(|row| row.id == *id).and_then(ObjectRow::object))
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>> {
        Ok(self.0.document().objects(kind).find(|row| row.name == name).and_then(ObjectRow::object))
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>> {
        let mut all: Vec<_> = self.0.document().objects(kind).filter_map(ObjectRow::object).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.0.document().revision)
    }

    async fn changes(&self, since: Revision) -> Result<Changes> {
        let document = self.0.document();
        let put =
            document.objects.iter().filter_map(|row| Some((row.revision, ObjectChange::Put(row.object()?))));
        let deleted = document.deleted.iter().filter_map(|row| {
            Some((row.revision, ObjectChange::Deleted { kind: Kind::parse(&row.kind)?, id: row.id.clone() }))
        });
        let sessions = document.sessions.iter().filter_map(SessionRow::change);
        let (objects, sessions) = (later(put.chain(deleted), since), later(sessions, since));
        Ok(Changes::All { revision: document.revision, objects, sessions })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let commit = |document: &mut Document| {
            if let Some(condition) = txn.conditions.into_iter().find(|condition| !document.holds(condition)) {
                return Err(Outcome::Refused(condition));
            }
            document.revision += 1;
            for write in txn.writes {
                document.write(write).map_err(Outcome::Refused)?;
            }
            document.append(txn.events);
            Ok(Outcome::Committed(document.revision))
        };
        self.change(commit).await
    }
}

#[async_trait]
impl ValueStore for FileStore {
    async fn value(&self, key: &str) -> Result<Option<String>> {
        Ok(self.0.document().values.get(key).cloned())
    }
}

#[async_trait]
impl SessionStore for FileStore {
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        let document = self.0.document();
        let current = document.sessions.iter().filter(|row| !row.revoked && row.expires_at > now);
        Ok(current.filter_map(SessionRow::session).collect())
    }

    async fn session(&self, token: TokenHash) -> Result<Option<Session>> {
        let document = self.0.document();
        Ok(document.sessions.iter().find(|row| row.is(token) && !row.revoked).and_then(SessionRow::session))
    }
}

#[async_trait]
impl EventStore for FileStore {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        let events = events.to_vec();
        self.change(|document| {
            document.append(events);
            Ok(())
        })
        .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<AuditEvent>> {
        let document = self.0.document();
        let found = document.events.values().rev().filter(|event| query.matches(event));
        Ok(found.take(query.limit).cloned().collect())
    }

    async fn forget(&self, before: &str, most: usize) -> Result<usize> {
        let before = before.to_owned();
        self.change(move |document| Ok(document.events.extract_if(..before, |_, _| true).take(most).count()))
            .await
    }
}

impl Document {
    fn objects(&self, kind: Kind) -> impl Iterator<Item = &ObjectRow> {
        self.objects.iter().filter(move |row| row.kind == kind.plural)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Version { kind, id, version } => {
                self.objects(*kind).any(|row| row.id == *id && row.version == *version)
            }
            Condition::ValueAbsent { key } => !self.values.contains_key(key),
            Condition::NameAbsent { kind, name } => !self.objects(*kind).any(|row| row.name == *name),
            Condition::KindUnchanged { kind, since } => {
                let newer = |row: &DeletedRow| row.kind == kind.plural && row.revision > *since;
                self.objects(*kind).all(|row| row.revision <= *since) && !self.deleted.iter().any(newer)
            }
        }
    }

    /// One write; `Err` is the condition that every store adds to it: names are unique within a kind.
    fn write(&mut self, write: Write) -> Result<(), Condition> {
        let revision = self.revision;
        match write {
            Write::Put(object) => {
                let clash = |row: &ObjectRow| row.name == object.name && row.id != object.id;
                if self.objects(object.kind).any(clash) {
                    return Err(Condition::NameAbsent { kind: object.kind, name: object.name });
                }
                self.objects.retain(|row| row.id != object.id);
                self.deleted.retain(|row| row.id != object.id);
                self.objects.push(ObjectRow::new(object, revision));
            }
            Write::Delete { kind, id } => {
                let gone = self.objects.extract_if(.., |row| row.kind == kind.plural && row.id == id);
                self.deleted.extend(gone.map(|row| DeletedRow { kind: row.kind, id: row.id, revision }));
            }
            Write::PutValue { key, value } => {
                self.values.insert(key, value);
            }
            Write::DeleteValue { key } => {
                self.values.remove(&key);
            }
            Write::PutSession(session) => {
                self.sessions.retain(|row| !row.is(session.token));
                self.sessions.push(SessionRow::new(&session, revision));
            }
            Write::RevokeSession(token) => self.revoke(|row| row.is(token)),
            Write::RevokeSessionsOf(user) => self.revoke(|row| row.user_id == user),
        }
        Ok(())
    }

    fn revoke(&mut self, which: impl Fn(&SessionRow) -> bool) {
        for row in self.sessions.iter_mut().filter(|row| !row.revoked && which(row)) {
            row.revoked = true;
            row.revision = self.revision;
        }
    }

    fn append(&mut self, events: Vec<AuditEvent>) {
        for event in events {
            self.events.entry(event.id.clone()).or_insert(event);
        }
    }
}

impl ObjectRow {
    fn new(object: Object, revision: Revision) -> Self {
        let Object { kind, id, name, spec, version, created_at, updated_at, .. } = object;
        Self { kind: kind.plural.to_owned(), id, name, spec, version, revision, created_at, updated_at }
    }

    fn object(&self) -> Option<Object> {
        let Self { kind, id, name, spec, version, revision, created_at, updated_at } = self.clone();
        Some(Object { kind: Kind::parse(&kind)?, id, name, spec, version, revision, created_at, updated_at })
    }
}

impl SessionRow {
    fn new(session: &Session, revision: Revision) -> Self {
        let Session { token, user_id, created_at, expires_at } = session.clone();
        Self { token: token.to_hex(), user_id, created_at, expires_at, revoked: false, revision }
    }

    fn is(&self, token: TokenHash) -> bool {
        TokenHash::from_hex(&self.token) == Some(token)
    }

    fn session(&self) -> Option<Session> {
        let Self { token, user_id, created_at, expires_at, .. } = self.clone();
        Some(Session { token: TokenHash::from_hex(&token)?, user_id, created_at, expires_at })
    }

    fn change(&self) -> Option<(Revision, SessionChange)> {
        let session = self.session()?;
        let (revoked, put) = (SessionChange::Revoked(session.token), SessionChange::Put(session));
        Some((self.revision, if self.revoked { revoked } else { put }))
    }
}

/// What happened after a revision, oldest first.
fn later<T>(all: impl Iterator<Item = (Revision, T)>, since: Revision) -> Vec<T> {
    let mut later: Vec<_> = all.filter(|(revision, _)| *revision > since).collect();
    later.sort_by_key(|(revision, _)| *revision);
    later.into_iter().map(|(_, change)| change).collect()
}
