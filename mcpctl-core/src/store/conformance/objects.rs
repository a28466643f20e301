//! Objects: what is written can be read.

use std::sync::Arc;

use serde_json::json;

use super::{Storage, Write, changed, committed, llm, put, refused, spec, writes};
use crate::{
    resource::{Id, Kind, Object, kinds},
    store::Condition,
};

/// A new store has nothing, at revision 0.
pub async fn starts_empty(store: Arc<dyn Storage>) {
    assert_eq!(store.revision().await.unwrap(), 0);
    for kind in Kind::all() {
        assert_eq!(store.list(kind).await.unwrap(), []);
    }
    assert_eq!(changed(&*store, 0).await, (0, vec![], vec![]));
}

/// Every field of an object is as it was written, but for the revision, which is the commit's.
pub async fn come_back_as_written(store: Arc<dyn Storage>) {
    let nested = json!({"z": 1, "a": {"list": [null, true, "x", {}], "empty": ""}, "n": -1.5});
    let object = Object { version: 7, revision: 99, ..Object::new(kinds::LLMS, "one", spec(nested)) };
    let stored = put(&*store, object.clone()).await;
    assert_eq!(stored.revision, 1);
    assert_eq!(store.get(kinds::LLMS, &object.id).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.find(kinds::LLMS, "one").await.unwrap(), Some(stored.clone()));
    assert_eq!(store.list(kinds::LLMS).await.unwrap(), [stored]);
    assert_eq!(store.get(kinds::USERS, &object.id).await.unwrap(), None, "another kind");
    assert_eq!(store.get(kinds::LLMS, &Id::random()).await.unwrap(), None, "another id");
    assert_eq!(store.find(kinds::USERS, "one").await.unwrap(), None, "another kind");
    for name in ["One", "on", "one ", ""] {
        assert_eq!(store.find(kinds::LLMS, name).await.unwrap(), None, "another name: `{name}`");
    }
    assert_eq!(store.list(kinds::USERS).await.unwrap(), []);
}

/// Lists are sorted by the bytes of the names, whatever a locale says.
pub async fn are_listed_by_the_bytes_of_their_names(store: Arc<dyn Storage>) {
    let mut names =
        ["b", "a", "B", "a-b", "ab", "a1", "a_b", "A", "é", "e", "f", "a-", "ß", "z", "0", "-1", "10", "9"];
    for name in names {
        put(&*store, llm(name)).await;
    }
    names.sort_unstable();
    let listed = store.list(kinds::LLMS).await.unwrap();
    assert_eq!(listed.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), names);
}

/// A second write of an id replaces the first, also when the name is another.
pub async fn are_replaced_by_id_and_may_change_their_name(store: Arc<dyn Storage>) {
    let first = put(&*store, llm("old")).await;
    let second = first.updated(spec(json!({"model": "other"})));
    let second = put(&*store, Object { name: "new".into(), ..second }).await;
    assert_eq!(second.revision, 2);
    assert_eq!(store.get(kinds::LLMS, &first.id).await.unwrap(), Some(second.clone()));
    assert_eq!(store.find(kinds::LLMS, "new").await.unwrap(), Some(second.clone()));
    assert_eq!(store.find(kinds::LLMS, "old").await.unwrap(), None);
    assert_eq!(store.list(kinds::LLMS).await.unwrap(), [second]);
    // The old name is free.
    put(&*store, llm("old")).await;
    assert_eq!(store.list(kinds::LLMS).await.unwrap().len(), 2);
}

/// A write that would give two objects of a kind one name is refused, even if no condition asked for that.
pub async fn share_no_name_within_a_kind(store: Arc<dyn Storage>) {
    let first = put(&*store, llm("name")).await;
    let clash = llm("name");
    let txn = writes([Write::Put(llm("other")), Write::Put(clash.clone())]);
    let expected = Condition::NameAbsent { kind: kinds::LLMS, name: "name".into() };
    assert_eq!(refused(&*store, txn).await, expected);
    assert_eq!(store.list(kinds::LLMS).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.revision().await.unwrap(), 1);

    let twins = writes([Write::Put(llm("twin")), Write::Put(llm("twin"))]);
    refused(&*store, twins).await;
    put(&*store, Object { kind: kinds::SECRETS, ..llm("name") }).await;
    // A name that was given up within the transaction is free.
    let delete = Write::Delete { kind: kinds::LLMS, id: first.id };
    committed(&*store, writes([delete, Write::Put(clash.clone())])).await;
    assert_eq!(store.find(kinds::LLMS, "name").await.unwrap().unwrap().id, clash.id);
}
