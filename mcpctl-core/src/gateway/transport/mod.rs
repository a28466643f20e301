//! Ways to providers: which one, how a name becomes an address, HTTP/1.1 in the caller's own task, and the provider
//! that is a program.

mod counted;
mod home;
mod program;
mod resolver;
mod upstream;
mod way;

pub(super) use counted::Connections;
pub use program::GeminiProgram;
pub(super) use program::Invocation;
pub(super) use way::{Fault, FaultKind, ProviderBody, Transport, Way};
