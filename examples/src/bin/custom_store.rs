//! A store that the core knows nothing of: proven by the suite that every store must pass, then put to use.
//! The store itself is in `src/file_store.rs`.
//!
//!     cargo run -p examples --bin custom_store

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use examples::FileStore;
use mcpctl_core::{
    Registry,
    registry::ListQuery,
    resource::{Spec, kinds},
    secret::MasterKey,
    store::{Store as _, conformance},
};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for (number, property) in conformance::PROPERTIES.iter().enumerate() {
        let store = FileStore::open(folder.path().join(format!("{number}.json")))?;
        // Panics when the store lacks the property.
        property.check(Arc::new(store)).await;
        println!("ok  {}", property.name);
    }
    println!("{} properties hold.\n", conformance::PROPERTIES.len());

    // The master key is kept apart from the store: without it, the values in the file are worth nothing.
    let (path, key) = (folder.path().join("mcpctl.json"), MasterKey::generate());
    fill(&path, key.clone()).await?;
    println!("{} bytes in one file; does it show the key? {}", path.metadata()?.len(), shows_key(&path)?);

    // As if the program had been started again.
    let store = Arc::new(FileStore::open(&path)?);
    println!("reopened at revision {}", store.revision().await?);
    let registry = open(store, key).await?;
    let me = registry.root("custom-store");
    for llm in registry.list(&me, kinds::LLMS, &ListQuery::default()).await?.items {
        println!("llm `{}` is still there, at version {}", llm.name, llm.version);
    }
    let (_, data) = registry.reveal(&me, "provider").await?;
    println!("and so is its key: {}", data.get("key").is_some_and(|key| key.expose() == "sk-very-secret"));
    Ok(())
}

async fn open(store: Arc<FileStore>, key: MasterKey) -> mcpctl_core::Result<Registry> {
    Registry::builder(store).master_key(key).open().await
}

/// Opens a registry over a new file, registers something, and lets go of the file again.
async fn fill(path: &Path, key: MasterKey) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(FileStore::open(path)?);
    let registry = open(store.clone(), key).await?;
    let me = registry.root("custom-store");
    let secret = json!({"name": "provider", "data": {"key": "sk-very-secret"}});
    registry.create(&me, kinds::SECRETS, body(secret)).await?;
    let llm = json!({"name": "gpt", "type": "openai", "model": "gpt-4o-mini",
                     "apiKeyRef": {"name": "provider", "key": "key"}});
    registry.create(&me, kinds::LLMS, body(llm)).await?;
    registry.patch(&me, kinds::LLMS, "gpt", body(json!({"tier": "heavy"})), None).await?;
    drop(registry);
    // What the registry does in the background ends a moment after it; then this is the last owner.
    while Arc::strong_count(&store) > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn shows_key(path: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_to_string(path)?.contains("sk-very-secret"))
}

fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap_or_default()
}
