//! Moving Secrets from one backend to another, so that stopping at any instant loses nothing.
//!
//! A Secret's values are written to the target, read back and compared; then its row is switched; then they are
//! deleted at the source. Where a copy may be that the row does not point to is remembered in the row before it is
//! made: so the next run finds it, whatever became of this one.

use std::{collections::HashSet, future::Future, sync::Arc};

use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Registry,
    copies::{copies, has_copy_at, with_copy_at, without_copy_at},
    hooks::typed_reference,
    query::missing,
    secrets::{VALUE_VERSION, about, slot},
};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Action, Operation, Permission},
    resource::{AuditEvent, EventDetail, Faults, Id, Migration, Object, kinds},
    secret::{BackendFault, Found, Over, SecretBackend, SecretData, Slot},
    store::{Condition, Txn, Write},
};

/// So many are moved together: their values are in memory at the same time.
const CHUNK: usize = 32;

/// How often a Secret is tried again that somebody changes meanwhile.
const ATTEMPTS: usize = 4;

/// What to move.
#[derive(Clone, Debug, Default)]
pub struct MigrationOrder {
    /// The backend that holds the Secrets, by name.
    pub from: String,
    /// The backend that shall hold them, by name.
    pub to: String,
    /// Which Secrets; `None` means all of them.
    pub names: Option<Vec<String>>,
    /// Whether the source keeps its values.
    pub keep_source: bool,
    /// Whether to say only what would be done.
    pub dry_run: bool,
}

/// How it went, by the Secrets' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Moved.
    pub migrated: Vec<String>,
    /// There already.
    pub skipped: Vec<String>,
    /// Not moved, or not wholly, and why.
    pub failed: Vec<(String, String)>,
}

/// A migration between two backends.
struct Route {
    from: Arc<Object>,
    to: Arc<Object>,
    source: Arc<dyn SecretBackend>,
    target: Arc<dyn SecretBackend>,
    keep_source: bool,
    /// What the decision that no backend will need itself is based on.
    guards: Vec<Condition>,
    /// The Secrets that the target needs.
    needed: HashSet<Id>,
}

/// A Secret on its way.
struct Move {
    /// Its row as it is stored now.
    secret: Object,
    data: SecretData,
    /// What the source counted when they were read.
    revision: i64,
    /// Where the values are at the target: at the version that the row will have.
    slot: Slot,
    /// Whether an earlier run may have written to the target.
    was_marked: bool,
    external_ref: String,
}

/// How a step went for one Secret.
enum Step {
    Done(Box<Move>),
    Failed(String, Error),
    /// Somebody changed it: it is looked at anew.
    Again(String),
}

impl Registry {
    /// Moves Secrets from one backend to another.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation; invalid, when a backend is not there. What goes wrong with single Secrets is
    /// in the report, a permission to edit one that is missing included.
    pub async fn migrate(&self, who: &Principal, order: &MigrationOrder) -> Result<MigrationReport> {
        self.require(who, &Permission::Operation(Operation::MigrateSecrets)).await?;
        self.refresh().await?;
        let (mut report, names) = (MigrationReport::default(), self.names_of(order)?);
        for chunk in names.chunks(CHUNK) {
            let mut open: Vec<String> = chunk.to_vec();
            for _ in 0..ATTEMPTS {
                if open.is_empty() {
                    break;
                }
                let route = self.route(order)?;
                open = Box::pin(self.migrate_chunk(who, &route, order.dry_run, open, &mut report)).await?;
            }
            let restless = open.into_iter().map(|name| (name, "it kept changing: run again".to_owned()));
            report.failed.extend(restless);
        }
        report.migrated.sort_unstable();
        Ok(report)
    }

    /// The backends of an order, ready for use.
    fn route(&self, order: &MigrationOrder) -> Result<Route> {
        let snapshot = self.snapshot();
        let mut faults = Faults::default();
        let mut find = |field: &str, name: &str| {
            let found = snapshot.shelf(kinds::SECRET_BACKENDS).named(name).cloned();
            if found.is_none() {
                faults.add(
                    field,
                    format!("no secretbackend named `{}`", crate::resource::tidied(name.to_owned())),
                );
            }
            found
        };
        let (from, to) = (find("from", &order.from), find("to", &order.to));
        if order.from == order.to {
            faults.add("to", "must be another backend than `from`");
        }
        faults.into_result()?;
        let (Some(from), Some(to)) = (from, to) else { return Err(Error::internal("no backends")) };
        let needed = self.needed_by(&to.spec);
        let since = snapshot.revision();
        let mut guards = vec![Condition::KindUnchanged { kind: kinds::SECRET_BACKENDS, since }];
        guards.extend(needed.iter().map(|secret| Condition::Version {
            kind: kinds::SECRETS,
            id: secret.id.clone(),
            version: secret.version,
        }));
        Ok(Route {
            source: self.driver(&from)?,
            target: self.driver(&to)?,
            needed: needed.iter().map(|secret| secret.id.clone()).collect(),
            keep_source: order.keep_source,
            from,
            to,
            guards,
        })
    }

    /// The Secrets that an order is about: those named, or all at the source and those of which it still has copies.
    fn names_of(&self, order: &MigrationOrder) -> Result<Vec<String>> {
        let route = self.route(order)?;
        if let Some(names) = &order.names {
            let mut seen = HashSet::new();
            return Ok(names.iter().filter(|name| seen.insert(*name)).cloned().collect());
        }
        let concerned = |secret: &&Arc<Object>| {
            is_at(secret, &route.from) || (is_at(secret, &route.to) && has_copy_at(secret, &route.from))
        };
        let snapshot = self.snapshot();
        let concerned = snapshot.shelf(kinds::SECRETS).after(None).filter(concerned);
        Ok(concerned.map(|secret| secret.name.clone()).collect())
    }

    /// Moves some Secrets; those that somebody changed meanwhile come back.
    async fn migrate_chunk(
        &self,
        who: &Principal,
        route: &Route,
        dry_run: bool,
        names: Vec<String>,
        report: &mut MigrationReport,
    ) -> Result<Vec<String>> {
        let (mut again, mut ready, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            match self.candidate(who, route, &name).await {
                Ok(secret) if is_at(&secret, &route.to) => {
                    if has_copy_at(&secret, &route.from) && !route.keep_source && !dry_run {
                        left.push(secret);
                    }
                    report.skipped.push(name);
                }
                Ok(_) if dry_run => report.migrated.push(name),
                Ok(secret) => ready.push(secret),
                Err(error) => report.failed.push((name, error.message().to_owned())),
            }
        }
        let mut sort = |steps: Vec<Step>| -> Vec<Move> {
            let mut done = Vec::new();
            for step in steps {
                match step {
                    Step::Done(moved) => done.push(*moved),
                    Step::Failed(name, error) => report.failed.push((name, error.message().to_owned())),
                    Step::Again(name) => again.push(name),
                }
            }
            done
        };
        let read = sort(
            each(ready, |secret| {
                read(route.source.clone(), route.target.clone(), route.to.id.clone(), secret)
            })
            .await,
        );
        let marked = sort(self.mark(route, read).await?);
        let written = sort(self.write_to_target(route, marked).await?);
        let switched = sort(self.switch(who, route, written).await?);
        report.migrated.extend(switched.iter().map(|moved| moved.secret.name.clone()));
        left.extend(
            switched.into_iter().map(|moved| moved.secret).filter(|secret| has_copy_at(secret, &route.from)),
        );
        report.failed.extend(self.clean(route, left).await?);
        Ok(again)
    }

    /// The row of a Secret that may be moved, or was.
    async fn candidate(&self, who: &Principal, route: &Route, name: &str) -> Result<Object> {
        self.require_on(who, Action::Edit, kinds::SECRETS, name).await?;
        let secret = self.inner.store.find(kinds::SECRETS, name).await?;
        let secret = secret.ok_or_else(|| missing(kinds::SECRETS, name))?;
        self.require_on(who, Action::Edit, kinds::SECRETS, secret.id.as_str()).await?;
        if !is_at(&secret, &route.from) && !is_at(&secret, &route.to) {
            return Err(Error::conflict(format!("it is not kept by secretbackend `{}`", route.from.name)));
        }
        if is_at(&secret, &route.from) && route.needed.contains(&secret.id) {
            return Err(Error::conflict(format!(
                "secretbackend `{}` needs it to get at its credentials, so it cannot be kept there",
                route.to.name
            )));
        }
        Ok(secret)
    }

    /// Notes in the rows that the target may have a copy, before it has one.
    async fn mark(&self, route: &Route, moves: Vec<Move>) -> Result<Vec<Step>> {
        if !route.target.is_external() {
            return Ok(moves.into_iter().map(|moved| Step::Done(Box::new(moved))).collect());
        }
        let (marked, new): (Vec<Move>, Vec<Move>) = moves.into_iter().partition(|moved| moved.was_marked);
        let change = |moved: &mut Move| {
            let next = with_copy_at(&moved.secret, &route.to);
            let txn = put(&moved.secret, next.clone());
            moved.secret = next;
            // The switch makes the version after this one.
            moved.slot.version = moved.secret.version + 1;
            txn
        };
        let mut steps = self.commit_each(route, new, change).await?;
        steps.extend(marked.into_iter().map(|moved| Step::Done(Box::new(moved))));
        Ok(steps)
    }

    /// Writes to the target, reads back and compares.
    async fn write_to_target(&self, route: &Route, moves: Vec<Move>) -> Result<Vec<Step>> {
        if !route.source.is_external() && !route.target.is_external() {
            // Both are the server's own database, where a Secret has one place: the values stay.
            return Ok(moves.into_iter().map(|moved| Step::Done(Box::new(moved))).collect());
        }
        let mut written = Vec::new();
        for moved in moves {
            // Sealing is quick; what is sent goes out below, many at a time.
            if route.target.is_external() {
                written.push((moved, Vec::new()));
            } else {
                let stored = route.target.write(&moved.slot, &moved.data, Over::Anything).await?;
                written.push((moved, stored.writes));
            }
        }
        let writes: Vec<Write> = written.iter_mut().flat_map(|(_, writes)| std::mem::take(writes)).collect();
        if !writes.is_empty() {
            // Nobody reads them before the rows are switched.
            self.commit(Txn { writes, ..Txn::default() }).await?;
        }
        let moves = written.into_iter().map(|(moved, _)| moved).collect();
        let steps = each(moves, |moved| verified(route.source.clone(), route.target.clone(), moved)).await;
        // What somebody else keeps at the target must not look like a copy of ours.
        let foreign: Vec<String> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Failed(name, error) if BackendFault::of(error) == Some(BackendFault::Changed) => {
                    Some(name.clone())
                }
                _ => None,
            })
            .collect();
        for name in foreign {
            if let Some(secret) = self.inner.store.find(kinds::SECRETS, &name).await? {
                self.commit(put(&secret, without_copy_at(&secret, &route.to))).await?;
            }
        }
        Ok(steps)
    }

    /// Lets the rows point to the target.
    async fn switch(&self, who: &Principal, route: &Route, moves: Vec<Move>) -> Result<Vec<Step>> {
        let change = |moved: &mut Move| {
            let old = moved.secret.clone();
            let mut next = without_copy_at(&old, &route.to);
            if route.source.is_external() && !route.keep_source {
                next.spec = with_copy_at(&next, &route.from).spec;
            }
            next.spec.insert("backend".into(), json!({"id": route.to.id, "name": route.to.name}));
            next.spec.insert("externalRef".into(), moved.external_ref.clone().into());
            let mut txn = Txn::default();
            let is_moved = route.source.is_external() || route.target.is_external();
            if is_moved {
                next.spec.insert(VALUE_VERSION.into(), moved.slot.version.into());
                if route.target.is_external() && !route.keep_source {
                    txn.writes.push(Write::DeleteValue { key: old.id.as_str().to_owned() });
                }
            }
            let base = put(&old, next.clone());
            txn.conditions = base.conditions.into_iter().chain(route.guards.iter().cloned()).collect();
            txn.writes.extend(base.writes);
            txn.events.push(migrated(who, &next, route));
            moved.secret = next;
            txn
        };
        self.commit_each(route, moves, change).await
    }

    /// Deletes what the source still has, and then the notes of it. What cannot be deleted is told.
    async fn clean(&self, route: &Route, left: Vec<Object>) -> Result<Vec<(String, String)>> {
        let (source, mut failed) = (route.source.clone(), Vec::new());
        let erased = each(left, |secret| {
            let source = source.clone();
            async move {
                let erased = match slot(&secret) {
                    Ok(slot) => source.erase(&slot).await,
                    Err(error) => Err(error),
                };
                (secret, erased)
            }
        })
        .await;
        for (secret, erased) in erased {
            match erased {
                // A note that stays, because somebody was faster, only makes the next run look once more.
                Ok(()) => drop(self.commit(put(&secret, without_copy_at(&secret, &route.from))).await?),
                Err(error) => failed.push((
                    secret.name.clone(),
                    format!("it is moved, but the source still has its values; run again: {error}"),
                )),
            }
        }
        Ok(failed)
    }

    /// Commits a change of each: all in one transaction, or, when one of them was changed meanwhile, one by one.
    async fn commit_each(
        &self,
        route: &Route,
        moves: Vec<Move>,
        change: impl Fn(&mut Move) -> Txn,
    ) -> Result<Vec<Step>> {
        let mut prepared: Vec<(Move, Txn)> = Vec::new();
        for mut moved in moves {
            let txn = change(&mut moved);
            prepared.push((moved, txn));
        }
        let mut all = Txn::default();
        for (_, txn) in &prepared {
            all.conditions.extend(txn.conditions.iter().cloned());
            all.writes.extend(txn.writes.iter().cloned());
            all.events.extend(txn.events.iter().cloned());
        }
        if prepared.is_empty() || self.commit(all).await?.is_none() {
            return Ok(prepared.into_iter().map(|(moved, _)| Step::Done(Box::new(moved))).collect());
        }
        let mut steps = Vec::new();
        for (moved, txn) in prepared {
            if self.commit(txn).await?.is_none() {
                steps.push(Step::Done(Box::new(moved)));
                continue;
            }
            if self.inner.store.get(kinds::SECRETS, &moved.secret.id).await?.is_none() {
                // Deleted meanwhile: what was written for it must not stay.
                let _ = route.target.erase(&moved.slot).await;
            }
            steps.push(Step::Again(moved.secret.name));
        }
        Ok(steps)
    }
}

/// The values at the source. What somebody else keeps at the target stops it here, while nothing is written.
async fn read(
    source: Arc<dyn SecretBackend>,
    target: Arc<dyn SecretBackend>,
    to: Id,
    secret: Object,
) -> Step {
    let name = secret.name.clone();
    let prepared = async {
        let Found { data, revision } = source.read(&slot(&secret)?).await?;
        let was_marked = copies(&secret).any(|copy| copy == to.as_str());
        let version = secret.version + 1;
        let slot = Slot { id: secret.id.clone(), name: secret.name.clone(), version };
        if target.is_external() && !was_marked {
            match target.read(&slot).await {
                // The same values may be the very same place, by another way: what is deleted there is gone.
                Ok(found) if found.data != data || source.is_external() => {
                    return Err(Error::conflict("the target has values under its name already"));
                }
                Err(error) if BackendFault::of(&error) != Some(BackendFault::NotFound) => return Err(error),
                _ => {}
            }
        }
        let external_ref = String::new();
        Ok(Move { data, revision, slot, was_marked, external_ref, secret: secret.clone() })
    };
    match prepared.await {
        Ok(moved) => Step::Done(Box::new(moved)),
        Err(error) => Step::Failed(name, about(&secret, error)),
    }
}

/// Writes to the target if that is not done yet, and compares what it then has.
async fn verified(source: Arc<dyn SecretBackend>, target: Arc<dyn SecretBackend>, mut moved: Move) -> Step {
    let written = async {
        if target.is_external() {
            let over = if moved.was_marked { Over::Anything } else { Over::Nothing };
            moved.external_ref = target.write(&moved.slot, &moved.data, over).await?.external_ref;
        }
        let found = target.read(&moved.slot).await?;
        if found.data != moved.data {
            return Err(Error::conflict("the target gave back other values than were written"));
        }
        // So it is when somebody changed them, and when both backends are one place.
        if source.is_external() && source.read(&slot(&moved.secret)?).await?.revision != moved.revision {
            return Err(Error::conflict("the source changed meanwhile: run again"));
        }
        Ok(())
    };
    match written.await {
        Ok(()) => Step::Done(Box::new(moved)),
        Err(error) => Step::Failed(moved.secret.name.clone(), about(&moved.secret, error)),
    }
}

/// Does the same to all, at the same time.
async fn each<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Vec<R>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for item in items {
        tasks.spawn(work(item));
    }
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.extend(result.ok());
    }
    results
}

fn migrated(who: &Principal, secret: &Object, route: &Route) -> AuditEvent {
    let migration = Migration {
        name: secret.name.clone(),
        resource_id: secret.id.to_string(),
        from: route.from.name.clone(),
        to: route.to.name.clone(),
        version: secret.version,
    };
    AuditEvent::new(who.actor(), EventDetail::Migration(migration))
}

/// `next` in the place of `stored`, if that is still as it was.
fn put(stored: &Object, next: Object) -> Txn {
    let (kind, id, version) = (stored.kind, stored.id.clone(), stored.version);
    Txn {
        conditions: vec![Condition::Version { kind, id, version }],
        writes: vec![Write::Put(next)],
        ..Txn::default()
    }
}

fn is_at(secret: &Object, backend: &Object) -> bool {
    typed_reference(&secret.spec, "backend").as_ref() == Some(&backend.id)
}
