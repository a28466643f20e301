//! Codecs of what travels between clients, this server and providers: pure, no I/O, not async.
//!
//! [`sse`] reads and writes server-sent events, and [`request`] reads just enough of a request's body to route it
//! and to splice a few fields into it. What a provider's own format looks like is the business of
//! [`adapter`](crate::adapter).

pub mod request;
pub mod sse;

pub use request::{ChatRequest, Edits, MAX_DEPTH, MAX_FIELDS, Required};
pub use sse::{DONE, SseDecoder, SseError, SseEvent};
