//! A stand-in for a provider: speaks OpenAI's and Anthropic's APIs on loopback with canned answers, remembers
//! what it was asked, and misbehaves on demand.

pub mod answer;
pub mod calls;
mod fault;
mod script;
mod stub;
pub mod thinking;

pub use fault::Fault;
pub use stub::{BlackHole, Provider, Received, refusing_url};
