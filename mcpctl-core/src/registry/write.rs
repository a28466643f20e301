//! Changing resources: decide on what is stored now, commit under the conditions of the decision.

use std::{ops::Deref, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};
use tracing::Instrument as _;

use super::{Registry, access::permission_on, draft::change_event, query::missing, references};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Action, Permission},
    resource::{Id, Kind, Object, Spec, view},
    secret::SecretValue,
    store::{Condition, Outcome, Txn, Write},
};

/// How often a decision is made anew because what it was based on has changed meanwhile.
const ATTEMPTS: usize = 8;

/// How long a change waits for the keys that it needs to be in memory.
const KEY_PATIENCE: Duration = Duration::from_secs(1);

/// A resource that was just made.
#[derive(Debug)]
pub struct Created {
    /// The resource.
    pub object: Object,
    /// The value of a new McpToken: nothing else ever shows it.
    pub token: Option<SecretValue>,
}

impl Created {
    /// The resource as its maker sees it, this once with a new token's value as `token`.
    pub fn view(&self) -> Spec {
        let mut shown = view(&self.object);
        shown.extend(self.token.as_ref().map(|token| ("token".to_owned(), token.expose().into())));
        shown
    }
}

impl Deref for Created {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

/// How a body changes a resource.
#[derive(Clone, Copy)]
enum Mode {
    Put,
    Patch,
}

impl Registry {
    /// Creates a resource from a request's body.
    ///
    /// # Errors
    ///
    /// Forbidden; invalid, with every fault; conflict, when the name is taken.
    pub async fn create(&self, who: &Principal, kind: Kind, body: Spec) -> Result<Created> {
        let (registry, who) = (self.clone(), who.clone());
        to_its_end(async move { registry.create_now(&who, kind, body).await }).await
    }

    async fn create_now(&self, who: &Principal, kind: Kind, body: Spec) -> Result<Created> {
        self.require(who, &Permission::Kind(Action::Create, kind)).await?;
        for _ in 0..ATTEMPTS {
            let (name, reading) = kind.read_new(body.clone())?;
            if self.inner.store.find(kind, &name).await?.is_some() {
                return Err(taken(kind, &name));
            }
            let mut draft = self.draft(who, kind, None, &name, reading).await?;
            let (token, undo) = (draft.shown_once.take(), draft.undo.take());
            let (txn, object) = draft.into_txn(who);
            let Some(refused) = self.commit(txn).await? else { return Ok(Created { object, token }) };
            if let Some(undo) = undo {
                undo.run().await;
            }
            if let Condition::NameAbsent { .. } = refused {
                return Err(taken(kind, &name));
            }
        }
        Err(restless(kind))
    }

    /// Replaces the fields that `body` carries; the others stay. A change that changes nothing makes no version.
    ///
    /// # Errors
    ///
    /// Forbidden; not found; invalid, with every fault; conflict, when the stored version is not `if_match` or
    /// the one in the body.
    pub async fn put(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        body: Spec,
        if_match: Option<i64>,
    ) -> Result<Object> {
        self.update(who, kind, id_or_name, (body, if_match), Mode::Put).await
    }

    /// Applies a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub async fn patch(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        body: Spec,
        if_match: Option<i64>,
    ) -> Result<Object> {
        self.update(who, kind, id_or_name, (body, if_match), Mode::Patch).await
    }

    async fn update(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        change: (Spec, Option<i64>),
        mode: Mode,
    ) -> Result<Object> {
        let (registry, who, name) = (self.clone(), who.clone(), id_or_name.to_owned());
        to_its_end(async move { registry.update_now(&who, kind, &name, change, mode).await }).await
    }

    async fn update_now(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        (body, if_match): (Spec, Option<i64>),
        mode: Mode,
    ) -> Result<Object> {
        self.require_on(who, Action::Edit, kind, id_or_name).await?;
        for _ in 0..ATTEMPTS {
            let stored = self.fetch(who, Action::Edit, kind, id_or_name).await?;
            let reading = match mode {
                Mode::Put => kind.read_put(&stored, body.clone())?,
                Mode::Patch => kind.read_patch(&stored, body.clone())?,
            };
            let expected = [if_match, reading.version];
            check_version(&stored, expected)?;
            let mut draft = self.draft(who, kind, Some(&stored), &stored.name, reading).await?;
            if draft.is_empty() {
                return Ok(stored);
            }
            let undo = draft.undo.take();
            let (mut txn, changed) = draft.into_txn(who);
            self.guard_lockout(&mut txn).await?;
            if self.commit(txn).await?.is_none() {
                return Ok(changed);
            }
            if let Some(undo) = undo {
                undo.run().await;
            }
            // Somebody was faster. Without an expected version, this change goes on top of theirs.
        }
        Err(restless(kind))
    }

    /// Deletes a resource, and undoes the references to it.
    ///
    /// # Errors
    ///
    /// Forbidden; not found; conflict, when it must stay or its version is not `if_match`.
    pub async fn delete(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        if_match: Option<i64>,
    ) -> Result<()> {
        let (registry, who, name) = (self.clone(), who.clone(), id_or_name.to_owned());
        to_its_end(async move { registry.delete_now(&who, kind, &name, if_match).await }).await
    }

    async fn delete_now(
        &self,
        who: &Principal,
        kind: Kind,
        id_or_name: &str,
        if_match: Option<i64>,
    ) -> Result<()> {
        self.require_on(who, Action::Delete, kind, id_or_name).await?;
        for _ in 0..ATTEMPTS {
            let gone = self.fetch(who, Action::Delete, kind, id_or_name).await?;
            check_version(&gone, [if_match, None])?;
            let mut txn = Txn::default();
            txn.conditions.push(Condition::Version { kind, id: gone.id.clone(), version: gone.version });
            // What refers to it is looked for in memory: as of now, and under the condition that it stays so.
            self.refresh().await?;
            let (snapshot, what) = (self.snapshot(), gone.clone());
            let search = spawn_blocking(move || references::unlink(&snapshot, &what));
            let (effects, conditions) = search.await.map_err(Error::internal)??;
            txn.conditions.extend(conditions);
            txn.writes = self.before_delete(who, &gone).await?;
            for object in effects.changed {
                txn.events.push(change_event(who.actor(), "edit", &object, Vec::new()));
                txn.writes.push(Write::Put(object));
            }
            for object in effects.deleted {
                txn.events.push(change_event(who.actor(), "delete", &object, Vec::new()));
                txn.writes.push(Write::Delete { kind: object.kind, id: object.id.clone() });
            }
            txn.writes.push(Write::Delete { kind, id: gone.id.clone() });
            txn.events.push(change_event(who.actor(), "delete", &gone, Vec::new()));
            self.guard_lockout(&mut txn).await?;
            if self.commit(txn).await?.is_none() {
                return self.after_delete(&gone).await;
            }
        }
        Err(restless(kind))
    }

    /// The resource as it is stored now, once more checked: the snapshot may have shown another of that name.
    pub(super) async fn fetch(
        &self,
        who: &Principal,
        action: Action,
        kind: Kind,
        id_or_name: &str,
    ) -> Result<Object> {
        let by_id = match Id::parse(id_or_name) {
            Some(id) => self.inner.store.get(kind, &id).await?,
            None => None,
        };
        let found = match by_id {
            Some(object) => Some(object),
            None => self.inner.store.find(kind, id_or_name).await?,
        };
        let object = found.ok_or_else(|| missing(kind, id_or_name))?;
        self.require(who, &permission_on(action, &object)).await?;
        Ok(object)
    }

    /// Commits, and shows the change in the snapshot. `Some` is the condition that did not hold.
    pub(super) async fn commit(&self, txn: Txn) -> Result<Option<Condition>> {
        let registry = self.clone();
        to_its_end(async move { registry.commit_now(txn).await }).await
    }

    async fn commit_now(&self, txn: Txn) -> Result<Option<Condition>> {
        match self.inner.store.commit(txn).await? {
            Outcome::Refused(condition) => {
                // What was decided on is out of date: the next attempt sees how it is now.
                self.refresh().await?;
                Ok(Some(condition))
            }
            Outcome::Committed(_) => {
                // What is committed is committed: that we cannot show it yet must not make it look failed.
                if let Err(error) = self.refresh().await {
                    tracing::warn!(error = error.chain(), "a change is not yet shown");
                }
                // An Llm that was acknowledged can be called, even if the store goes away in the next moment.
                let _ = timeout(KEY_PATIENCE, self.resolve_keys_ahead()).await;
                Ok(None)
            }
        }
    }
}

/// Does work to its end, even if whoever asked for it goes away meanwhile: else what was committed might not be shown,
/// and a token that was revoked would go on working; or a value might be left where nothing refers to it.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
}

fn check_version(stored: &Object, expected: [Option<i64>; 2]) -> Result<()> {
    match expected.into_iter().flatten().find(|version| *version != stored.version) {
        None => Ok(()),
        Some(expected) => Err(Error::conflict(format!(
            "{} `{}` is at version {}, not {expected}: read it again, then repeat the change",
            stored.kind.singular, stored.name, stored.version
        ))),
    }
}

fn taken(kind: Kind, name: &str) -> Error {
    Error::conflict(format!("{} `{name}` already exists", kind.singular))
}

fn restless(kind: Kind) -> Error {
    Error::conflict(format!("the {} involved kept changing meanwhile: try again", kind.plural))
}
