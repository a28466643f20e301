//! The core inside another Rust program: no server, no HTTP between you and the catalogue.
//!
//!     cargo run -p examples --bin embed_registry

use std::{error::Error, sync::Arc};

use http_body_util::BodyExt as _;
use mcpctl_core::{
    ErrorKind, Registry,
    gateway::{Gateway, GatewaySettings, Target},
    registry::ListQuery,
    resource::{Spec, kinds, view},
    store::MemoryStore,
};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The program that owns the store may do everything; `root` gives it a name in the audit trail.
    let registry = Registry::builder(Arc::new(MemoryStore::new())).open().await?;
    let me = registry.root("my-service");

    let provider = examples::start_stub_provider().await?;
    registry.create(&me, kinds::SECRETS, body(json!({"name": "provider", "data": {"key": "sk-1"}}))).await?;
    let llm = json!({"name": "stub", "type": "vllm", "model": "stub-1", "url": format!("http://{provider}"),
                     "apiKeyRef": {"name": "provider", "key": "key"}});
    let llm = registry.create(&me, kinds::LLMS, body(llm)).await?;
    println!("registered {}", Value::Object(view(&llm)));

    // Errors have a kind to act on, and a message that names every fault.
    let faulty = body(json!({"name": "No Good", "type": "openai", "teir": "fast"}));
    match registry.create(&me, kinds::LLMS, faulty).await {
        Err(error) if error.kind() == ErrorKind::Invalid => println!("refused: {error}"),
        other => return Err(format!("expected a refusal, not {other:?}").into()),
    }

    // The same pipeline that the server runs: authorise, resolve the key, call, account.
    let gateway = Gateway::new(registry.clone(), GatewaySettings::default())?;
    let question = json!({"messages": [{"role": "user", "content": "Hello?"}]});
    let answer = gateway.chat(&me, Target::Named("stub"), question.to_string().into()).await?;
    let answer = answer.body.collect().await?.to_bytes();
    println!("answered {}", String::from_utf8_lossy(&answer));

    // A rotated key counts at the next call.
    registry.patch(&me, kinds::SECRETS, "provider", body(json!({"data": {"key": "sk-2"}})), None).await?;
    gateway.chat(&me, Target::Named("stub"), question.to_string().into()).await?;

    let llms = registry.list(&me, kinds::LLMS, &ListQuery::default()).await?;
    println!("{} llm in the catalogue", llms.items.len());
    Ok(())
}

fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap_or_default()
}
