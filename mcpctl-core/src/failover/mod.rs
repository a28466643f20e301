//! When the server or a provider is down: the same work on a local model, for those who may see that Llm.
//!
//! A [`ProviderRegistry`] holds the local providers and says which of them stands in for which Llm. A
//! [`FailoverRouter`] runs a call, and decides what a failure means:
//!
//! | the primary | stands in | the server says of the Llm | what comes back |
//! | --- | --- | --- | --- |
//! | succeeds | – | – | its result |
//! | refuses (4xx) | – | – | its own error |
//! | is down | nobody | – | its own error |
//! | is down | a provider | allowed | the provider's result |
//! | is down | a provider | nothing, or a 5xx, and a lease holds | the provider's result |
//! | is down | a provider | anything else | the primary's own error |
//!
//! *Down* is no connection, no answer in time, an answer that broke off, or a 5xx; error classes decide, never the
//! words of a message. It fails closed: without the server's consent, nothing is answered locally.
//!
//! A [`FailoverClient`] puts it together over a [`Client`](crate::client::Client): [`LocalLlm`]s made from
//! [`ProviderSettings`] stand in, [`ServerPermission`] asks the server, and a [`LeaseBook`] keeps the
//! [leases](crate::lease) that the server gives. The caller's token goes to the server alone.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use mcpctl_core::{client::{Client, Token}, failover::{FailoverClient, ProviderSettings, registry_of}};
//! use serde_json::json;
//!
//! # async fn example() -> mcpctl_core::Result<()> {
//! let providers = json!([{"name": "laptop", "type": "ollama", "model": "qwen3", "url": "http://127.0.0.1:11434",
//!                         "failoverFor": ["gpt"]}]);
//! let providers = Arc::new(registry_of(ProviderSettings::list(&providers)?)?);
//! let client = Client::new("http://127.0.0.1:3100", Some(Token::new("…")))?;
//! let client = FailoverClient::new(&client, providers, None);
//! let question = json!({"messages": [{"role": "user", "content": "Hello?"}]});
//! match client.infer("gpt", &question).await {
//!     Ok(routed) => println!("{} ({})", routed.value, routed.decision),
//!     Err(not) => println!("{} ({})", not.error, not.decision),
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod down;
mod endpoint;
mod forward;
mod lease_store;
mod leases;
mod local;
pub mod managed;
mod permission;
mod providers;
mod relay;
mod router;
mod settings;

pub use client::FailoverClient;
pub use forward::{Call, Forwarded, Passed, PassedBody};
pub use lease_store::{FileLeases, Kept, LeaseStore, MemoryLeases};
pub use leases::LeaseBook;
pub use local::{LocalAnswer, LocalLlm, registry_of};
pub use permission::ServerPermission;
pub use providers::{Provider, ProviderRegistry};
pub use relay::LocalBody;
pub use router::{Consent, Decision, Down, FailoverRouter, NotRouted, Permission, Routed};
pub use settings::{ProviderSettings, ProviderType, Surroundings};
