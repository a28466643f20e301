//! What becomes of a call when the provider dies, and then the server: a model of the caller's own answers, as long as
//! the server says or has said lately that the caller may see the Llm.
//!
//!     cargo run -p examples --bin failover

use std::{error::Error, sync::Arc, time::Duration};

use mcpctl_core::{
    Registry,
    client::{Client, Token},
    failover::{FailoverClient, LeaseBook, MemoryLeases, ProviderSettings, registry_of},
    gateway::{Gateway, GatewaySettings},
    resource::{Spec, kinds},
    secret::{MasterKey, SecretValue},
    store::MemoryStore,
};
use mcpctl_server::{App, Listener, serve};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const PASSWORD: &str = "a good password";

fn main() -> Result<(), Box<dyn Error>> {
    // Each in a runtime of its own, so that it can be killed with all its connections.
    let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (server, provider, caller) = (runtime()?, runtime()?, runtime()?);
    let provider_at = provider.block_on(examples::start_stub_provider())?;
    let url = server.block_on(start_server())?;
    caller.block_on(prepare(&url, &format!("http://{provider_at}")))?;
    caller.block_on(act(&url, server, provider))
}

/// An mcpctl-server on a store in memory.
async fn start_server() -> Result<String, Box<dyn Error>> {
    let registry =
        Registry::builder(Arc::new(MemoryStore::new())).master_key(MasterKey::generate()).open().await?;
    registry.bootstrap("admin@localhost", Some(SecretValue::new(PASSWORD))).await?;
    let gateway = Gateway::new(registry.clone(), GatewaySettings::default())?;
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", listener.address()?);
    tokio::spawn(serve(listener, Arc::new(App::new(registry, gateway)?), std::future::pending()));
    Ok(url)
}

/// The admin's part: an Llm that may be stood in for during two seconds after each answer.
async fn prepare(url: &str, provider: &str) -> Result<(), Box<dyn Error>> {
    let login = Client::new(url, None)?.login("admin@localhost", PASSWORD).await?;
    let admin = Client::new(url, Some(login.token))?;
    let llm = json!({"name": "gpt", "type": "vllm", "model": "large", "url": provider,
                     "extraConfig": {"failoverLeaseSeconds": 2}});
    admin.create(kinds::LLMS, body(llm)).await?;
    Ok(())
}

/// The caller's part.
async fn act(url: &str, server: Runtime, provider: Runtime) -> Result<(), Box<dyn Error>> {
    let login = Client::new(url, None)?.login("admin@localhost", PASSWORD).await?;
    let plain = Client::new(url, Some(Token::new(login.token.reveal())))?;
    let local = examples::start_stub_provider().await?;
    // What `~/.mcpctl/config.json` holds under `providers`.
    let providers = json!([{"name": "laptop", "type": "ollama", "model": "small", "url": format!("http://{local}"),
                            "failoverFor": ["gpt"]}]);
    let providers = Arc::new(registry_of(ProviderSettings::list(&providers)?)?);
    let leases = LeaseBook::open(&plain, Arc::new(MemoryLeases::default()));
    let client = FailoverClient::new(&plain, providers, Some(leases.clone()));

    println!("1. All is well:");
    ask(&client).await;
    println!(
        "2. The provider is killed. The server is asked whether the caller may see `gpt`, and says yes:"
    );
    provider.shutdown_background();
    ask(&client).await;
    println!("3. The server is killed, too. It gave a lease with its last word:");
    leases.settle(Duration::from_secs(5)).await;
    server.shutdown_background();
    ask(&client).await;
    println!("4. The lease ends, and with it the consent:");
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask(&client).await;
    Ok(())
}

async fn ask(client: &FailoverClient) {
    let question = json!({"messages": [{"role": "user", "content": "Hello?"}]});
    match client.infer("gpt", &question).await {
        Ok(routed) => {
            let text = &routed.value["choices"][0]["message"]["content"];
            println!(
                "   {text} from {} ({})",
                routed.via.as_deref().unwrap_or("the server"),
                routed.decision
            );
        }
        Err(not) => println!("   the server's own error: {}\n   ({})", not.error, not.decision),
    }
}

fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap_or_default()
}
