//! Connections to providers: which way, how a name becomes an address, and HTTP/1.1 in the caller's own task.

mod counted;
mod resolver;
mod upstream;
mod way;

pub(super) use counted::Connections;
pub(super) use way::{Fault, ProviderBody, Transport, Way, describe};
