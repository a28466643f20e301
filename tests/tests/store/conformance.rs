//! Every store passes the suite.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use mcpctl_core::{
    resource::{Actor, AuditEvent, Denial, EventDetail},
    store::{MemoryStore, Storage, conformance},
};
use tests::postgres::Postgres;

use super::open;

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conformance::run_all(async || Arc::new(MemoryStore::new()) as Arc<dyn Storage>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    let url = || format!("sqlite://{}/{}.db", folder.path().display(), count.fetch_add(1, Ordering::Relaxed));
    conformance::run_all(async || open(&url()).await).await;
    append_is_quick(&*open(&url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let Some(postgres) = Postgres::shared() else { return };
    conformance::run_all(async || open(&postgres.create_database()).await).await;
    append_is_quick(&*open(&postgres.create_database()).await).await;
}

/// On a runtime with one thread, on which nothing may block.
#[tokio::test]
async fn current_thread() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("sqlite://{}/one.db", folder.path().display())).await;
    conformance::concurrency::one_of_many_creations_wins(store).await;
    let Some(postgres) = Postgres::shared() else { return };
    let store = open(&postgres.create_database()).await;
    conformance::concurrency::one_of_many_creations_wins(store).await;
}

async fn append_is_quick(store: &dyn Storage) {
    let detail = EventDetail::Denied(Denial { permission: "p".into() });
    let event = || AuditEvent::new(Actor::default(), detail.clone());
    let events: Vec<_> = std::iter::repeat_with(event).take(1000).collect();
    let began = Instant::now();
    store.append(events.into()).await.unwrap();
    println!("1,000 events appended in {:?}", began.elapsed());
    assert!(began.elapsed().as_secs() < 2);
}
