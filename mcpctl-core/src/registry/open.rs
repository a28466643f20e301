//! Opening a registry, and keeping its snapshot fresh.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
};

use super::{
    Snapshot,
    backends::Drivers,
    keys::renew_in_time,
    leases::signing_key,
    legacy::rewrite_admin,
    limited::{self, Untold},
    tokens::keep_uses,
};
use crate::{
    audit::{AuditMeters, AuditMode, AuditQueue, AuditSink, Copier, MeasuredSink, StoreSink, forget_old},
    auth::{LoginLimiter, Passwords, Principal},
    error::{Error, ErrorKind, Result},
    lease::SigningKey,
    rbac::Grants,
    resource::{Object, Revision, kinds},
    secret::{Keyring, MasterKey, PlaintextBackend},
    store::{Announced, Condition, Measured, Outcome, Storage, StoreMeters, Txn, Write},
};

/// The control plane. Clones share one.
#[derive(Clone)]
pub struct Registry {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Storage>,
    pub(super) audit: AuditQueue,
    copier: Option<Copier>,
    pub(super) untold: Untold,
    pub(super) plaintext: Arc<PlaintextBackend>,
    /// What signs leases; none when it cannot be read.
    pub(super) signing_key: Option<Arc<SigningKey>>,
    pub(super) drivers: Drivers,
    pub(super) passwords: Arc<Passwords>,
    pub(super) limiter: LoginLimiter,
    pub(super) session_lifetime: Duration,
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// The snapshot's revision, for those who wait for a newer one.
    published: watch::Sender<Revision>,
    /// Refreshes follow one another, so that an older snapshot never replaces a newer one.
    pub(super) refreshing: Mutex<()>,
    began: Instant,
    /// When the snapshot was last known to be current, in milliseconds since `began`.
    fresh_at: AtomicU64,
    max_staleness: Duration,
    /// Whether the last look at the store failed.
    away: AtomicBool,
    sealed: AtomicBool,
    meters: RegistryMeters,
}

/// What a registry counts.
#[derive(Debug, Default)]
pub(crate) struct RegistryMeters {
    pub(crate) store: Arc<StoreMeters>,
    pub(crate) audit: Arc<AuditMeters>,
    /// Looks at the store that failed.
    pub(crate) poll_failures: AtomicU64,
}

/// How to open a registry.
pub struct RegistryBuilder {
    store: Arc<dyn Storage>,
    keyring: Option<Keyring>,
    sink: Option<Arc<dyn AuditSink>>,
    audit_mode: AuditMode,
    audit_copy: Option<Arc<dyn AuditSink>>,
    audit_retention: Option<Duration>,
    max_staleness: Duration,
    session_lifetime: Duration,
    poll_interval: Duration,
}

/// A look at the store may be late on a busy machine; that alone is not the store's absence.
pub(super) const POLL_TOLERANCE: Duration = Duration::from_secs(5);

/// A store that announces its commits is looked at so many times less often.
const RARELY: u32 = 4;

/// The key under which a known value is sealed, to tell whether the master key fits.
pub(super) const KEY_CHECK: &str = "master-key-check";
pub(super) const KEY_CHECK_TEXT: &[u8] = b"mcpctl";

impl RegistryBuilder {
    /// The master key that protects stored secret values. Without one, a random key is made: good for a store
    /// that is forgotten with the process, and for no other.
    #[must_use]
    pub fn master_key(self, key: MasterKey) -> Self {
        self.keyring(Keyring::new(key))
    }

    /// Several master keys, of which one writes.
    #[must_use]
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = Some(keyring);
        self
    }

    /// Where audit events go that do not belong to a change. The default is the store.
    #[must_use]
    pub fn audit_sink(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Whether answers wait until their audit events are kept. The default is that they do not.
    #[must_use]
    pub fn audit_mode(mut self, mode: AuditMode) -> Self {
        self.audit_mode = mode;
        self
    }

    /// A second place for every event, those of changes included. It gets them once the first has them, and nobody
    /// waits for it: while it is away, some sixty thousand wait for it in memory, and the others are left out of it.
    #[must_use]
    pub fn audit_copy(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit_copy = Some(sink);
        self
    }

    /// For how long audit events are kept in the store. The default is for ever.
    #[must_use]
    pub fn audit_retention(mut self, retention: Duration) -> Self {
        self.audit_retention = Some(retention);
        self
    }

    /// For how long known principals are served while the store is away. The default is 60 seconds.
    #[must_use]
    pub fn max_staleness(mut self, most: Duration) -> Self {
        self.max_staleness = most;
        self
    }

    /// How long a login lasts. The default is 30 days.
    #[must_use]
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// How often to look for changes that others made to the store. The default is 250 milliseconds. While the
    /// store announces its commits, they are looked for when it does, and besides a quarter as often.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Opens the registry on the current tokio runtime: seeds an empty store with the `default` secret backend,
    /// reads everything, and follows the store from then on.
    ///
    /// When the master key does not fit what is stored, the registry opens *sealed*; see
    /// [`Registry::is_sealed`].
    ///
    /// # Errors
    ///
    /// Unavailable, when the store is away.
    pub async fn open(mut self) -> Result<Registry> {
        let meters = RegistryMeters::default();
        let copier = self.audit_copy.take().map(|sink| Copier::start(sink, meters.audit.clone()));
        let observer = copier.clone().map(|copier| Arc::new(move |events| copier.tell(events)) as _);
        self.store = Arc::new(Measured::new(self.store, meters.store.clone(), observer));
        let keyring = self.keyring.unwrap_or_else(|| Keyring::new(MasterKey::generate()));
        seed(&*self.store, &keyring).await?;
        rewrite_admin(&*self.store).await?;
        let sealed = !key_fits(&*self.store, &keyring).await?;
        if sealed {
            tracing::error!("sealed: the master key does not fit the stored values");
        }
        let signing_key = if sealed { None } else { signing_key(&*self.store, &keyring).await? };
        let sink = match self.sink {
            Some(sink) => MeasuredSink::new(sink, meters.audit.clone(), copier.clone()),
            // What the store keeps, it tells the copier itself.
            None => MeasuredSink::new(Arc::new(StoreSink(self.store.clone())), meters.audit.clone(), None),
        };
        if let Some(retention) = self.audit_retention {
            tokio::spawn(forget_old(Arc::downgrade(&self.store), retention, meters.audit.clone()));
        }
        let inner = Arc::new(Inner {
            audit: AuditQueue::start(Arc::new(sink), self.audit_mode),
            copier,
            untold: Untold::default(),
            plaintext: Arc::new(PlaintextBackend::new(self.store.clone(), keyring)),
            signing_key,
            drivers: Drivers::default(),
            passwords: Arc::new(Passwords::new()?),
            limiter: LoginLimiter::new(),
            session_lifetime: self.session_lifetime,
            snapshot: ArcSwap::from_pointee(Snapshot::load(&*self.store).await?),
            published: watch::Sender::default(),
            refreshing: Mutex::new(()),
            began: Instant::now(),
            fresh_at: AtomicU64::new(0),
            max_staleness: self.max_staleness,
            away: AtomicBool::new(false),
            sealed: AtomicBool::new(sealed),
            store: self.store,
            meters,
        });
        let registry = Registry { inner };
        drop(registry.resolve_keys_ahead());
        tokio::spawn(renew_in_time(Arc::downgrade(&registry.inner)));
        tokio::spawn(keep_uses(Arc::downgrade(&registry.inner)));
        let announcements = registry.inner.store.announcements();
        tokio::spawn(follow(Arc::downgrade(&registry.inner), self.poll_interval, announcements));
        tokio::spawn(limited::tell(Arc::downgrade(&registry.inner)));
        Ok(registry)
    }
}

impl Inner {
    /// The same over another store, from the same snapshot on. Nothing follows that store.
    pub(super) fn over(&self, store: Arc<dyn Storage>) -> Self {
        Self {
            audit: self.audit.clone(),
            copier: None,
            untold: Untold::default(),
            plaintext: Arc::new(self.plaintext.over(store.clone())),
            signing_key: self.signing_key.clone(),
            drivers: Drivers::default(),
            passwords: self.passwords.clone(),
            limiter: LoginLimiter::new(),
            session_lifetime: self.session_lifetime,
            snapshot: ArcSwap::new(self.snapshot.load_full()),
            published: watch::Sender::default(),
            refreshing: Mutex::new(()),
            began: self.began,
            fresh_at: AtomicU64::new(self.fresh_at.load(Ordering::Relaxed)),
            max_staleness: self.max_staleness,
            away: AtomicBool::new(false),
            sealed: AtomicBool::new(self.sealed.load(Ordering::Relaxed)),
            store,
            meters: RegistryMeters::default(),
        }
    }
}

impl Registry {
    /// Starts opening a registry over a store.
    pub fn builder(store: Arc<dyn Storage>) -> RegistryBuilder {
        RegistryBuilder {
            store,
            keyring: None,
            sink: None,
            audit_mode: AuditMode::default(),
            audit_copy: None,
            audit_retention: None,
            max_staleness: Duration::from_secs(60),
            session_lifetime: Duration::from_secs(30 * 24 * 3600),
            poll_interval: Duration::from_millis(250),
        }
    }

    /// The principal of the program that embeds this registry: it may do everything, since it owns the store.
    /// `program` is its name in the audit trail.
    pub fn root(&self, program: &str) -> Principal {
        Principal {
            user_id: None,
            name: program.into(),
            token: None,
            api_token: None,
            impersonator: None,
            rights: Arc::new(Grants::everything(program)).into(),
            request_id: None,
        }
    }

    /// What is stored, as of now or a moment ago.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// Tells of every new snapshot.
    pub(super) fn published(&self) -> watch::Receiver<Revision> {
        self.inner.published.subscribe()
    }

    /// The store underneath.
    pub fn store(&self) -> &dyn Storage {
        &*self.inner.store
    }

    /// The queue of audit events.
    pub fn audit(&self) -> &AuditQueue {
        &self.inner.audit
    }

    /// Waits until the audit trail has all that happened until now, and its copy too: the last thing to do.
    ///
    /// # Errors
    ///
    /// Unavailable, when the trail takes longer than `patience`. That the copy does is only logged.
    pub async fn finish_audit(&self, patience: Duration) -> Result<()> {
        self.tell_limited(true).await?;
        self.audit().flush(patience).await?;
        if let Some(copier) = &self.inner.copier
            && !copier.flush(patience).await
        {
            tracing::error!("the copy of the audit trail lacks its last events");
        }
        Ok(())
    }

    /// What is counted.
    pub(crate) fn meters(&self) -> &RegistryMeters {
        &self.inner.meters
    }

    /// Whether the master key does not fit the stored values. Then nothing that needs a secret value works.
    pub fn is_sealed(&self) -> bool {
        self.inner.sealed.load(Ordering::Relaxed)
    }

    /// Brings the snapshot up to what the store holds now.
    ///
    /// # Errors
    ///
    /// Unavailable, when the store is away.
    pub async fn refresh(&self) -> Result<()> {
        let _turn = self.inner.refreshing.lock().await;
        let asked_at = self.inner.began.elapsed();
        let current = self.snapshot();
        if self.inner.store.revision().await? != current.revision() {
            let changes = self.inner.store.changes(current.revision()).await?;
            // With many resources this takes a while, in which the callers of this thread must not wait.
            let next = spawn_blocking(move || current.with(changes)).await.map_err(Error::internal)?;
            let next = match next {
                Some(next) => next,
                None => Snapshot::load(&*self.inner.store).await?,
            };
            let revision = next.revision();
            self.inner.snapshot.store(Arc::new(next));
            self.inner.published.send_replace(revision);
            drop(self.resolve_keys_ahead());
        }
        self.inner.fresh_at.store(millis(asked_at), Ordering::Relaxed);
        Ok(())
    }

    /// The time since the snapshot was last known to be what the store holds.
    pub fn staleness(&self) -> Duration {
        let fresh_at = Duration::from_millis(self.inner.fresh_at.load(Ordering::Relaxed));
        self.inner.began.elapsed().saturating_sub(fresh_at)
    }

    /// Refuses once the snapshot has not been confirmed by the store for too long.
    pub(super) fn check_fresh(&self) -> Result<()> {
        let tolerance = if self.inner.away.load(Ordering::Relaxed) { Duration::ZERO } else { POLL_TOLERANCE };
        if self.staleness() > self.inner.max_staleness.max(tolerance) {
            return Err(Error::unavailable(
                "the database cannot be reached; try again later",
                Duration::from_secs(5),
            ));
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Refreshes until the registry is dropped, and says when the store goes and comes back.
async fn follow(
    registry: Weak<Inner>,
    interval: Duration,
    mut announcements: Option<watch::Receiver<Announced>>,
) {
    let mut away = false;
    loop {
        let announced = announcements.as_ref().map_or(Announced::Nothing, |now| *now.borrow());
        let rarely = announced != Announced::Nothing && !away;
        tokio::select! {
            () = heard(&mut announcements) => {}
            () = tokio::time::sleep(interval * if rarely { RARELY } else { 1 }) => {}
        }
        let Some(inner) = registry.upgrade() else { return };
        let registry = Registry { inner };
        let looked = registry.refresh().await;
        away = looked.is_err();
        if looked.is_err() {
            registry.inner.meters.poll_failures.fetch_add(1, Ordering::Relaxed);
        }
        let was_away = registry.inner.away.swap(looked.is_err(), Ordering::Relaxed);
        match looked {
            Ok(()) if was_away => tracing::info!("the store is back"),
            Err(error) if !was_away => {
                tracing::warn!(error = error.chain(), "the store is away; serving from memory");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Waits until the store announces something, or stops doing so, or begins anew; for ever, when it never will.
async fn heard(announcements: &mut Option<watch::Receiver<Announced>>) {
    if let Some(receiver) = announcements
        && receiver.changed().await.is_err()
    {
        *announcements = None;
    }
    if announcements.is_none() {
        std::future::pending().await
    }
}

/// An empty store gets the default backend, and with it the value that tells whether a master key fits.
async fn seed(store: &dyn Storage, keyring: &Keyring) -> Result<()> {
    let since = store.revision().await?;
    if !store.list(kinds::SECRET_BACKENDS).await?.is_empty() {
        return Ok(());
    }
    let spec = json!({"type": "plaintext", "isDefault": true, "config": {},
                      "description": "the server's own database, encrypted at rest"});
    let spec = spec.as_object().cloned().unwrap_or_default();
    let value = keyring.seal(KEY_CHECK, 1, KEY_CHECK_TEXT)?;
    let txn = Txn {
        conditions: vec![Condition::KindUnchanged { kind: kinds::SECRET_BACKENDS, since }],
        writes: vec![
            Write::Put(Object::new(kinds::SECRET_BACKENDS, "default", spec)),
            Write::PutValue { key: KEY_CHECK.to_owned(), value },
        ],
        events: Vec::new(),
    };
    match store.commit(txn).await? {
        // Another server was first: as good.
        Outcome::Committed(_) | Outcome::Refused(_) => Ok(()),
    }
}

pub(super) async fn key_fits(store: &dyn Storage, keyring: &Keyring) -> Result<bool> {
    let Some(sealed) = store.value(KEY_CHECK).await? else {
        // Fail closed: a store with backends always has this value.
        return Ok(false);
    };
    match keyring.open(KEY_CHECK, 1, &sealed) {
        Ok(_) => Ok(true),
        Err(error) if [ErrorKind::Sealed, ErrorKind::SecretUnavailable].contains(&error.kind()) => Ok(false),
        Err(error) => Err(error),
    }
}
