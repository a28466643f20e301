//! The stores: the suite they share, and what is particular to each.

mod conformance;
mod faults;
mod sqlite;
mod upgrade;

use std::sync::Arc;

use mcpctl_core::{
    resource::{Object, Spec, kinds},
    store::{Outcome, SqlStore, Storage, Store, Txn, Write},
};

async fn open(url: &str) -> Arc<dyn Storage> {
    Arc::new(SqlStore::open(url).await.unwrap())
}

/// A transaction that creates an Llm.
fn creation(name: &str) -> Txn {
    Txn { writes: vec![Write::Put(Object::new(kinds::LLMS, name, Spec::new()))], ..Txn::default() }
}

async fn create(store: &impl Store, name: &str) {
    assert!(matches!(store.commit(creation(name)).await.unwrap(), Outcome::Committed(_)));
}

async fn names(store: &impl Store) -> Vec<String> {
    store.list(kinds::LLMS).await.unwrap().into_iter().map(|object| object.name).collect()
}
