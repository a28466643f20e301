//! The numbers as Prometheus reads them, in the OpenMetrics text format.
//!
//! A label is an Llm that exists, or one of a few words that are written here: nothing that a caller or a provider
//! says becomes one.

mod behind;
mod calls;
mod expose;
mod process;
mod write;

pub(super) use expose::expose;
