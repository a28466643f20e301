//! The local endpoint: OpenAI's and Anthropic's APIs on this machine, with the user's own credential and failover.

mod answer;
mod control;
mod guard;
mod handle;
mod journal;
mod listen;
mod note;
mod providers;

pub(crate) use control::{Done, Remote};
pub(crate) use guard::{Guard, Origin};
pub(crate) use journal::{Journal, to_seconds};
pub(crate) use listen::{bind, serve};
pub(crate) use note::{Note, random_token};
pub(crate) use providers::{of_config, shown, stop as stop_providers, try_out};

use mcpctl_core::failover::FailoverClient;

/// What every request of the proxy needs.
pub(crate) struct Proxy {
    /// The server, and who stands in for it.
    pub(crate) calls: FailoverClient,
    /// Who may ask.
    pub(crate) guard: Guard,
    /// What happened.
    pub(crate) journal: Journal,
    /// What others are told of this proxy.
    pub(crate) note: Note,
}
