//! Encrypted values.

use std::sync::Arc;

use super::{Storage, Write, committed, writes};

/// Values are what was written last, until they are deleted.
pub async fn come_back_as_written(store: Arc<dyn Storage>) {
    let write = |key: &str, value: &str| Write::PutValue { key: key.into(), value: value.into() };
    let delete = |key: &str| Write::DeleteValue { key: key.into() };
    assert_eq!(store.value("a").await.unwrap(), None);
    committed(&*store, writes([write("a", "1"), write("b", ""), delete("absent")])).await;
    assert_eq!(store.value("a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(store.value("b").await.unwrap().as_deref(), Some(""));
    assert_eq!(store.value("A").await.unwrap(), None);
    committed(&*store, writes([write("a", "2"), delete("b")])).await;
    assert_eq!(store.value("a").await.unwrap().as_deref(), Some("2"));
    assert_eq!(store.value("b").await.unwrap(), None);
}
