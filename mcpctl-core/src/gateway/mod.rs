//! The data plane: one request, from a token to a provider's answer.
//!
//! `pipeline.rs` reads as the list of steps. Where a request goes and which credential it carries is decided in
//! one place, `destination.rs`, from the stored Llm alone.

mod account;
mod admission;
#[cfg(test)]
mod allocation_tests;
mod answer;
mod ask;
mod body;
mod destination;
mod first_token;
mod meters;
mod metrics;
mod pipeline;
mod redact;
mod relay;
mod revocation;
mod span;
mod transport;

pub use answer::{Answer, AnswerBody};
pub use ask::{Ask, Target};
pub use body::{BodyFault, read_whole};
pub use pipeline::{Gateway, GatewaySettings, Model};
pub use span::{Propagate, SPANS};
pub use transport::GeminiProgram;
