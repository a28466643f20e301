//! What a client does when the server, or the provider behind it, is down.

mod cost;
mod local;
mod real;
mod stub;
mod table;

use std::sync::Arc;

use mcpctl_core::failover::{LocalLlm, ProviderRegistry, ProviderSettings, registry_of};
use serde_json::{Value, json};

/// The providers of a configuration file.
fn providers(entries: &Value) -> Arc<ProviderRegistry<LocalLlm>> {
    Arc::new(registry_of(ProviderSettings::list(entries).unwrap()).unwrap())
}

/// One provider that stands in for the Llm `gpt`.
fn stand_in(url: &str) -> Arc<ProviderRegistry<LocalLlm>> {
    providers(
        &json!([{"name": "local", "type": "vllm", "model": "local-1", "url": url, "failoverFor": ["gpt"]}]),
    )
}

fn question(text: &str) -> Value {
    json!({"model": "gpt", "messages": [{"role": "user", "content": text}]})
}
