//! Exceptions: one per kind of error.

use mcpctl_core::{Error, ErrorKind, failover::Down as _};
use pyo3::{create_exception, exceptions::PyException, prelude::*, types::PyType};

create_exception!(
    mcpctl,
    McpctlError,
    PyException,
    "The base of everything that goes wrong.\n\n\
     Attributes:\n    \
     status: the HTTP status that stands for it.\n    \
     retryable: whether the same call may succeed later, unchanged.\n    \
     retry_after: how many seconds to wait before that, or None when that is not known.\n    \
     down: whether the server, or the provider behind it, is down, rather than that it refused.\n    \
     mcpctl_decision: why no local provider answered, or None when no `FailoverRouter` was asked."
);

/// The one table: every kind of error and its exception. A kind that is missing here does not compile.
macro_rules! exceptions {
    ($($kind:ident => $name:ident($base:ident), $doc:literal;)+) => {
        $(create_exception!(mcpctl, $name, $base, $doc);)+

        fn class(py: Python<'_>, kind: ErrorKind) -> Bound<'_, PyType> {
            match kind {
                $(ErrorKind::$kind => py.get_type::<$name>(),)+
            }
        }

        const KINDS: &[(ErrorKind, &str)] = &[$((ErrorKind::$kind, stringify!($name)),)+];
    };
}

exceptions! {
    Invalid => InvalidError(McpctlError), "The input is malformed or failed validation; the message lists every fault.";
    Unauthenticated => UnauthenticatedError(McpctlError), "No token, or one that is unknown, expired or revoked.";
    Forbidden => ForbiddenError(McpctlError), "The permission that the message names is missing.";
    NotFound => NotFoundError(McpctlError), "There is no such resource.";
    Conflict => ConflictError(McpctlError), "The name is taken, the version is stale, or the resource is in use.";
    TooLarge => TooLargeError(McpctlError), "The input is over a size limit.";
    RateLimited => RateLimitedError(McpctlError), "Too many calls; see `retry_after`.";
    Unavailable => UnavailableError(McpctlError), "The server or its database cannot be reached, or is overloaded.";
    Sealed => SealedError(McpctlError), "The master key does not fit the stored values.";
    SecretUnavailable => SecretUnavailableError(McpctlError), "A stored secret value cannot be read.";
    NotImplemented => UnsupportedError(McpctlError), "The request is understood, and this build cannot serve it.";
    Provider => ProviderError(McpctlError), "The provider could not be reached, broke off, or answered rubbish.";
    ProviderTimeout => ProviderTimeoutError(ProviderError), "The provider did not answer in time.";
    Internal => InternalError(McpctlError), "A fault of mcpctl itself.";
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let raised = PyErr::from_type(class(py, error.kind()), error.message().to_owned());
    let wait = error.retry_after().map(|wait| wait.as_secs_f64());
    let value = raised.value(py);
    match value.setattr("retry_after", wait).and_then(|()| value.setattr("down", error.is_down())) {
        Ok(()) => raised,
        Err(fault) => fault,
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = py.get_type::<McpctlError>();
    // So that the attributes are there on exceptions that a test raises by hand.
    base.setattr("retry_after", py.None())?;
    base.setattr("retryable", false)?;
    base.setattr("status", 500)?;
    base.setattr("down", true)?;
    base.setattr("mcpctl_decision", py.None())?;
    module.add("McpctlError", base)?;
    for (kind, name) in KINDS {
        let class = class(py, *kind);
        class.setattr("status", kind.status())?;
        let plain = Error::new(*kind, "");
        class.setattr("retryable", plain.is_retryable())?;
        class.setattr("down", plain.is_down())?;
        module.add(*name, class)?;
    }
    Ok(())
}
