//! McpTokens: compiled for look-ups, made, and remembered to have been used.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Registry, Snapshot, draft::Draft, hooks::typed_reference, open::Inner};
use crate::{
    auth::{Principal, new_token},
    error::{Error, ErrorKind, Result},
    rbac::{Definition, Grants, Operation, Permission},
    resource::{Id, McpTokenSpec, Object, RbacSpec, RoleBinding, TokenHash, kinds},
};

/// The prefix of these tokens: it tells scanners what leaked.
const PREFIX: &str = "mcpctl_pat_";

/// How exactly it is remembered when a token was used.
const USE_STEP: Duration = Duration::from_secs(30);

/// How long a session that has ended is kept: by then, every server has heard of its end.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How often uses are written to the store.
const USE_FLUSH: Duration = Duration::from_secs(60);

/// An McpToken, ready for look-ups.
pub(super) struct TokenEntry {
    pub(super) id: Id,
    pub(super) name: Arc<str>,
    pub(super) hash: TokenHash,
    pub(super) owner: Id,
    pub(super) expires_at: Option<Timestamp>,
    /// What its own bindings give.
    pub(super) own: Arc<Grants>,
    version: i64,
    /// When it was last used here, in seconds since 1970; 0 for never.
    used_at: AtomicI64,
    /// What of it the store knows.
    flushed_at: AtomicI64,
}

impl TokenEntry {
    /// Compiles a stored token; what is known of an earlier version of it lives on.
    pub(super) fn new(object: &Object, earlier: Option<&Arc<Self>>) -> Result<Arc<Self>> {
        if let Some(same) = earlier.filter(|earlier| earlier.version == object.version) {
            return Ok(same.clone());
        }
        let spec: McpTokenSpec = object.typed()?;
        let hash = spec.hash().ok_or_else(|| Error::internal("a stored token has no hash"))?;
        let own = Definition::of_bindings(&format!("mcptoken/{}", object.name), &spec.role_bindings);
        let seconds = |at: fn(&Self) -> &AtomicI64| {
            AtomicI64::new(earlier.map_or(0, |earlier| at(earlier).load(Ordering::Relaxed)))
        };
        Ok(Arc::new(Self {
            id: object.id.clone(),
            name: object.name.as_str().into(),
            hash,
            expires_at: spec.expires_at(object.created_at),
            owner: spec.owner.id,
            own: Arc::new(Arc::new(own).into()),
            version: object.version,
            used_at: seconds(|entry| &entry.used_at),
            flushed_at: seconds(|entry| &entry.flushed_at),
        }))
    }

    /// Whether it has not ended.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }

    /// Remembers a use. Writes to shared memory twice a minute at most.
    pub(super) fn used(&self, now: Timestamp) {
        let step = i64::try_from(USE_STEP.as_secs()).unwrap_or(i64::MAX);
        if now.as_second().saturating_sub(self.used_at.load(Ordering::Relaxed)) >= step {
            self.used_at.store(now.as_second(), Ordering::Relaxed);
        }
    }

    fn used_at(&self) -> Option<Timestamp> {
        let seconds = self.used_at.load(Ordering::Relaxed);
        (seconds > 0).then(|| Timestamp::from_second(seconds).ok()).flatten()
    }
}

impl Registry {
    /// Whose a new token is: who creates it, unless the body says otherwise.
    pub(super) fn settle_owner(&self, who: &Principal, draft: &mut Draft<'_>) {
        if draft.next.spec.get("owner").is_none_or(Value::is_null) && who.user_id().is_some() {
            draft.next.spec.insert("owner".into(), who.name().into());
        }
    }

    /// A new token gets its value and its roles; a change may not give more than its maker has.
    pub(super) async fn keep_token(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        let owner = typed_reference(&draft.next.spec, "owner")
            .ok_or_else(|| Error::invalid("owner: is required where no user makes the token"))?;
        let beginning = draft.supplied.take("rbac");
        if draft.stored.is_none() {
            if who.user_id() != Some(&owner) {
                self.require(who, &Permission::Operation(Operation::Impersonate)).await?;
            }
            if beginning.as_ref().and_then(Value::as_str) == Some("clone") {
                self.clone_bindings(&owner, draft)?;
            }
            let token = new_token(PREFIX);
            let hash = TokenHash::of(token.expose()).to_hex();
            draft.next.spec.insert(McpTokenSpec::TOKEN_SHA.into(), hash.into());
            draft.shown_once = Some(token);
        }
        let spec: McpTokenSpec = draft.next.typed()?;
        let given = given(&spec.role_bindings);
        let before = match draft.stored {
            Some(stored) => self::given(&stored.typed::<McpTokenSpec>()?.role_bindings),
            None => Grants::default(),
        };
        self.require_covers(who, &given.beyond(&before)).await?;
        let end = spec.expires_at(draft.next.created_at);
        if let Some(maker) = &who.api_token
            && let Some(most) = maker.expires_at
            && end.is_none_or(|end| end > most)
        {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("ttl: this token ends at {most}, and cannot make another last longer"),
            ));
        }
        let end = end.map(|end| end.to_string()).unwrap_or_default();
        draft.next.spec.insert(McpTokenSpec::EXPIRES_AT.into(), end.into());
        Ok(())
    }

    /// Adds all that `owner` has to the draft's bindings.
    fn clone_bindings(&self, owner: &Id, draft: &mut Draft<'_>) -> Result<()> {
        let snapshot = self.snapshot();
        let subjects: Vec<&Id> = snapshot
            .memberships()
            .filter(|group| group.members.contains(owner))
            .map(|group| &group.group)
            .chain([owner])
            .collect();
        let mut bindings = match draft.next.spec.get("roleBindings") {
            Some(Value::Array(bindings)) => bindings.clone(),
            _ => Vec::new(),
        };
        for object in snapshot.shelf(kinds::RBAC).after(None) {
            let spec: RbacSpec = object.typed()?;
            if !spec.subjects.iter().any(|subject| subjects.contains(&&subject.id)) {
                continue;
            }
            let Some(Value::Array(theirs)) = object.spec.get("roleBindings") else { continue };
            bindings.extend(
                theirs.iter().filter(|binding| !bindings.contains(binding)).cloned().collect::<Vec<_>>(),
            );
        }
        draft.next.spec.insert("roleBindings".into(), bindings.into());
        Ok(())
    }

    /// The token as it is shown, with when it was last used: by any server, as far as the store can tell now.
    pub(super) async fn with_last_use(&self, token: &Arc<Object>) -> Arc<Object> {
        let stored = self.inner.store.last_use(&token.id).await.unwrap_or_default();
        shown(token, stored, &self.snapshot())
    }

    /// As [`with_last_use`](Self::with_last_use), for many.
    pub(super) async fn with_last_uses(&self, tokens: &mut [Arc<Object>]) {
        let stored = self.inner.store.last_uses().await.unwrap_or_default();
        let stored: foldhash::HashMap<Id, Timestamp> = stored.into_iter().collect();
        let snapshot = self.snapshot();
        for token in tokens {
            *token = shown(token, stored.get(&token.id).copied(), &snapshot);
        }
    }

    /// Writes to the store which tokens were used since the last time.
    pub(super) async fn flush_uses(&self) -> Result<()> {
        let snapshot = self.snapshot();
        let news: Vec<(&Arc<TokenEntry>, i64)> = snapshot
            .tokens()
            .map(|token| (token, token.used_at.load(Ordering::Relaxed)))
            .filter(|(token, used_at)| *used_at > token.flushed_at.load(Ordering::Relaxed))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let uses: Vec<(Id, Timestamp)> = news
            .iter()
            .filter_map(|(token, used_at)| Some((token.id.clone(), Timestamp::from_second(*used_at).ok()?)))
            .collect();
        self.inner.store.used(uses.into()).await?;
        for (token, used_at) in news {
            token.flushed_at.fetch_max(used_at, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Writes uses down until the registry is dropped, and has sessions forgotten that ended a day ago. A store that is away
/// gets to it later.
pub(super) async fn keep_uses(registry: Weak<Inner>) {
    loop {
        tokio::time::sleep(USE_FLUSH).await;
        let Some(inner) = registry.upgrade() else { return };
        let registry = Registry { inner };
        if let Err(error) = registry.flush_uses().await {
            tracing::debug!(error = error.chain(), "uses of tokens are not yet written down");
        }
        let end = Timestamp::now() - DAY;
        if let Err(error) = registry.inner.store.forget_sessions(end).await {
            tracing::debug!(error = error.chain(), "sessions that have ended are not yet forgotten");
        }
    }
}

fn given(bindings: &[RoleBinding]) -> Grants {
    Arc::new(Definition::of_bindings("", bindings)).into()
}

fn shown(token: &Arc<Object>, stored: Option<Timestamp>, snapshot: &Snapshot) -> Arc<Object> {
    let here = token
        .typed::<McpTokenSpec>()
        .ok()
        .and_then(|spec| snapshot.token(spec.hash()?))
        .and_then(|entry| entry.used_at());
    let mut shown = Object::clone(token);
    let at = here.max(stored).map(|at| at.to_string()).unwrap_or_default();
    shown.spec.insert(McpTokenSpec::LAST_USED_AT.into(), at.into());
    Arc::new(shown)
}
