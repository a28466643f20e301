//! Calls, and the two ways to wait for one.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use mcpctl_core::Result;
use pyo3::{IntoPyObjectExt as _, exceptions::PyRuntimeError, prelude::*};
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::{
    convert::to_python,
    errors::exception,
    registry::Registry,
    runtime::{runtime, wait},
    stream::ChunkStream,
};

/// What a call comes to.
pub(crate) enum Output {
    /// Nothing but that it is done.
    Done,
    /// A JSON value.
    Json(Value),
    /// An answer in chunks.
    Stream(ChunkStream),
    /// An embedded core.
    Registry(Registry),
    /// What only the interpreter can make: an exception, or several things at once.
    With(Finish),
}

type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

impl Output {
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Done => Ok(py.None()),
            Self::Json(value) => Ok(to_python(py, &value)?.unbind()),
            Self::Stream(stream) => stream.into_py_any(py),
            Self::Registry(registry) => registry.into_py_any(py),
            Self::With(finish) => finish(py),
        }
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Output>> + Send>>;

/// A call that begins when it is waited for, which happens once.
#[pyclass(frozen, module = "mcpctl._native")]
pub(crate) struct Call(Mutex<Option<Work>>);

impl Call {
    pub(crate) fn new(work: impl Future<Output = Result<Output>> + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::pin(work))))
    }

    fn begin(&self) -> PyResult<Work> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.ok_or_else(|| PyRuntimeError::new_err("this call has been waited for already"))
    }
}

#[pymethods]
impl Call {
    /// Waits, without holding up other Python threads. Ctrl-C ends the call.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match wait(py, self.begin()?)? {
            Ok(output) => output.into_python(py),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// Waits in the running asyncio loop. Cancelling ends the call.
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.begin()?;
        awaitable(py, async move {
            let result = work.await;
            move |py: Python<'_>| match result {
                Ok(output) => output.into_python(py),
                Err(error) => Err(exception(py, &error)),
            }
        })?
        .call_method0("__await__")
    }
}

/// An asyncio future for `work`, which runs at once; what `work` gives is then made a Python object.
pub(crate) fn awaitable<'py, F>(
    py: Python<'py>,
    work: impl Future<Output = F> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>>
where
    F: FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send,
{
    let event_loop = py.import("asyncio")?.call_method0("get_running_loop")?;
    let future = event_loop.call_method0("create_future")?;
    let (event_loop, awaited) = (event_loop.unbind(), future.clone().unbind());
    let task = runtime(py)?.spawn(async move {
        let finish = work.await;
        // Neither a loop that was closed meanwhile nor an interpreter that shuts down has anybody waiting.
        let _ = Python::try_attach(|py| {
            let (done, value) = match finish(py) {
                Ok(value) => (true, value),
                Err(error) => (false, error.into_value(py).into_any()),
            };
            let settle = wrap_pyfunction!(settle, py)?;
            event_loop.call_method1(py, "call_soon_threadsafe", (settle, awaited, done, value))
        });
    });
    future.call_method1("add_done_callback", (Abandon(task.abort_handle()),))?;
    Ok(future)
}

/// Runs in the loop's thread.
#[pyfunction]
fn settle(future: &Bound<'_, PyAny>, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
    // It may have been cancelled since.
    if !future.call_method0("done")?.is_truthy()? {
        future.call_method1(if done { "set_result" } else { "set_exception" }, (value,))?;
    }
    Ok(())
}

/// Ends a task whose asyncio future is over, which is news to the task only if it was cancelled.
#[pyclass(frozen)]
struct Abandon(AbortHandle);

#[pymethods]
impl Abandon {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        self.0.abort();
    }
}
