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
//! [`PROPERTIES`] lists them, and each is a public function too, so that one that fails can be run alone. Every one wants an empty
//! store of its own, panics when the store does not have the property, and must run in a tokio runtime, with
//! timers; one with several threads finds more.

#![expect(clippy::unwrap_used, reason = "a suite of tests tells what failed by panicking")]

use std::{pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::{Changes, Condition, ObjectChange, Outcome, SessionChange, Storage, Txn, Write};
use crate::resource::{Id, Object, Revision, Session, Spec, TokenHash, kinds, now};

pub mod announcements;
pub mod changes;
pub mod concurrency;
pub mod events;
pub mod objects;
pub mod oddities;
pub mod sessions;
pub mod transactions;
pub mod values;

/// A property that every store has.
pub struct Property {
    /// The path of its function below this module: `objects::starts_empty`.
    pub name: &'static str,
    check: fn(Arc<dyn Storage>) -> Checking,
}

type Checking = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Property {
    /// Checks it on a new, empty store.
    ///
    /// # Panics
    ///
    /// When the store lacks it.
    pub async fn check(&self, store: Arc<dyn Storage>) {
        (self.check)(store).await;
    }
}

/// Runs the whole suite. `open` gives a new, empty store each time.
///
/// # Panics
///
/// When the store lacks a property.
pub async fn run_all(open: impl AsyncFn() -> Arc<dyn Storage>) {
    for property in PROPERTIES {
        property.check(open().await).await;
    }
}

macro_rules! properties {
    ($($module:ident { $($name:ident,)+ })+) => {
        /// The whole suite, in the order in which properties build on one another.
        pub const PROPERTIES: &[Property] = &[$($(
            Property {
                name: concat!(stringify!($module), "::", stringify!($name)),
                check: |store| Box::pin($module::$name(store)),
            },
        )+)+];
    };
}

properties! {
    objects {
        starts_empty,
        come_back_as_written,
        are_listed_by_the_bytes_of_their_names,
        are_replaced_by_id_and_may_change_their_name,
        share_no_name_within_a_kind,
    }
    transactions {
        grow_the_revision_by_one,
        check_versions,
        check_that_names_are_absent,
        check_that_kinds_are_unchanged,
        check_that_values_are_absent,
        change_nothing_when_refused,
        write_in_order,
    }
    changes {
        tell_of_every_object_once_as_it_is_now,
        tell_of_deletions,
        tell_of_sessions,
    }
    announcements {
        follow_every_commit,
        end_with_their_receiver,
    }
    concurrency {
        one_writer_of_a_version_wins,
        one_of_many_creations_wins,
        commits_on_different_objects_all_happen,
        changes_show_whole_commits,
        commits_that_are_dropped_are_whole_or_absent,
    }
    values {
        come_back_as_written,
    }
    sessions {
        last_until_they_expire_or_are_revoked,
        of_a_user_are_revoked_together,
        that_ended_long_ago_may_be_forgotten,
        and_the_last_use_of_things_is_noted,
    }
    events {
        come_back_newest_first,
        are_found_by_every_filter,
        are_read_in_pages,
        are_appended_once,
        of_a_transaction_share_its_fate,
        are_forgotten_oldest_first,
        are_forgotten_by_several_at_once,
    }
    oddities {
        any_text_is_kept,
        large_specs_are_kept,
        numbers_are_kept,
        times_are_kept_to_the_microsecond,
    }
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
