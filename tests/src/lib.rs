//! The harness of the black-box tests: a scriptable provider, the real server as a process, a client that
//! remembers everything it saw, a private PostgreSQL, and the search for secrets in all of it.

pub mod api;
pub mod canary;
pub mod chaos;
pub mod collector;
pub mod evaluator;
pub mod http1;
pub mod openbao;
pub mod postgres;
pub mod provider;
pub mod server;
pub mod sse;
pub mod wait;

pub use api::{Api, Reply};
pub use canary::Canary;
pub use collector::{Collector, Exported, Mood};
pub use openbao::OpenBao;
pub use provider::{Fault, Provider};
pub use server::{Server, ServerOptions};
pub use wait::{eventually, eventually_within, within};
