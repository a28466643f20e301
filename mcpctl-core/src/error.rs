//! The one error type of this crate.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// What went wrong, as far as a caller can act on it.
///
/// Exhaustive on purpose: a wrapper maps every kind to its own status, exit code or exception in one table
/// without a catch-all arm, so that a new kind cannot be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input is malformed, or failed validation.
    Invalid,
    /// No credential, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// A known principal without the permission.
    Forbidden,
    /// No such resource.
    NotFound,
    /// The name is taken, the version is stale, or the resource is in use.
    Conflict,
    /// The input is over a size limit.
    TooLarge,
    /// The caller sends more than it may; see [`Error::retry_after`].
    RateLimited,
    /// The store is away or the process is overloaded; see [`Error::retry_after`].
    Unavailable,
    /// The master key does not fit the stored values, so nothing that needs them can be done.
    Sealed,
    /// A stored secret value cannot be read: its backend failed, or its ciphertext was tampered with.
    SecretUnavailable,
    /// The request is understood, and this build cannot serve it.
    NotImplemented,
    /// The provider could not be reached, broke off, or answered rubbish.
    Provider,
    /// The provider did not answer in time.
    ProviderTimeout,
    /// Our own fault. The message is safe to show; the cause is for the log.
    Internal,
}

impl ErrorKind {
    /// The HTTP status that reports an error of this kind.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::SecretUnavailable | Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::Provider => 502,
            Self::Unavailable | Self::Sealed => 503,
            Self::ProviderTimeout => 504,
        }
    }

    /// The kind of failure that an HTTP status stands for, as far as a status tells: the counterpart of
    /// [`status`](Self::status).
    pub const fn from_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            501 => Self::NotImplemented,
            502 => Self::Provider,
            503 => Self::Unavailable,
            504 => Self::ProviderTimeout,
            500.. => Self::Internal,
            _ => Self::Invalid,
        }
    }
}

/// An error with its kind, a message that is safe to show to the caller, and its cause.
///
/// The message never holds a secret value, a token or a password. [`fmt::Display`] prints the message alone;
/// the chain of causes is for logs.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose `message` is safe to show to the caller.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let inner = Inner { kind, message: message.into(), operation: None, retry_after: None, source: None };
        Self(Box::new(inner))
    }

    /// Bad input.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A missing resource.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A clash with what is stored.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// A fault of ours. `cause` goes to the log, never to the caller.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            ErrorKind::Internal,
            "internal error; the server's log has the cause under this request's id",
        )
        .caused_by(cause)
    }

    /// Something we depend on is away; trying again after `retry_after` may help.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut error = Self::new(ErrorKind::Unavailable, message);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// The caller must slow down; trying again after `retry_after` may help.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut error = Self::new(ErrorKind::RateLimited, message);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// Adds the cause, for logs.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// Adds the operation that failed, for logs: `"store.commit"`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Puts `context` in front of the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message).into();
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What to tell the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long to wait before another try, when that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same call may succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::RateLimited
            | ErrorKind::Unavailable
            | ErrorKind::Provider
            | ErrorKind::ProviderTimeout
            | ErrorKind::SecretUnavailable => true,
            ErrorKind::Invalid
            | ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::Sealed
            | ErrorKind::NotImplemented
            | ErrorKind::Internal => false,
        }
    }

    /// Whether the resource does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// Whether somebody else's change came first, or the name is taken.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// The message with the operation and the whole chain of causes, for logs.
    pub fn chain(&self) -> String {
        let mut text = String::new();
        if let Some(operation) = self.0.operation {
            text.push_str(operation);
            text.push_str(": ");
        }
        text.push_str(&self.0.message);
        let mut cause = self.source();
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
