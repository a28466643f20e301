//! Many at once, and callers that go away.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Condition, ObjectChange, Outcome, Storage, Txn, Write, changed, committed, events::denial, llm, put,
    spec, writes,
};
use crate::{
    resource::{Object, kinds},
    store::EventQuery,
};

async fn all_at_once(store: &Arc<dyn Storage>, txns: impl IntoIterator<Item = Txn>) -> Vec<Outcome> {
    let mut tasks = JoinSet::new();
    for txn in txns {
        let store = Arc::clone(store);
        tasks.spawn(async move { store.commit(txn).await.unwrap() });
    }
    tasks.join_all().await
}

fn count_committed(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Committed(_))).count()
}

/// Of two writers who start from one version exactly one succeeds, every time.
pub async fn one_writer_of_a_version_wins(store: Arc<dyn Storage>) {
    let mut object = put(&*store, llm("contended")).await;
    for round in 0..20 {
        let next = |writer: &str| object.updated(spec(json!({"round": round, "writer": writer})));
        let both = [next("one"), next("two")];
        let at = Condition::Version { kind: kinds::LLMS, id: object.id.clone(), version: object.version };
        let txn = |next: &Object| Txn { conditions: vec![at.clone()], ..writes([Write::Put(next.clone())]) };
        let outcomes = all_at_once(&store, both.each_ref().map(txn)).await;
        assert_eq!(count_committed(&outcomes), 1, "{outcomes:?}");
        assert!(outcomes.contains(&Outcome::Refused(at.clone())), "{outcomes:?}");
        let stored = store.get(kinds::LLMS, &object.id).await.unwrap().unwrap();
        assert_eq!(stored.version, object.version + 1);
        assert!(both.iter().any(|next| next.spec == stored.spec));
        object = stored;
    }
}

/// Of 200 creations of one name exactly one succeeds; with the condition, and by the store's own rule.
pub async fn one_of_many_creations_wins(store: Arc<dyn Storage>) {
    for conditions in [vec![], vec![Condition::NameAbsent { kind: kinds::LLMS, name: "name".into() }]] {
        let revision = store.revision().await.unwrap();
        let create = || Txn { conditions: conditions.clone(), ..writes([Write::Put(llm("name"))]) };
        let outcomes = all_at_once(&store, std::iter::repeat_with(create).take(200)).await;
        assert_eq!(count_committed(&outcomes), 1);
        let refused = Outcome::Refused(Condition::NameAbsent { kind: kinds::LLMS, name: "name".into() });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 199);
        let there = store.list(kinds::LLMS).await.unwrap();
        assert_eq!(there.iter().map(|object| object.revision).collect::<Vec<_>>(), [revision + 1]);
        let delete = |object: Object| Write::Delete { kind: kinds::LLMS, id: object.id };
        committed(&*store, writes(there.into_iter().map(delete))).await;
    }
}

/// Commits that have nothing to do with each other all succeed, each at a revision of its own.
pub async fn commits_on_different_objects_all_happen(store: Arc<dyn Storage>) {
    let names = (0..100).map(|number| format!("llm-{number:03}")).collect::<Vec<_>>();
    let outcomes = all_at_once(&store, names.iter().map(|name| writes([Write::Put(llm(name))]))).await;
    assert_eq!(count_committed(&outcomes), names.len());
    let listed = store.list(kinds::LLMS).await.unwrap();
    assert_eq!(listed.iter().map(|object| object.name.clone()).collect::<Vec<_>>(), names);
    let mut revisions = listed.iter().map(|object| object.revision).collect::<Vec<_>>();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=100).collect::<Vec<_>>());
}

/// `changes` never shows half of a commit, nor a revision other than that of what it shows.
pub async fn changes_show_whole_commits(store: Arc<dyn Storage>) {
    let pair = [llm("a"), llm("b")];
    let writer = {
        let (store, pair) = (Arc::clone(&store), pair.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let write = |object: &Object| Write::Put(Object { version: round, ..object.clone() });
                committed(&*store, writes(pair.each_ref().map(write))).await;
            }
        })
    };
    loop {
        let ended = writer.is_finished();
        let (revision, objects, _) = changed(&*store, 0).await;
        let versions: Vec<_> = objects
            .iter()
            .map(|change| match change {
                ObjectChange::Put(object) => (object.version, object.revision),
                ObjectChange::Deleted { .. } => (-1, -1),
            })
            .collect();
        let expected = if revision == 0 { vec![] } else { vec![(revision - 1, revision); 2] };
        assert_eq!(versions, expected);
        if ended {
            break;
        }
    }
    writer.await.unwrap();
}

/// A commit whose caller goes away at any moment happens whole or not at all, and keeps nobody else waiting.
pub async fn commits_that_are_dropped_are_whole_or_absent(store: Arc<dyn Storage>) {
    const COMMITS: usize = 60;
    let number = |number: usize| format!("dropped-{number:03}");
    for commit in 0..COMMITS {
        let name = number(commit);
        let store = Arc::clone(&store);
        let task = tokio::spawn(async move {
            let value = Write::PutValue { key: name.clone(), value: name.clone() };
            let mut txn = writes([value, Write::Put(llm(&name))]);
            txn.events.push(denial(&name));
            store.commit(txn).await.map(drop)
        });
        // From at once to a moment when most commits have ended.
        sleep(Duration::from_micros(100 * u64::try_from(commit).unwrap())).await;
        task.abort();
        let _ = task.await;
    }
    // What had begun may go on for a moment.
    let mut revision = committed(&*store, Txn::default()).await;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        sleep(Duration::from_millis(50)).await;
        let now = store.revision().await.unwrap();
        if now != revision {
            (revision, since) = (now, Instant::now());
        }
    }

    let events = EventQuery { limit: COMMITS, ..EventQuery::default() };
    let events = store.events(&events).await.unwrap();
    let mut there = 0;
    for name in (0..COMMITS).map(number) {
        let object = store.find(kinds::LLMS, &name).await.unwrap().is_some();
        assert_eq!(store.value(&name).await.unwrap().is_some(), object, "{name}");
        assert_eq!(events.iter().any(|event| event.id == name), object, "{name}");
        there += i64::from(object);
    }
    assert_eq!(revision, there + 1, "each that happened has a revision");
    put(&*store, llm("after")).await;
}
