//! The native half of the Python package `mcpctl`. What users see is in `python/mcpctl`: it turns each
//! [`call::Call`] into a function that waits or a coroutine, and knows the types.

mod call;
mod client;
mod convert;
mod down;
mod errors;
mod failover;
mod registry;
mod runtime;
mod stream;

use mcpctl_core::resource::kinds;
use pyo3::{prelude::*, types::PyTuple};

/// The native half of `mcpctl`; use that instead.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    module.add_class::<call::Call>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<failover::Failover>()?;
    module.add_class::<registry::Registry>()?;
    module.add_class::<stream::ChunkStream>()?;
    module.add("KINDS", PyTuple::new(module.py(), kinds::ALL.iter().map(|kind| kind.plural))?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
