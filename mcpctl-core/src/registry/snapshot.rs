//! What is stored, in memory, compiled for look-ups.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use foldhash::{HashMap, HashMapExt as _};
use tokio::sync::OnceCell;

use crate::{
    error::Result,
    rbac::Policy,
    resource::{
        Id, InferenceCall, Kind, LlmSpec, Object, RbacSpec, Revision, Session, TokenHash, kinds, now,
    },
    secret::SecretValue,
    store::{Changes, ObjectChange, SessionChange, Storage},
};

/// Everything that is stored, at one revision. Never changed: a newer one takes its place.
#[derive(Clone, Default)]
pub struct Snapshot {
    revision: Revision,
    shelves: HashMap<Kind, Arc<Shelf>>,
    sessions: Arc<HashMap<TokenHash, Session>>,
    policy: Arc<Policy>,
    llms: Arc<HashMap<Id, Arc<LlmEntry>>>,
}

/// The objects of one kind.
#[derive(Clone, Default)]
pub struct Shelf {
    by_id: HashMap<Id, Arc<Object>>,
    by_name: BTreeMap<String, Id>,
}

/// An Llm, ready for use. It stays the same until the Llm or its Secret changes.
pub struct LlmEntry {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its fields.
    pub spec: LlmSpec,
    /// The versions of the Llm and of its Secret that this was made from.
    made_from: (i64, Option<i64>),
    /// The beginning of the audit event of every call: what is the same in all of them, shared.
    pub(crate) call: InferenceCall,
    /// The provider's key, once it has been resolved.
    pub(super) key: OnceCell<Arc<SecretValue>>,
    /// Whether resolving the key ahead of the first request has failed.
    pub(super) is_key_missing: AtomicBool,
}

impl Shelf {
    /// The object of this id, or else of this name.
    pub fn resolve(&self, id_or_name: &str) -> Option<&Arc<Object>> {
        let by_id = Id::parse(id_or_name).and_then(|id| self.by_id.get(&id));
        by_id.or_else(|| self.by_id.get(self.by_name.get(id_or_name)?))
    }

    /// The object of this id.
    pub fn get(&self, id: &Id) -> Option<&Arc<Object>> {
        self.by_id.get(id)
    }

    /// The objects whose names come after `after`, by name.
    pub fn after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.to_owned()));
        self.by_name.range((from, Bound::Unbounded)).filter_map(|(_, id)| self.by_id.get(id))
    }

    fn put(&mut self, object: Object) {
        self.by_name.insert(object.name.clone(), object.id.clone());
        self.by_id.insert(object.id.clone(), Arc::new(object));
    }

    fn remove(&mut self, id: &Id) {
        if let Some(object) = self.by_id.remove(id)
            && self.by_name.get(&object.name) == Some(id)
        {
            self.by_name.remove(&object.name);
        }
    }
}

impl Snapshot {
    /// Reads everything.
    pub(super) async fn load(store: &dyn Storage) -> Result<Self> {
        // What changes while we read is read again by the next refresh, from this revision on.
        let revision = store.revision().await?;
        let mut snapshot = Self { revision, ..Self::default() };
        for kind in Kind::all() {
            let mut shelf = Shelf::default();
            for object in store.list(kind).await? {
                shelf.put(object);
            }
            snapshot.shelves.insert(kind, Arc::new(shelf));
        }
        let sessions = store.sessions(now()).await?;
        snapshot.sessions = Arc::new(sessions.into_iter().map(|session| (session.token, session)).collect());
        snapshot.compile_policy();
        snapshot.compile_llms();
        Ok(snapshot)
    }

    /// This snapshot with `changes`; `None` when it must be read anew.
    pub(super) fn with(&self, changes: Changes) -> Option<Self> {
        let Changes::All { revision, objects, sessions } = changes else { return None };
        let mut next = self.clone();
        next.revision = revision;
        let touched = |kinds: &[Kind]| {
            objects.iter().any(|change| match change {
                ObjectChange::Put(object) => kinds.contains(&object.kind),
                ObjectChange::Deleted { kind, .. } => kinds.contains(kind),
            })
        };
        let (policy, llms) = (touched(&[kinds::RBAC]), touched(&[kinds::LLMS, kinds::SECRETS]));
        // Deletions first: a name may have passed from a deleted object to a new one.
        for change in &objects {
            if let ObjectChange::Deleted { kind, id } = change {
                Arc::make_mut(next.shelves.entry(*kind).or_default()).remove(id);
            }
        }
        for change in objects {
            if let ObjectChange::Put(object) = change {
                Arc::make_mut(next.shelves.entry(object.kind).or_default()).put(object);
            }
        }
        if !sessions.is_empty() {
            let known = Arc::make_mut(&mut next.sessions);
            let now = now();
            known.retain(|_, session| session.expires_at > now);
            for change in sessions {
                match change {
                    SessionChange::Put(session) => {
                        known.insert(session.token, session);
                    }
                    SessionChange::Revoked(token) => {
                        known.remove(&token);
                    }
                }
            }
        }
        if policy {
            next.compile_policy();
        }
        if llms {
            next.compile_llms();
        }
        Some(next)
    }

    fn compile_policy(&mut self) {
        let definitions: Vec<(String, RbacSpec)> = self
            .shelf(kinds::RBAC)
            .after(None)
            .filter_map(|object| match object.typed::<RbacSpec>() {
                Ok(spec) => Some((object.name.clone(), spec)),
                Err(error) => {
                    // What cannot be read grants nothing.
                    tracing::error!(rbac = object.name, error = error.chain(), "definition ignored");
                    None
                }
            })
            .collect();
        self.policy = Arc::new(Policy::compile(definitions.iter().map(|(name, spec)| (name.as_str(), spec))));
    }

    fn compile_llms(&mut self) {
        let mut llms = HashMap::new();
        for object in self.shelf(kinds::LLMS).after(None) {
            let spec: LlmSpec = match object.typed() {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(llm = object.name, error = error.chain(), "llm ignored");
                    continue;
                }
            };
            let secret = spec.api_key_ref.as_ref().and_then(|at| self.shelf(kinds::SECRETS).get(&at.id));
            let made_from = (object.version, secret.map(|secret| secret.version));
            let entry = match self.llms.get(&object.id) {
                Some(entry) if entry.made_from == made_from => entry.clone(),
                _ => {
                    let (id, name) = (object.id.clone(), object.name.clone());
                    let call = InferenceCall {
                        llm_name: name.as_str().into(),
                        llm_id: id.shared(),
                        model: spec.model.as_str().into(),
                        ty: spec.ty.as_str().into(),
                        ..InferenceCall::default()
                    };
                    Arc::new(LlmEntry {
                        id,
                        name,
                        spec,
                        made_from,
                        call,
                        key: OnceCell::new(),
                        is_key_missing: AtomicBool::new(false),
                    })
                }
            };
            llms.insert(object.id.clone(), entry);
        }
        self.llms = Arc::new(llms);
    }

    /// The store's revision that this shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The objects of a kind.
    pub fn shelf(&self, kind: Kind) -> &Shelf {
        static EMPTY: std::sync::LazyLock<Shelf> = std::sync::LazyLock::new(Shelf::default);
        self.shelves.get(&kind).map_or(&EMPTY, |shelf| shelf)
    }

    /// The Llm of this id, or else of this name.
    pub fn llm(&self, id_or_name: &str) -> Option<&Arc<LlmEntry>> {
        self.llms.get(&self.shelf(kinds::LLMS).resolve(id_or_name)?.id)
    }

    /// All Llms, by name.
    pub fn llms(&self) -> impl Iterator<Item = &Arc<LlmEntry>> {
        self.shelf(kinds::LLMS).after(None).filter_map(|object| self.llms.get(&object.id))
    }

    /// The session of a token. It may have expired.
    pub fn session(&self, token: TokenHash) -> Option<&Session> {
        self.sessions.get(&token)
    }

    /// Who may do what.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
