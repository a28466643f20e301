//! Traces for OpenTelemetry: off unless there is somewhere to send them, and free while they are off.

mod export;
mod provider;
mod spans;

pub use provider::Telemetry;
pub use spans::traceparent;
pub(crate) use spans::{answered, request_span, routed};
