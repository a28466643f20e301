//! What is stored, in memory, compiled for look-ups.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::{HashMap, HashMapExt as _};
use jiff::Timestamp;

use crate::{
    error::Result,
    rbac::{Definition, Membership, Policy, Rights},
    resource::{
        ApiKeyRef, GroupSpec, Id, InferenceCall, Kind, LlmSpec, McpTokenSpec, Object, RbacSpec, Revision,
        Session, TokenHash, kinds, now,
    },
    store::{Changes, ObjectChange, SessionChange, Storage},
};

use super::{hooks::typed_reference, keys::SecretEntry, leases::Leases, tokens::TokenEntry};

/// Everything that is stored, at one revision. Never changed: a newer one takes its place.
#[derive(Clone, Default)]
pub struct Snapshot {
    revision: Revision,
    shelves: HashMap<Kind, Arc<Shelf>>,
    sessions: Arc<HashMap<TokenHash, Session>>,
    tokens: Arc<HashMap<TokenHash, Arc<TokenEntry>>>,
    /// Definitions by id, with the version each was compiled from.
    definitions: Arc<HashMap<Id, (i64, Arc<Definition>)>>,
    memberships: Arc<Vec<Membership>>,
    policy: Arc<Policy>,
    llms: Arc<HashMap<Id, Arc<LlmEntry>>>,
    /// The Secrets that Llms refer to.
    pub(super) secrets: Arc<HashMap<Id, Arc<SecretEntry>>>,
}

/// What a token stands for.
pub(super) struct Bearer<'a> {
    /// The user.
    pub(super) user: &'a Arc<Object>,
    /// What it may do.
    pub(super) rights: Rights,
    /// The McpToken, when it is one.
    pub(super) token: Option<&'a Arc<TokenEntry>>,
}

/// The objects of one kind.
#[derive(Clone, Default)]
pub struct Shelf {
    by_id: HashMap<Id, Arc<Object>>,
    by_name: BTreeMap<String, Id>,
}

/// An Llm, ready for use. It stays the same until the Llm or a value of its Secret changes: it has one key for all
/// its life.
pub struct LlmEntry {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its fields.
    pub spec: LlmSpec,
    /// The version of the Llm that this was made from.
    made_from: i64,
    /// The beginning of the audit event of every call: what is the same in all of them, shared.
    pub(crate) call: InferenceCall,
    /// What holds the provider's key.
    pub(super) secret: Option<Arc<SecretEntry>>,
    /// What it hands out leases with, if it does.
    pub(super) leases: Option<Leases>,
}

impl LlmEntry {
    /// Whether its key, if it has one, may still be used.
    pub fn is_current(&self) -> bool {
        self.secret.as_ref().is_none_or(|entry| entry.is_current())
    }
}

impl Shelf {
    /// The object of this id, or else of this name.
    pub fn resolve(&self, id_or_name: &str) -> Option<&Arc<Object>> {
        let by_id = Id::parse(id_or_name).and_then(|id| self.by_id.get(&id));
        by_id.or_else(|| self.named(id_or_name))
    }

    /// The object of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Object>> {
        self.by_id.get(self.by_name.get(name)?)
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
        snapshot.compile_tokens(None);
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
        let policy = touched(&[kinds::RBAC, kinds::GROUPS]);
        let llms = touched(&[kinds::LLMS, kinds::SECRETS, kinds::SECRET_BACKENDS]);
        let tokens: Vec<Id> =
            objects.iter().filter_map(|change| change.id_of(kinds::MCP_TOKENS)).cloned().collect();
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
        if !tokens.is_empty() {
            next.compile_tokens(Some((self, &tokens)));
        }
        Some(next)
    }

    fn compile_policy(&mut self) {
        let mut definitions = HashMap::new();
        for object in self.shelf(kinds::RBAC).after(None) {
            let compiled = match self.definitions.get(&object.id) {
                Some((version, same)) if *version == object.version => same.clone(),
                _ => match object.typed::<RbacSpec>() {
                    Ok(spec) => Arc::new(Definition::new(&object.name, &spec)),
                    Err(error) => {
                        // What cannot be read grants nothing.
                        tracing::error!(rbac = object.name, error = error.chain(), "definition ignored");
                        continue;
                    }
                },
            };
            definitions.insert(object.id.clone(), (object.version, compiled));
        }
        let memberships: Vec<Membership> = self
            .shelf(kinds::GROUPS)
            .after(None)
            .filter_map(|object| match object.typed::<GroupSpec>() {
                Ok(spec) => Some(Membership {
                    group: object.id.clone(),
                    name: object.name.as_str().into(),
                    members: spec.members.into_iter().map(|member| member.id).collect(),
                }),
                Err(error) => {
                    tracing::error!(group = object.name, error = error.chain(), "group ignored");
                    None
                }
            })
            .collect();
        // In the order of their names, so that of several that allow something always the same one is named.
        let by_name = self.shelf(kinds::RBAC).after(None).filter_map(|object| definitions.get(&object.id));
        self.policy = Arc::new(Policy::new(by_name.map(|(_, compiled)| compiled), &memberships));
        self.definitions = Arc::new(definitions);
        self.memberships = Arc::new(memberships);
    }

    /// Compiles all tokens, or, of an earlier snapshot, those that changed since.
    fn compile_tokens(&mut self, changed: Option<(&Self, &[Id])>) {
        let shelf = self.shelf(kinds::MCP_TOKENS);
        let compile =
            |object: &Object, earlier: Option<&Arc<TokenEntry>>| match TokenEntry::new(object, earlier) {
                Ok(entry) => Some((entry.hash, entry)),
                Err(error) => {
                    tracing::error!(token = object.name, error = error.chain(), "token ignored");
                    None
                }
            };
        let Some((before, changed)) = changed else {
            let all = shelf.after(None).filter_map(|object| compile(object, None));
            self.tokens = Arc::new(all.collect());
            return;
        };
        let mut tokens = HashMap::clone(&self.tokens);
        for id in changed {
            let earlier = before.shelf(kinds::MCP_TOKENS).get(id);
            let earlier = earlier.and_then(|object| object.typed::<McpTokenSpec>().ok()?.hash());
            let earlier = earlier.and_then(|hash| tokens.remove(&hash));
            tokens.extend(shelf.get(id).and_then(|object| compile(object, earlier.as_ref())));
        }
        self.tokens = Arc::new(tokens);
    }

    /// The entry of a Secret, as far as possible the one that there was.
    fn secret_entry(&self, id: &Id) -> Option<Arc<SecretEntry>> {
        let secret = self.shelf(kinds::SECRETS).get(id)?;
        let backend = typed_reference(&secret.spec, "backend");
        let backend = backend.and_then(|id| self.shelf(kinds::SECRET_BACKENDS).get(&id));
        Some(SecretEntry::of(secret, backend.map(|backend| &**backend), self.secrets.get(id)))
    }

    pub(super) fn compile_llms(&mut self) {
        let (mut llms, mut secrets) = (HashMap::new(), HashMap::<Id, Arc<SecretEntry>>::new());
        let mut secret_of = |at: &Option<ApiKeyRef>| {
            let at = at.as_ref()?;
            let known = secrets.get(&at.id).cloned().or_else(|| self.secret_entry(&at.id))?;
            secrets.insert(at.id.clone(), known.clone());
            Some(known)
        };
        let is_same = |before: &Option<Arc<SecretEntry>>, now: &Option<Arc<SecretEntry>>| match (before, now)
        {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        for object in self.shelf(kinds::LLMS).after(None) {
            if let Some(same) = self.llms.get(&object.id)
                && same.made_from == object.version
                && is_same(&same.secret, &secret_of(&same.spec.api_key_ref))
            {
                llms.insert(object.id.clone(), same.clone());
                continue;
            }
            let spec: LlmSpec = match object.typed() {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(llm = object.name, error = error.chain(), "llm ignored");
                    continue;
                }
            };
            let secret = secret_of(&spec.api_key_ref);
            let (id, name) = (object.id.clone(), object.name.clone());
            let call = InferenceCall {
                llm_name: name.as_str().into(),
                llm_id: id.shared(),
                model: spec.model.as_str().into(),
                ty: spec.ty.as_str().into(),
                ..InferenceCall::default()
            };
            let leases = Leases::of(&spec);
            let entry = LlmEntry { id, name, spec, made_from: object.version, call, secret, leases };
            llms.insert(object.id.clone(), Arc::new(entry));
        }
        self.llms = Arc::new(llms);
        self.secrets = Arc::new(secrets);
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

    /// The Llm of this id.
    pub(super) fn llm_of(&self, id: &Id) -> Option<&Arc<LlmEntry>> {
        self.llms.get(id)
    }

    /// All Llms, by name.
    pub fn llms(&self) -> impl Iterator<Item = &Arc<LlmEntry>> {
        self.shelf(kinds::LLMS).after(None).filter_map(|object| self.llms.get(&object.id))
    }

    /// The session of a token. It may have expired.
    pub fn session(&self, token: TokenHash) -> Option<&Session> {
        self.sessions.get(&token)
    }

    /// The McpToken with this value. It may have expired.
    pub(super) fn token(&self, token: TokenHash) -> Option<&Arc<TokenEntry>> {
        self.tokens.get(&token)
    }

    /// All McpTokens.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &Arc<TokenEntry>> {
        self.tokens.values()
    }

    /// The groups and their users.
    pub(super) fn memberships(&self) -> impl Iterator<Item = &Membership> {
        self.memberships.iter()
    }

    /// What a token stands for at `now`; `None` when it is unknown, or has ended.
    pub(super) fn bearer(&self, token: TokenHash, now: Timestamp) -> Option<Bearer<'_>> {
        let users = self.shelf(kinds::USERS);
        if let Some(session) = self.session(token) {
            let user = users.get(&session.user_id).filter(|_| session.expires_at > now)?;
            return Some(Bearer { user, rights: self.policy.grants(&user.id).into(), token: None });
        }
        let entry = self.token(token).filter(|entry| entry.is_valid(now))?;
        let user = users.get(&entry.owner)?;
        let bound = self.policy.grants(&entry.id);
        let own = if bound.is_empty() { entry.own.clone() } else { Arc::new(entry.own.and(&bound)) };
        Some(Bearer { user, rights: Rights::within(own, self.policy.grants(&user.id)), token: Some(entry) })
    }

    /// Who may do what.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
