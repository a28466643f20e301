//! Many resources at once: each made or changed as if it were alone, or all of them in one transaction.

use std::sync::Arc;

use serde_json::Value;

use super::{Registry, access::permission_on, rehearsal::Rehearsal};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::{Action, Permission},
    resource::{Kind, Object, SecretBackendSpec, Spec, apply_sequence, kinds},
    secret::SecretValue,
};

/// How often a transaction is prepared anew because what it was based on has changed meanwhile.
const ATTEMPTS: usize = 4;

/// A resource as somebody wants it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its kind.
    pub kind: Kind,
    /// Its name and its fields, as for [`Registry::create`]; one that exists keeps the fields that are not here.
    pub body: Spec,
}

impl Wanted {
    fn name(&self) -> &str {
        self.body.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

/// How to apply resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyMode {
    /// Only find out what would happen.
    pub dry_run: bool,
    /// All in one transaction, or nothing. Resources may refer to each other.
    pub atomic: bool,
}

/// What became of a resource.
#[derive(Debug)]
pub struct Applied {
    /// Its kind.
    pub kind: Kind,
    /// Its name, as far as it has one.
    pub name: String,
    /// What was done, or why nothing was.
    pub outcome: Result<Done>,
}

impl Applied {
    /// Leaves out the value of a token that was not kept.
    fn forget_token(&mut self) {
        if let Ok(Done::Created(token)) = &mut self.outcome {
            *token = None;
        }
    }
}

/// What was done to a resource.
#[derive(Debug)]
pub enum Done {
    /// It was made; with the value of a new McpToken, which nothing else ever shows.
    Created(Option<SecretValue>),
    /// It was changed.
    Updated,
    /// It was so already.
    Unchanged,
}

impl Registry {
    /// Makes and changes resources: in the order of their kinds, so that what is referred to comes first. Each needs
    /// the permission that it would need alone, and leaves its own event. What becomes of each is told in the order
    /// given; that one is refused is no error of the whole.
    ///
    /// A dry run and a transaction take no Secrets whose backend keeps values elsewhere: writing there cannot be
    /// taken back.
    ///
    /// # Errors
    ///
    /// Unavailable, when the store is away; conflict, when what a transaction is based on keeps changing.
    pub async fn apply(&self, who: &Principal, wanted: Vec<Wanted>, mode: ApplyMode) -> Result<Vec<Applied>> {
        if !mode.atomic && !mode.dry_run {
            return self.apply_each(who, &wanted, false).await;
        }
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let snapshot = self.snapshot();
            let rehearsal = Arc::new(Rehearsal::new(self.inner.store.clone(), snapshot.revision()));
            let inner = Arc::new(self.inner.over(rehearsal.clone()));
            let mut applied = Self { inner }.apply_each(who, &wanted, true).await?;
            if mode.atomic && applied.iter().any(|one| one.outcome.is_err()) {
                for one in applied.iter_mut().filter(|one| one.outcome.is_ok()) {
                    one.outcome = Err(Error::conflict("not applied, as another resource was refused"));
                }
                return Ok(applied);
            }
            if mode.dry_run {
                applied.iter_mut().for_each(Applied::forget_token);
                return Ok(applied);
            }
            let txn = rehearsal.take();
            if txn.writes.is_empty() || self.commit(txn).await?.is_none() {
                return Ok(applied);
            }
        }
        Err(Error::conflict("the resources involved kept changing meanwhile: try again"))
    }

    async fn apply_each(&self, who: &Principal, wanted: &[Wanted], rehearsing: bool) -> Result<Vec<Applied>> {
        let specs: Vec<_> = wanted.iter().map(|one| (one.kind, one.name(), &one.body)).collect();
        let mut applied = Vec::with_capacity(wanted.len());
        for place in apply_sequence(&specs) {
            let Some(one) = wanted.get(place) else { continue };
            let outcome = self.apply_one(who, one, one.name(), rehearsing).await;
            if rehearsing
                && let Err(error) = &outcome
                && error.kind() == ErrorKind::Unavailable
            {
                return outcome.map(|_| Vec::new());
            }
            applied.push((place, Applied { kind: one.kind, name: one.name().to_owned(), outcome }));
        }
        applied.sort_by_key(|(place, _)| *place);
        Ok(applied.into_iter().map(|(_, one)| one).collect())
    }

    async fn apply_one(&self, who: &Principal, one: &Wanted, name: &str, rehearsing: bool) -> Result<Done> {
        let Wanted { kind, body } = one;
        let create = Permission::Kind(Action::Create, *kind);
        if !who.rights().decide(&create).allowed() {
            // Before anything is looked up: a refusal does not tell whether it exists.
            self.require_on(who, Action::Edit, *kind, name).await?;
        }
        let stored = self.inner.store.find(*kind, name).await?;
        if rehearsing && *kind == kinds::SECRETS {
            self.check_values_stay_here(stored.as_ref(), body).await?;
        }
        let stored = match stored {
            Some(stored) => stored,
            None => match self.create(who, *kind, body.clone()).await {
                Ok(made) => return Ok(Done::Created(made.token)),
                // Somebody was quicker.
                Err(error) if error.is_conflict() => {
                    self.inner.store.find(*kind, name).await?.ok_or(error)?
                }
                Err(error) => return Err(error),
            },
        };
        // By name, as the caller gave it; from here on the id is what counts.
        self.require(who, &permission_on(Action::Edit, &stored)).await?;
        let now = self.put(who, *kind, stored.id.as_str(), body.clone(), None).await?;
        Ok(if now.version == stored.version { Done::Unchanged } else { Done::Updated })
    }

    /// Refuses values that would be written to another place while it is only tried out what happens.
    async fn check_values_stay_here(&self, stored: Option<&Object>, body: &Spec) -> Result<()> {
        let backends = self.snapshot();
        let backends = backends.shelf(kinds::SECRET_BACKENDS);
        let named = match stored {
            Some(_) if !body.contains_key("data") => return Ok(()),
            Some(stored) => stored.spec.get("backend").and_then(|at| at.get("name")),
            None => body.get("backend"),
        };
        let backend = match named.and_then(Value::as_str) {
            Some(name) => backends.named(name).map(|backend| backend.as_ref().clone()),
            None => Some(self.default_backend().await?),
        };
        // One that is not there is refused where references are.
        let Some(backend) = backend else { return Ok(()) };
        match backend.typed::<SecretBackendSpec>()?.ty.as_str() {
            "plaintext" => Ok(()),
            _ => Err(Error::new(
                ErrorKind::NotImplemented,
                format!(
                    "secretbackend `{}` keeps values elsewhere: neither a dry run nor a transaction can write there",
                    backend.name
                ),
            )),
        }
    }
}
