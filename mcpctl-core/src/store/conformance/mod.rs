//! The suite that every store must pass. Run it on your own:
//!
//! ```
//! use std::sync::Arc;
//! use mcpctl_core::store::{MemoryStore, Storage, conformance};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! conformance::run_all(async || Arc::new(MemoryStore::new()) as Arc<dyn Storage>).await;
//! # });
//! ```
//!
//! Each property is a public function too, so that one that fails can be run alone. Every one wants an empty
//! store of its own, panics when the store does not have the property, and must run in a tokio runtime, with
//! timers; one with several threads finds more.

#![expect(clippy::unwrap_used, reason = "a suite of tests tells what failed by panicking")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Changes, Condition, ObjectChange, Outcome, SessionChange, Storage, Txn, Write};
use crate::resource::{Id, Object, Revision, Session, Spec, TokenHash, kinds, now};

pub mod changes;
pub mod concurrency;
pub mod events;
pub mod objects;
pub mod oddities;
pub mod sessions;
pub mod transactions;
pub mod values;

/// Runs the whole suite. `open` gives a new, empty store each time.
///
/// # Panics
///
/// When the store lacks a property.
pub async fn run_all(open: impl AsyncFn() -> Arc<dyn Storage>) {
    objects::starts_empty(open().await).await;
    objects::come_back_as_written(open().await).await;
    objects::are_listed_by_the_bytes_of_their_names(open().await).await;
    objects::are_replaced_by_id_and_may_change_their_name(open().await).await;
    objects::share_no_name_within_a_kind(open().await).await;

    transactions::grow_the_revision_by_one(open().await).await;
    transactions::check_versions(open().await).await;
    transactions::check_that_names_are_absent(open().await).await;
    transactions::check_that_kinds_are_unchanged(open().await).await;
    transactions::change_nothing_when_refused(open().await).await;
    transactions::write_in_order(open().await).await;

    changes::tell_of_every_object_once_as_it_is_now(open().await).await;
    changes::tell_of_deletions(open().await).await;
    changes::tell_of_sessions(open().await).await;

    concurrency::one_writer_of_a_version_wins(open().await).await;
    concurrency::one_of_many_creations_wins(open().await).await;
    concurrency::commits_on_different_objects_all_happen(open().await).await;
    concurrency::changes_show_whole_commits(open().await).await;
    concurrency::commits_that_are_dropped_are_whole_or_absent(open().await).await;

    values::come_back_as_written(open().await).await;
    sessions::last_until_they_expire_or_are_revoked(open().await).await;
    sessions::of_a_user_are_revoked_together(open().await).await;

    events::come_back_newest_first(open().await).await;
    events::are_found_by_every_filter(open().await).await;
    events::are_read_in_pages(open().await).await;
    events::are_appended_once(open().await).await;
    events::of_a_transaction_share_its_fate(open().await).await;

    oddities::any_text_is_kept(open().await).await;
    oddities::large_specs_are_kept(open().await).await;
    oddities::numbers_are_kept(open().await).await;
    oddities::times_are_kept_to_the_microsecond(open().await).await;
}

/// An Llm with a small spec.
fn llm(name: &str) -> Object {
    Object::new(kinds::LLMS, name, spec(json!({"model": "m", "tier": "fast"})))
}

fn spec(value: Value) -> Spec {
    value.as_object().cloned().unwrap()
}

fn session(user: &Id, token: &str) -> Session {
    let now = now();
    let expires_at = now.checked_add(jiff::Span::new().hours(1)).unwrap();
    Session { token: TokenHash::of(token), user_id: user.clone(), created_at: now, expires_at }
}

fn writes(writes: impl IntoIterator<Item = Write>) -> Txn {
    Txn { writes: writes.into_iter().collect(), ..Txn::default() }
}

/// Carries out a transaction that must succeed.
async fn committed(store: &dyn Storage, txn: Txn) -> Revision {
    let outcome = store.commit(txn).await.unwrap();
    let revision = match outcome {
        Outcome::Committed(revision) => Some(revision),
        Outcome::Refused(_) => None,
    };
    assert!(revision.is_some(), "{outcome:?}");
    revision.unwrap()
}

/// Writes an object, and gives it back as it is stored.
async fn put(store: &dyn Storage, object: Object) -> Object {
    let revision = committed(store, writes([Write::Put(object.clone())])).await;
    Object { revision, ..object }
}

async fn refused(store: &dyn Storage, txn: Txn) -> Condition {
    let outcome = store.commit(txn).await.unwrap();
    let condition = match &outcome {
        Outcome::Committed(_) => None,
        Outcome::Refused(condition) => Some(condition.clone()),
    };
    assert!(condition.is_some(), "{outcome:?}");
    condition.unwrap()
}

/// What changed after a revision; a store may not compact in so short a time.
async fn changed(store: &dyn Storage, since: Revision) -> (Revision, Vec<ObjectChange>, Vec<SessionChange>) {
    let changes = store.changes(since).await.unwrap();
    assert_ne!(changes, Changes::Compacted, "nothing is old enough to be forgotten");
    match changes {
        Changes::All { revision, objects, sessions } => (revision, objects, sessions),
        Changes::Compacted => Default::default(),
    }
}
