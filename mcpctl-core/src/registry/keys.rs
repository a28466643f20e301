//! The providers' keys: resolved once, kept in memory as long as they may be, and renewed before that ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    sync::{Mutex, Semaphore},
    task::{JoinHandle, JoinSet},
};

use super::{
    LlmEntry, Registry, Snapshot, backends::no_key, hooks::typed_reference, open::Inner, query::missing,
    secrets::VALUE_VERSION,
};
use crate::{
    error::{Error, ErrorKind, Result},
    resource::{Id, Object, OpenBaoConfig, Spec, kinds, openbao_config},
    secret::{BackendFault, SecretValue},
};

type Values = BTreeMap<String, Arc<SecretValue>>;

/// The values of a Secret that Llms refer to. They never change: others come with another entry.
pub(super) struct SecretEntry {
    secret: Arc<Object>,
    made_from: MadeFrom,
    /// For how long values may be used; `None`: until they are changed through us.
    lifetime: Option<Duration>,
    values: OnceLock<Values>,
    /// Until when they may be used, in milliseconds since [`BEGAN`].
    until: AtomicU64,
    /// When to try next to renew them.
    next_try: AtomicU64,
    /// Held by who resolves them; the others wait, and share what comes of it, a failure included.
    flight: Mutex<Option<Failed>>,
    /// Whether they were resolved, or tried to be, before the first request.
    tried: AtomicBool,
}

/// What values hang on: with another of these, they are read anew.
#[derive(PartialEq)]
struct MadeFrom {
    value_version: Option<i64>,
    backend: Option<Id>,
    config: Option<Spec>,
}

struct Failed {
    at: Instant,
    kind: ErrorKind,
    message: String,
}

/// What a look at the backend led to.
enum Renewal {
    /// The entry's values may be used.
    Kept,
    /// There are other values: another entry has taken this one's place.
    Replaced(Arc<SecretEntry>),
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How often to look for values that are to be renewed.
const TICK: Duration = Duration::from_millis(250);

/// How many are resolved at the same time.
const AT_ONCE: usize = 16;

/// For so long, a failure to reach a backend is passed on before it is tried again.
const REST: Duration = Duration::from_millis(500);

fn now() -> u64 {
    millis(BEGAN.elapsed())
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

impl SecretEntry {
    /// The entry of a Secret, whose backend is `backend`: `earlier` when nothing has changed that matters.
    pub(super) fn of(
        secret: &Arc<Object>,
        backend: Option<&Object>,
        earlier: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let config = backend.and_then(|backend| openbao_config(&backend.spec));
        let made_from = MadeFrom {
            value_version: secret.spec.get(VALUE_VERSION).and_then(Value::as_i64),
            backend: typed_reference(&secret.spec, "backend"),
            config: config.cloned(),
        };
        match earlier {
            Some(entry) if entry.made_from == made_from => entry.clone(),
            _ => {
                let typed = config.map(|config| serde_json::from_value(Value::Object(config.clone())));
                let seconds = typed.map(|typed| typed.map_or(1, |typed: OpenBaoConfig| typed.cache_seconds));
                Arc::new(Self::new(secret.clone(), made_from, seconds.map(Duration::from_secs)))
            }
        }
    }

    fn new(secret: Arc<Object>, made_from: MadeFrom, lifetime: Option<Duration>) -> Self {
        Self {
            secret,
            made_from,
            lifetime,
            values: OnceLock::new(),
            until: AtomicU64::new(u64::MAX),
            next_try: AtomicU64::new(0),
            flight: Mutex::default(),
            tried: AtomicBool::new(false),
        }
    }

    /// One for the same Secret, with other values or none.
    fn successor(&self, values: Option<Values>) -> Self {
        let MadeFrom { value_version, backend, config } = &self.made_from;
        let made_from =
            MadeFrom { value_version: *value_version, backend: backend.clone(), config: config.clone() };
        let next = Self::new(self.secret.clone(), made_from, self.lifetime);
        if let Some(values) = values {
            let _ = next.values.set(values);
        }
        next.tried.store(true, Ordering::Relaxed);
        next
    }

    /// Whether the values may still be used; those that are not there yet may, once they are.
    pub(super) fn is_current(&self) -> bool {
        self.lifetime.is_none() || now() < self.until.load(Ordering::Relaxed)
    }

    /// Whether the values have to be renewed so that no request waits for them.
    fn is_due(&self, now: u64) -> bool {
        let Some(lifetime) = self.lifetime else { return false };
        let half = millis(lifetime) / 2;
        let until = self.until.load(Ordering::Relaxed);
        let is_old = self.values.get().is_none() || now.saturating_add(half) >= until;
        is_old && self.tried.load(Ordering::Relaxed) && now >= self.next_try.load(Ordering::Relaxed)
    }

    /// Notes that the values were what they are at `asked`.
    fn confirm(&self, asked: u64) {
        if let Some(lifetime) = self.lifetime {
            self.until.store(asked.saturating_add(millis(lifetime)), Ordering::Relaxed);
        }
    }

    /// The next try after one that fails: soon, and not at every tick.
    fn postpone(&self) {
        let lifetime = self.lifetime.unwrap_or(TICK);
        let pause = (lifetime / 20).clamp(TICK, Duration::from_secs(5));
        self.next_try.store(now().saturating_add(millis(pause)), Ordering::Relaxed);
    }

    fn key(&self, name: &str) -> Option<Result<Arc<SecretValue>>> {
        let values = self.values.get()?;
        Some(values.get(name).cloned().ok_or_else(|| no_key(&self.secret.name, name)))
    }
}

impl Snapshot {
    /// This snapshot with another entry in place of `old`; `None` when that is not in it any more.
    fn replacing(&self, old: &Arc<SecretEntry>, new: Arc<SecretEntry>) -> Option<Self> {
        let id = &old.secret.id;
        let current = self.secrets.get(id)?;
        if !Arc::ptr_eq(current, old) {
            return None;
        }
        let mut next = self.clone();
        Arc::make_mut(&mut next.secrets).insert(id.clone(), new);
        next.compile_llms();
        Some(next)
    }
}

impl Registry {
    /// The provider's key of an Llm: from memory, once it has been resolved. `None` when the Llm refers to none.
    ///
    /// # Errors
    ///
    /// Secret unavailable, with the message that the inference API promises.
    pub async fn api_key(&self, llm: &LlmEntry) -> Result<Option<Arc<SecretValue>>> {
        let Some(at) = &llm.spec.api_key_ref else { return Ok(None) };
        let Some(entry) = &llm.secret else {
            return Err(unresolved(missing(kinds::SECRETS, &at.name)));
        };
        if let Some(known) = entry.key(&at.key) {
            return known.map(Some).map_err(unresolved);
        }
        // A box of its own: a call whose key is known carries nothing of it.
        let resolved = Box::pin(self.renew(entry, false)).await.map_err(unresolved)?;
        let entry = match &resolved {
            Renewal::Kept => entry,
            Renewal::Replaced(other) => other,
        };
        match entry.key(&at.key) {
            Some(key) => key.map(Some).map_err(unresolved),
            None => Err(unresolved(Error::internal("a resolved secret has no values"))),
        }
    }

    /// The entry to call an Llm by, when `llm` has a key that has passed its lifetime: the same if the key still
    /// holds, another if there is another key by now.
    ///
    /// # Errors
    ///
    /// As for [`api_key`](Self::api_key).
    pub async fn renewed(&self, llm: &Arc<LlmEntry>) -> Result<Arc<LlmEntry>> {
        let Some(entry) = llm.secret.as_ref().filter(|entry| !entry.is_current()) else {
            return Ok(llm.clone());
        };
        match Box::pin(self.renew(entry, false)).await.map_err(unresolved)? {
            Renewal::Kept => Ok(llm.clone()),
            Renewal::Replaced(_) => {
                let snapshot = self.snapshot();
                let current = snapshot.llm(llm.id.as_str());
                current.cloned().ok_or_else(|| missing(kinds::LLMS, &llm.name))
            }
        }
    }

    /// Reads the values anew, unless somebody else has done so since this was called. `ahead` is true when nobody
    /// waits for them: then the values may be used on while they cannot be read.
    async fn renew(&self, entry: &Arc<SecretEntry>, ahead: bool) -> Result<Renewal> {
        let asked = Instant::now();
        let mut flight = entry.flight.lock().await;
        if !ahead && entry.values.get().is_some() && entry.is_current() {
            return Ok(Renewal::Kept);
        }
        if let Some(failed) = &*flight {
            let is_fresh = failed.at >= asked || (entry.lifetime.is_some() && failed.at.elapsed() < REST);
            if !ahead && is_fresh {
                return Err(Error::new(failed.kind, failed.message.clone()));
            }
        }
        let asked = now();
        let read = self.read_values(&entry.secret).await;
        match read {
            Ok(found) => {
                *flight = None;
                let values: Values =
                    found.data.into_iter().map(|(key, value)| (key, Arc::new(value))).collect();
                let known = entry.values.get_or_init(|| values.clone());
                if *known == values {
                    entry.confirm(asked);
                    return Ok(Renewal::Kept);
                }
                let next = Arc::new(entry.successor(Some(values)));
                next.confirm(asked);
                self.replace(entry, next).await
            }
            Err(error) => {
                entry.postpone();
                *flight = Some(Failed {
                    at: Instant::now(),
                    kind: error.kind(),
                    message: error.message().to_owned(),
                });
                let is_refused = matches!(
                    BackendFault::of(&error),
                    Some(BackendFault::Permission | BackendFault::NotFound)
                );
                if is_refused && entry.values.get().is_some() {
                    // What may not be read any more is forgotten at once.
                    tracing::warn!(
                        secret = entry.secret.name,
                        error = error.chain(),
                        "key no longer to be read"
                    );
                    self.replace(entry, Arc::new(entry.successor(None))).await?;
                }
                Err(error)
            }
        }
    }

    /// Puts another entry in the place of `old`, for everybody.
    async fn replace(&self, old: &Arc<SecretEntry>, new: Arc<SecretEntry>) -> Result<Renewal> {
        let _turn = self.inner.refreshing.lock().await;
        if let Some(next) = self.snapshot().replacing(old, new.clone()) {
            self.inner.snapshot.store(Arc::new(next));
        }
        Ok(Renewal::Replaced(new))
    }

    /// Resolves the keys of new and changed Llms in the background, so that no request waits for it.
    pub(super) fn resolve_keys_ahead(&self) -> JoinHandle<()> {
        let registry = self.clone();
        tokio::spawn(async move {
            if registry.is_sealed() {
                return;
            }
            let snapshot = registry.snapshot();
            let new = snapshot.secrets.values().filter(|entry| !entry.tried.swap(true, Ordering::Relaxed));
            registry.renew_all(new.filter(|entry| entry.values.get().is_none()).cloned().collect()).await;
        })
    }

    async fn renew_all(&self, entries: Vec<Arc<SecretEntry>>) {
        let (places, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for entry in entries {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let registry = self.clone();
            // Only the first failure in a row is said.
            let was_fine = entry.flight.try_lock().is_ok_and(|flight| flight.is_none());
            tasks.spawn(async move {
                if let Err(error) = registry.renew(&entry, true).await
                    && was_fine
                {
                    tracing::warn!(secret = entry.secret.name, error = error.chain(), "key not resolved");
                }
                drop(place);
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Renews values that have a lifetime before it ends, until the registry is dropped.
pub(super) async fn renew_in_time(registry: Weak<Inner>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(inner) = registry.upgrade() else { return };
        let registry = Registry { inner };
        let (snapshot, now) = (registry.snapshot(), now());
        let due = snapshot.secrets.values().filter(|entry| entry.is_due(now));
        let due: Vec<Arc<SecretEntry>> = due.cloned().collect();
        if !due.is_empty() && !registry.is_sealed() {
            // Those that are slow must not keep others waiting until the next look.
            due.iter().for_each(|entry| entry.postpone());
            tokio::spawn(async move { registry.renew_all(due).await });
        }
    }
}

fn unresolved(cause: Error) -> Error {
    Error::new(ErrorKind::SecretUnavailable, format!("Failed to resolve API key: {cause}")).caused_by(cause)
}
