//! The threads on which everything runs: two, shared by the whole process, started at the first use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcpctl_core::{Error, Result};
use pyo3::prelude::*;
use tokio::{runtime::Runtime, time::timeout};

const WORKERS: usize = 2;
/// How often a thread that waits looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Only locked while attached to the interpreter, as `os.fork` is: a child never finds it locked.
static CURRENT: Mutex<Option<(Process, Arc<Runtime>)>> = Mutex::new(None);

/// A process. Connections and tasks do not survive a fork, so what has them remembers where it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Fails in a child of the process.
    pub(crate) fn check(self) -> Result<()> {
        if self == Self::current() {
            return Ok(());
        }
        Err(Error::invalid("this object was made before the process was forked: make a new one in the child"))
    }
}

/// The runtime of this process.
pub(crate) fn runtime(_: Python<'_>) -> PyResult<Arc<Runtime>> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let process = Process::current();
    match current.take() {
        Some((owner, runtime)) if owner == process => {
            *current = Some((owner, runtime.clone()));
            return Ok(runtime);
        }
        // A forked child: the threads are the parent's, and waiting for their end would take for ever.
        Some((_, runtime)) => std::mem::forget(runtime),
        None => {}
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = Arc::new(builder.worker_threads(WORKERS).thread_name("mcpctl").enable_all().build()?);
    *current = Some((process, runtime.clone()));
    Ok(runtime)
}

/// Waits without holding up other Python threads. Ctrl-C ends it: the future is dropped then.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = runtime(py)?;
    let patient = async {
        let mut future = std::pin::pin!(future);
        loop {
            match timeout(TICK, &mut future).await {
                Ok(done) => return Ok(done),
                // `None` when the interpreter is shutting down: then there is no Ctrl-C to look for.
                Err(_) => Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(()))?,
            }
        }
    };
    py.detach(|| runtime.block_on(patient))
}
