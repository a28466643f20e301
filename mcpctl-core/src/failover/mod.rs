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
//! | is down | a provider | forbidden, or nothing | the primary's own error |
//!
//! *Down* is no connection, no answer in time, an answer that broke off, or a 5xx; error classes decide, never the
//! words of a message. It fails closed: without the server's consent, nothing is answered locally.

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
