//! Changes: what a watcher is told.

use std::sync::Arc;

use serde_json::json;

use super::{
    ObjectChange, SessionChange, Storage, Write, changed, committed, llm, put, session, spec, writes,
};
use crate::resource::{Id, kinds};

/// Each object that was written after the revision is told of once, in its present form, oldest change first.
pub async fn tell_of_every_object_once_as_it_is_now(store: Arc<dyn Storage>) {
    let a = put(&*store, llm("a")).await;
    let b = put(&*store, llm("b")).await;
    let all = vec![ObjectChange::Put(a.clone()), ObjectChange::Put(b.clone())];
    assert_eq!(changed(&*store, 0).await, (2, all, vec![]));
    assert_eq!(changed(&*store, 1).await, (2, vec![ObjectChange::Put(b.clone())], vec![]));
    assert_eq!(changed(&*store, 2).await, (2, vec![], vec![]));

    let second = put(&*store, a.updated(spec(json!({"n": 2})))).await;
    let third = put(&*store, second.updated(spec(json!({"n": 3})))).await;
    assert_eq!(changed(&*store, 2).await, (4, vec![ObjectChange::Put(third.clone())], vec![]));
    assert_eq!(changed(&*store, 0).await.1, [ObjectChange::Put(b), ObjectChange::Put(third)]);
}

/// Deleted objects are told of, also those that came and went since; names that were taken up again are new.
pub async fn tell_of_deletions(store: Arc<dyn Storage>) {
    let first = put(&*store, llm("a")).await;
    let id = first.id.clone();
    let revision = committed(&*store, writes([Write::Delete { kind: kinds::LLMS, id: id.clone() }])).await;
    let deleted = ObjectChange::Deleted { kind: kinds::LLMS, id };
    assert_eq!(changed(&*store, 1).await, (revision, vec![deleted.clone()], vec![]));
    assert_eq!(changed(&*store, 0).await, (revision, vec![deleted.clone()], vec![]));
    assert_eq!(changed(&*store, revision).await, (revision, vec![], vec![]));

    let second = put(&*store, llm("a")).await;
    assert_eq!(changed(&*store, 0).await.1, [deleted, ObjectChange::Put(second)]);
    committed(&*store, writes([Write::Delete { kind: kinds::LLMS, id: Id::random() }])).await;
    assert_eq!(changed(&*store, revision + 1).await.1, [], "nothing was there to delete");
}

/// Sessions that began or were revoked are told of.
pub async fn tell_of_sessions(store: Arc<dyn Storage>) {
    let user = Id::random();
    let one = session(&user, "one");
    let two = session(&user, "two");
    committed(&*store, writes([Write::PutSession(one.clone())])).await;
    committed(&*store, writes([Write::PutSession(two.clone())])).await;
    let put = [SessionChange::Put(one.clone()), SessionChange::Put(two.clone())];
    assert_eq!(changed(&*store, 0).await.2, put);
    assert_eq!(changed(&*store, 1).await.2, [SessionChange::Put(two.clone())]);
    committed(&*store, writes([Write::RevokeSession(one.token)])).await;
    assert_eq!(changed(&*store, 2).await.2, [SessionChange::Revoked(one.token)]);
    committed(&*store, writes([Write::RevokeSession(one.token), Write::RevokeSessionsOf(user)])).await;
    assert_eq!(changed(&*store, 3).await.2, [SessionChange::Revoked(two.token)], "one was revoked before");
    let both = [SessionChange::Revoked(one.token), SessionChange::Revoked(two.token)];
    assert_eq!(changed(&*store, 0).await.2, both);
}
