//! Transactions: conditions, and all or nothing.

use std::sync::Arc;

use super::{
    Storage, Txn, Write, changed, committed, events::denial, llm, put, refused, session, spec, writes,
};
use crate::{
    resource::{Id, Object, kinds},
    store::{Condition, EventQuery, Outcome},
};

/// Each commit has the next revision, however much it writes; a refused one has none.
pub async fn grow_the_revision_by_one(store: Arc<dyn Storage>) {
    assert_eq!(committed(&*store, writes([Write::Put(llm("a")), Write::Put(llm("b"))])).await, 1);
    assert_eq!(committed(&*store, Txn::default()).await, 2);
    let gone = Condition::Version { kind: kinds::LLMS, id: Id::random(), version: 1 };
    refused(&*store, Txn { conditions: vec![gone], ..Txn::default() }).await;
    assert_eq!(store.revision().await.unwrap(), 2);
    let value = Write::PutValue { key: "k".into(), value: "v".into() };
    assert_eq!(committed(&*store, writes([value])).await, 3);
    assert_eq!(store.revision().await.unwrap(), 3);
}

/// `Condition::Version` holds for the object at that version alone.
pub async fn check_versions(store: Arc<dyn Storage>) {
    let object = put(&*store, llm("a")).await;
    let at = |kind, id: &Id, version| Condition::Version { kind, id: id.clone(), version };
    let when = |condition| Txn { conditions: vec![condition], ..Txn::default() };
    committed(&*store, when(at(kinds::LLMS, &object.id, 1))).await;
    for wrong in [
        at(kinds::LLMS, &object.id, 2),
        at(kinds::LLMS, &object.id, 0),
        at(kinds::USERS, &object.id, 1),
        at(kinds::LLMS, &Id::random(), 1),
    ] {
        assert_eq!(refused(&*store, when(wrong.clone())).await, wrong);
    }
    put(&*store, object.updated(spec(serde_json::json!({})))).await;
    refused(&*store, when(at(kinds::LLMS, &object.id, 1))).await;
    committed(&*store, when(at(kinds::LLMS, &object.id, 2))).await;
    committed(&*store, writes([Write::Delete { kind: kinds::LLMS, id: object.id.clone() }])).await;
    refused(&*store, when(at(kinds::LLMS, &object.id, 2))).await;
}

/// `Condition::NameAbsent` holds while no object of the kind has the name.
pub async fn check_that_names_are_absent(store: Arc<dyn Storage>) {
    let absent = |kind, name: &str| Condition::NameAbsent { kind, name: name.into() };
    let when = |condition| Txn { conditions: vec![condition], ..Txn::default() };
    let object = put(&*store, llm("a")).await;
    assert_eq!(refused(&*store, when(absent(kinds::LLMS, "a"))).await, absent(kinds::LLMS, "a"));
    committed(&*store, when(absent(kinds::LLMS, "b"))).await;
    committed(&*store, when(absent(kinds::LLMS, "A"))).await;
    committed(&*store, when(absent(kinds::USERS, "a"))).await;
    committed(&*store, writes([Write::Delete { kind: kinds::LLMS, id: object.id }])).await;
    committed(&*store, when(absent(kinds::LLMS, "a"))).await;
}

/// `Condition::KindUnchanged` holds until an object of the kind is written or deleted.
pub async fn check_that_kinds_are_unchanged(store: Arc<dyn Storage>) {
    let unchanged = |kind, since| Condition::KindUnchanged { kind, since };
    let when = |condition| Txn { conditions: vec![condition], ..Txn::default() };
    committed(&*store, when(unchanged(kinds::LLMS, 0))).await;
    let object = put(&*store, llm("a")).await;
    refused(&*store, when(unchanged(kinds::LLMS, object.revision - 1))).await;
    committed(&*store, when(unchanged(kinds::LLMS, object.revision))).await;
    committed(&*store, when(unchanged(kinds::USERS, 0))).await;

    let updated = put(&*store, object.updated(object.spec.clone())).await;
    refused(&*store, when(unchanged(kinds::LLMS, object.revision))).await;
    committed(&*store, when(unchanged(kinds::LLMS, updated.revision))).await;

    let deleted =
        committed(&*store, writes([Write::Delete { kind: kinds::LLMS, id: object.id.clone() }])).await;
    refused(&*store, when(unchanged(kinds::LLMS, updated.revision))).await;
    // Deleting what is not there is no change; nor is what is not an object.
    let nothing = Write::Delete { kind: kinds::LLMS, id: object.id };
    let value = Write::PutValue { key: "k".into(), value: "v".into() };
    committed(&*store, writes([nothing, value])).await;
    committed(&*store, when(unchanged(kinds::LLMS, deleted))).await;
}

/// `Condition::ValueAbsent` holds while there is no value of the key, and one of several makers is first.
pub async fn check_that_values_are_absent(store: Arc<dyn Storage>) {
    let absent = |key: &str| Condition::ValueAbsent { key: key.into() };
    let make = |key: &str, value: &str| Txn {
        conditions: vec![absent(key)],
        ..writes([Write::PutValue { key: key.into(), value: value.into() }])
    };
    committed(&*store, make("a", "")).await;
    assert_eq!(refused(&*store, make("a", "2")).await, absent("a"));
    assert_eq!(store.value("a").await.unwrap().as_deref(), Some(""));
    committed(&*store, make("b", "1")).await;
    committed(&*store, writes([Write::DeleteValue { key: "a".into() }])).await;
    committed(&*store, make("a", "3")).await;
    let makers = ["1", "2", "3", "4"].map(|value| {
        let (store, txn) = (store.clone(), make("c", value));
        tokio::spawn(async move { store.commit(txn).await.unwrap() })
    });
    let mut first = 0;
    for maker in makers {
        first += usize::from(maker.await.unwrap() != Outcome::Refused(absent("c")));
    }
    assert_eq!(first, 1);
}

/// A transaction one of whose conditions does not hold leaves no trace.
pub async fn change_nothing_when_refused(store: Arc<dyn Storage>) {
    let user = Id::random();
    let there = put(&*store, llm("there")).await;
    let ended = session(&user, "ended");
    let value = Write::PutValue { key: "key".into(), value: "value".into() };
    committed(&*store, writes([value, Write::PutSession(ended.clone())])).await;
    let before = changed(&*store, 0).await;

    let holds = Condition::Version { kind: kinds::LLMS, id: there.id.clone(), version: 1 };
    let refusing = [
        Condition::Version { kind: kinds::LLMS, id: there.id.clone(), version: 2 },
        Condition::NameAbsent { kind: kinds::LLMS, name: "there".into() },
        Condition::KindUnchanged { kind: kinds::LLMS, since: 0 },
        Condition::ValueAbsent { key: "key".into() },
    ];
    for condition in refusing {
        let txn = Txn {
            conditions: vec![holds.clone(), condition.clone()],
            writes: vec![
                Write::Put(llm("new")),
                Write::Put(there.updated(spec(serde_json::json!({"changed": true})))),
                Write::Delete { kind: kinds::LLMS, id: there.id.clone() },
                Write::PutValue { key: "new".into(), value: "value".into() },
                Write::DeleteValue { key: "key".into() },
                Write::PutSession(session(&user, "new")),
                Write::RevokeSession(ended.token),
                Write::RevokeSessionsOf(user.clone()),
            ],
            events: vec![denial("00000000-0000-7000-8000-000000000001")],
        };
        assert_eq!(refused(&*store, txn).await, condition);
    }

    assert_eq!(changed(&*store, 0).await, before);
    assert_eq!(store.list(kinds::LLMS).await.unwrap(), [there]);
    assert_eq!(store.value("new").await.unwrap(), None);
    assert_eq!(store.value("key").await.unwrap().as_deref(), Some("value"));
    assert_eq!(store.session(ended.token).await.unwrap(), Some(ended));
    let all = EventQuery { limit: 10, ..EventQuery::default() };
    assert_eq!(store.events(&all).await.unwrap(), []);
}

/// Later writes of a transaction see what earlier ones did.
pub async fn write_in_order(store: Arc<dyn Storage>) {
    let object = llm("a");
    let newer = object.updated(spec(serde_json::json!({"last": true})));
    let value = |value: &str| Write::PutValue { key: "k".into(), value: value.into() };
    let txn = writes([
        Write::Put(object.clone()),
        Write::Delete { kind: kinds::LLMS, id: object.id.clone() },
        Write::Put(object),
        Write::Put(newer.clone()),
        value("first"),
        Write::DeleteValue { key: "k".into() },
        value("last"),
    ]);
    let revision = committed(&*store, txn).await;
    assert_eq!(store.list(kinds::LLMS).await.unwrap(), [Object { revision, ..newer }]);
    assert_eq!(store.value("k").await.unwrap().as_deref(), Some("last"));
}
