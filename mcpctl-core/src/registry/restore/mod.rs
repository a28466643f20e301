//! A backup, written back: all of it in one transaction, or nothing.
//!
//! As for a transaction of [`apply`](super::apply), each resource is made or changed on a [`Rehearsal`], under the rules
//! that hold for any change; what that comes to is committed as one. What no request may set is set here: ids, versions
//! and times, the hashes of passwords and tokens.

mod entry;
mod step;

use std::{collections::HashSet, sync::Arc};

use super::{Registry, Snapshot, rehearsal::Rehearsal, secrets::Undo};
use crate::{
    auth::Principal,
    error::{Error, ErrorKind, Result},
    rbac::{Grants, Operation, Permission},
    resource::{Id, Kind, Spec, kinds},
    store::{Changes, ObjectChange},
};
use entry::Entry;

/// How often it is prepared anew because what it was based on has changed meanwhile.
const ATTEMPTS: usize = 4;

/// What to do where something of the same name is there already and differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse, and change nothing.
    #[default]
    Fail,
    /// Leave what is there.
    Skip,
    /// Put the backup's in its place. It keeps its id.
    Replace,
}

impl OnConflict {
    /// The names, as written.
    pub const NAMES: [&'static str; 3] = ["fail", "skip", "replace"];

    /// Finds one by name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "fail" => Some(Self::Fail),
            "skip" => Some(Self::Skip),
            "replace" => Some(Self::Replace),
            _ => None,
        }
    }
}

/// How to restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreMode {
    /// What to do where something differs.
    pub on_conflict: OnConflict,
    /// Only find out what would happen.
    pub dry_run: bool,
}

/// What became of a resource.
#[derive(Debug)]
pub struct Restored {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What was done, or why nothing was.
    pub outcome: Result<RestoredAs>,
    /// What to know about it besides.
    pub note: Option<&'static str>,
}

/// What was done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredAs {
    /// It was made, with the backup's id, version and times.
    Created,
    /// It was changed to be as in the backup.
    Updated,
    /// It was so already.
    Unchanged,
    /// What is here was left as it is.
    Skipped,
    /// Nothing was done, as another was refused.
    Held,
}

/// What all resources of a restore have in common.
struct Run {
    on_conflict: OnConflict,
    dry_run: bool,
    /// The McpTokens that were deleted here; `None` when that is not known.
    revoked: Option<HashSet<Id>>,
    /// What to take back in backends that are not part of the transaction.
    undos: Vec<Undo>,
}

impl Registry {
    /// Writes a backup's resources back, all of them or none. On a server that has nothing but what its first start
    /// made, the backup's take the place of those. An McpToken that was deleted here stays so.
    ///
    /// What a backup holds gives rights, passwords and tokens, so the caller must hold everything there is; and holds
    /// it afterwards, or nothing is done. The caller's own password stays.
    ///
    /// What becomes of each resource is told in the order given; that one is refused is no error of the whole.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation and every other permission; invalid, when they are no backup's; conflict,
    /// when the caller would lose rights, or what it is based on keeps changing; unavailable, when the store is away.
    pub async fn restore(
        &self,
        who: &Principal,
        resources: Vec<Spec>,
        mode: RestoreMode,
    ) -> Result<Vec<Restored>> {
        self.require(who, &Permission::Operation(Operation::Restore)).await?;
        self.require_covers(who, &Grants::everything("restore")).await?;
        let entries = entry::read(resources)?;
        let order = entry::in_order(&entries);
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let snapshot = self.snapshot();
            let is_fresh = is_fresh(&snapshot);
            let mut run = Run {
                on_conflict: if is_fresh { OnConflict::Replace } else { mode.on_conflict },
                dry_run: mode.dry_run,
                revoked: self.revoked().await?,
                undos: Vec::new(),
            };
            let rehearsal = Arc::new(Rehearsal::new(self.inner.store.clone(), snapshot.revision()));
            let trial = Self { inner: Arc::new(self.inner.over(rehearsal.clone())) };
            let tried = trial.try_restore(who, &entries, &order, &mut run).await;
            let refused = tried.as_ref().map_or(true, |tried| tried.iter().any(|one| one.outcome.is_err()));
            if refused || mode.dry_run {
                take_back(run).await;
                return tried.map(|tried| if refused { none_done(tried) } else { tried });
            }
            let txn = rehearsal.take();
            if txn.writes.is_empty() {
                return tried;
            }
            match self.commit(txn).await {
                Ok(None) => return tried,
                Ok(Some(_)) => take_back(run).await,
                // It may have happened: what it points to must stay.
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("the resources involved kept changing meanwhile: try again"))
    }

    /// Restores one after the other, on a rehearsal.
    async fn try_restore(
        &self,
        who: &Principal,
        entries: &[Entry],
        order: &[usize],
        run: &mut Run,
    ) -> Result<Vec<Restored>> {
        let mut restored = Vec::with_capacity(entries.len());
        for (place, entry) in order.iter().filter_map(|place| Some((*place, entries.get(*place)?))) {
            let (outcome, note) = match self.restore_one(who, entry, run).await {
                Ok((done, note)) => (Ok(done), note),
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => (Err(error), None),
            };
            let (kind, name) = (entry.kind, entry.name.clone());
            restored.push((place, Restored { kind, name, outcome, note }));
        }
        restored.sort_by_key(|(place, _)| *place);
        if let Some(user) = who.user_id() {
            let left = self.snapshot().policy().grants(user);
            if let Some(missing) = left.first_not_covered(&Grants::everything("restore")) {
                return Err(Error::conflict(format!(
                    "afterwards you would lack `{missing}`, and might be locked out: nothing was changed; give `{}` \
                     everything by a definition that the backup does not have, or skip what differs",
                    who.name()
                )));
            }
        }
        Ok(restored.into_iter().map(|(_, one)| one).collect())
    }

    /// The McpTokens that were deleted, as far back as the store knows; `None` when it has forgotten some.
    async fn revoked(&self) -> Result<Option<HashSet<Id>>> {
        let Changes::All { objects, .. } = self.inner.store.changes(0).await? else { return Ok(None) };
        let gone = objects.into_iter().filter_map(|change| match change {
            ObjectChange::Deleted { kind, id } if kind == kinds::MCP_TOKENS => Some(id),
            ObjectChange::Deleted { .. } | ObjectChange::Put(_) => None,
        });
        Ok(Some(gone.collect()))
    }
}

/// Whether a store holds nothing but what a first start makes.
fn is_fresh(snapshot: &Snapshot) -> bool {
    Kind::all().all(|kind| {
        let made = [kinds::SECRET_BACKENDS, kinds::USERS, kinds::RBAC].contains(&kind);
        snapshot.shelf(kind).after(None).count() <= usize::from(made)
    })
}

async fn take_back(run: Run) {
    for undo in run.undos.into_iter().rev() {
        undo.run().await;
    }
}

/// The same, where nothing of it was done.
fn none_done(mut restored: Vec<Restored>) -> Vec<Restored> {
    for one in restored.iter_mut().filter(|one| one.outcome.is_ok()) {
        one.outcome = Ok(RestoredAs::Held);
    }
    restored
}
