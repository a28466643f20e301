//! Whether an exception of whatever library means that the server, or the provider behind it, is down.

use mcpctl_core::failover::Down;
use pyo3::{
    exceptions::{PyConnectionError, PyException, PyOSError, PyTimeoutError},
    prelude::*,
    types::{PyTuple, PyType},
};

use crate::errors::McpctlError;

/// What a primary that is Python's own failed with, as far as failover needs to know it.
pub(crate) struct Failure {
    down: bool,
    /// Of the answer, when there was one.
    pub(crate) status: Option<u16>,
}

impl Down for Failure {
    fn is_down(&self) -> bool {
        self.down
    }
}

/// Exceptions of libraries that this package does not import, by package and class: no connection, no answer in time,
/// or an answer that broke off. Their subclasses count as well.
const CLASSES: &[(&str, &str)] = &[
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("anthropic", "APIConnectionError"),
    ("http", "IncompleteRead"),
    ("httpcore", "NetworkError"),
    ("httpcore", "RemoteProtocolError"),
    ("httpcore", "TimeoutException"),
    ("httpx", "NetworkError"),
    ("httpx", "RemoteProtocolError"),
    ("httpx", "TimeoutException"),
    ("openai", "APIConnectionError"),
    ("requests", "ChunkedEncodingError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("socket", "gaierror"),
    ("ssl", "SSLError"),
];

/// Waiting for a connection of one's own pool says nothing about the server.
const NOT_DOWN: &[(&str, &str)] = &[("httpcore", "PoolTimeout"), ("httpx", "PoolTimeout")];

/// `errno` of an `OSError` for which Python has no class: no way to the server.
const NO_WAY: &[&str] = &["EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH"];

/// Exceptions may hold each other in a ring.
const MAX_REASONS: usize = 8;

impl Failure {
    /// Decided by the status of an answer when there was one, else by class and `errno`; never by the words of a message.
    pub(crate) fn of(error: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut error = error.clone();
        for _ in 0..MAX_REASONS {
            if error.is_instance_of::<McpctlError>() {
                // Known since it was made from the core's own error.
                return Ok(Self {
                    down: error.getattr("down")?.is_truthy()?,
                    status: number(&error, "status"),
                });
            }
            if let Some(status) = status(&error)? {
                return Ok(Self { down: status >= 500, status: Some(status) });
            }
            // What urllib raises is an `OSError` around the one that says why.
            match error.getattr_opt("reason")?.filter(|reason| reason.is_instance_of::<PyOSError>()) {
                Some(reason) => error = reason,
                None => break,
            }
        }
        Ok(Self { down: is_down(&error)?, status: None })
    }

    /// Of an exception whose own attributes raise: it fails closed. But Ctrl-C is Ctrl-C.
    pub(crate) fn unknown(py: Python<'_>, fault: PyErr) -> PyResult<Self> {
        if fault.is_instance_of::<PyException>(py) {
            return Ok(Self { down: false, status: None });
        }
        Err(fault)
    }
}

/// The status of the answer that an exception stands for.
fn status(error: &Bound<'_, PyAny>) -> PyResult<Option<u16>> {
    if let Some(status) = number(error, "status_code") {
        return Ok(Some(status));
    }
    // httpx and requests keep the answer.
    if let Some(response) = error.getattr_opt("response").ok().flatten()
        && let Some(status) = number(&response, "status_code")
    {
        return Ok(Some(status));
    }
    for (package, class, attribute) in
        [("urllib", "HTTPError", "code"), ("aiohttp", "ClientResponseError", "status")]
    {
        if has_class(error, &[(package, class)])? {
            return Ok(number(error, attribute));
        }
    }
    Ok(None)
}

fn number(object: &Bound<'_, PyAny>, name: &str) -> Option<u16> {
    // Some attributes raise while there is no answer.
    let number = object.getattr(name).ok()?.extract().ok()?;
    (100..600).contains(&number).then_some(number)
}

fn is_down(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    if has_class(error, NOT_DOWN)? {
        return Ok(false);
    }
    let py = error.py();
    if error.is_instance_of::<PyConnectionError>()
        || error.is_instance_of::<PyTimeoutError>()
        // Up to Python 3.10 it is another.
        || error.is_instance(&py.import("asyncio")?.getattr("TimeoutError")?)?
        || has_class(error, CLASSES)?
    {
        return Ok(true);
    }
    if !error.is_instance_of::<PyOSError>() {
        return Ok(false);
    }
    let known = py.import("errno")?;
    let errno = error.getattr("errno")?;
    for name in NO_WAY {
        if !errno.is_none() && known.getattr_opt(*name)?.map_or(Ok(false), |value| errno.eq(value))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_class(error: &Bound<'_, PyAny>, classes: &[(&str, &str)]) -> PyResult<bool> {
    let bases: Bound<'_, PyTuple> = error.get_type().mro();
    for base in bases.iter() {
        let base = base.cast::<PyType>()?;
        let (module, name) = (base.module()?, base.name()?);
        let (module, name) = (module.to_cow()?, name.to_cow()?);
        let package = module.split('.').next().unwrap_or_default();
        if classes.contains(&(package, &name)) {
            return Ok(true);
        }
    }
    Ok(false)
}
