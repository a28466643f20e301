//! The main job, in one process, with no key and no network: a provider, a server that holds its key, and a
//! client that holds only a token.
//!
//!     cargo run -p examples --bin quickstart

use std::{error::Error, sync::Arc};

use mcpctl_core::{
    Registry,
    client::{Client, Token},
    gateway::{Gateway, GatewaySettings},
    resource::{Spec, kinds},
    secret::{MasterKey, SecretValue},
    store::SqlStore,
};
use mcpctl_server::{App, Listener, serve};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = examples::start_stub_provider().await?;
    println!("1. A provider listens on http://{provider}.");

    let folder = tempfile::tempdir()?;
    let database = format!("sqlite://{}", folder.path().join("mcpctl.db").display());
    let store = Arc::new(SqlStore::open(&database).await?);
    let registry = Registry::builder(store).master_key(MasterKey::generate()).open().await?;
    registry.bootstrap("admin@localhost", Some(SecretValue::new("a good password"))).await?;
    let gateway = Gateway::new(registry.clone(), GatewaySettings::default())?;
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", listener.address()?);
    tokio::spawn(serve(listener, Arc::new(App::new(registry.clone(), gateway)?), std::future::pending()));
    println!("2. mcpctl-server listens on {url}, on an embedded database.");

    let login = Client::new(&url, None)?.login("admin@localhost", "a good password").await?;
    let client = Client::new(&url, Some(Token::new(login.token.reveal())))?;
    client
        .create(kinds::SECRETS, body(json!({"name": "provider", "data": {"key": "sk-very-secret"}})))
        .await?;
    let llm = json!({
        "name": "stub", "type": "vllm", "model": "stub-1", "url": format!("http://{provider}"),
        "apiKeyRef": {"name": "provider", "key": "key"},
    });
    client.create(kinds::LLMS, body(llm)).await?;
    println!("3. The admin has stored the provider's key, and registered the Llm `stub`.");
    let stored = client.get(kinds::SECRETS, "provider", false).await?;
    println!("   What the server shows of the key: {}", Value::Object(stored));

    println!("4. A client streams an answer, with its token alone:");
    let question = json!({"messages": [{"role": "user", "content": "Where do keys live?"}], "stream": true});
    let mut answer = client.infer_stream("stub", &question).await?;
    let mut text = String::new();
    while let Some(chunk) = answer.next().await {
        text.push_str(chunk?["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    println!("   {text}");

    registry.audit().flush(std::time::Duration::from_secs(5)).await?;
    let (events, _) = client.audit_logs(&[("kind", "llm_inference_call")]).await?;
    for event in events {
        println!("5. The audit trail: {}", Value::Object(event));
    }
    Ok(())
}

fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap_or_default()
}
