//! What goes wrong between client and server, said so that the reader knows what to do.

use std::{error::Error as StdError, fmt, io, time::Duration};

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// Why a server gave no answer of its own. It is the [source](StdError::source) of such an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing listens there.
    Refused,
    /// The host's name has no address.
    UnknownHost,
    /// The connection is not trusted or not encrypted as expected.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection could not be made, or broke off, for another reason.
    Broken,
    /// Something answers there, and it is not this server.
    NotOurs {
        /// The HTTP status of a refusal: that of a reverse proxy in front of a server that is down, for example.
        status: Option<u16>,
    },
}

impl Unreachable {
    /// What to do next.
    fn advice(self) -> &'static str {
        match self {
            Self::Refused => "start mcpctl-server there, or use the URL of one that runs",
            Self::UnknownHost => "check the URL's spelling and the network",
            Self::Tls => {
                "check that the URL's scheme fits the server and that this machine trusts its certificate \
                 (SSL_CERT_FILE names another bundle of trusted ones)"
            }
            Self::Timeout => "check that the host is up and no firewall is in between, or try again",
            Self::Broken => "check the network and try again",
            Self::NotOurs { .. } => "check the URL and its port",
        }
    }

    /// The error that says so of the server at `url`.
    pub(super) fn error(self, url: &str, what: impl fmt::Display) -> Error {
        let message = format!("cannot reach mcpctl-server at {url}: {what}; {}", self.advice());
        Error::new(ErrorKind::Unavailable, message).caused_by(self)
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::UnknownHost => "unknown host",
            Self::Tls => "the TLS handshake failed",
            Self::Timeout => "no answer in time",
            Self::Broken => "the connection broke off",
            Self::NotOurs { .. } => "what answered is not mcpctl-server",
        })
    }
}

impl StdError for Unreachable {}

/// The error for a request that got no whole answer.
pub(super) fn of_transport(url: &str, failure: &reqwest::Error) -> Error {
    let (cause, detail) = classify(failure);
    match detail {
        Some(detail) => cause.error(url, format_args!("{cause}: {detail}")),
        None => cause.error(url, cause),
    }
}

fn classify(failure: &reqwest::Error) -> (Unreachable, Option<String>) {
    if failure.is_timeout() {
        return (Unreachable::Timeout, None);
    }
    let mut last = None;
    let mut next: Option<&(dyn StdError + 'static)> = failure.source();
    while let Some(cause) = next {
        if let Some(tls) = tls_error(cause) {
            return (Unreachable::Tls, Some(tls.to_string()));
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return (Unreachable::Refused, None),
                io::ErrorKind::TimedOut => return (Unreachable::Timeout, None),
                _ => {}
            }
        }
        // A peer that does not speak HTTP at all is most likely TLS, or another service.
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return (Unreachable::NotOurs { status: None }, Some(cause.to_string()));
        }
        last = Some(cause);
        next = cause.source();
    }
    if failure.is_dns() {
        return (Unreachable::UnknownHost, None);
    }
    (Unreachable::Broken, last.map(ToString::to_string))
}

/// The error for a model server, not mcpctl-server, that gave no whole answer.
pub(super) fn of_model_server(url: &str, failure: &reqwest::Error) -> Error {
    let (cause, detail) = match classify(failure) {
        (Unreachable::NotOurs { .. }, detail) => (Unreachable::Broken, detail),
        other => other,
    };
    let kind = match cause {
        Unreachable::Timeout => ErrorKind::ProviderTimeout,
        _ => ErrorKind::Provider,
    };
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    Error::new(kind, format!("cannot reach {url}: {cause}{detail}")).caused_by(cause)
}

/// rustls's errors travel inside one or more `io::Error`s, whose `source` skips what they hold.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let inner: &(dyn StdError + 'static) = cause.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

/// The error for an answer that is no success: the server's own words under the kind of its status.
pub(super) fn of_answer(url: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    if status.is_redirection() {
        let target =
            headers.get(header::LOCATION).and_then(|target| target.to_str().ok()).unwrap_or("elsewhere");
        let cause = Unreachable::NotOurs { status: Some(status.as_u16()) };
        return cause.error(url, format_args!("it redirects to {target}, which is not followed"));
    }
    let Some(message) = server_message(body) else {
        let what = format_args!("it answered {status} with a body that is not mcpctl-server's");
        return Unreachable::NotOurs { status: Some(status.as_u16()) }.error(url, what);
    };
    let wait = retry_after(headers);
    match (ErrorKind::from_status(status.as_u16()), wait) {
        (ErrorKind::RateLimited, Some(wait)) => Error::rate_limited(message, wait),
        (ErrorKind::Unavailable, Some(wait)) => Error::unavailable(message, wait),
        (kind, _) => Error::new(kind, message),
    }
}

/// `{"error": "…"}`, or a provider's `{"error": {"message": "…"}}`, which inference passes on.
fn server_message(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    message_in(body.get("error")?)
}

/// The text of an `error` member.
pub(super) fn message_in(error: &Value) -> Option<String> {
    let text = error.as_str().or_else(|| error.get("message")?.as_str())?;
    Some(if text.is_empty() { "the server gave no reason".to_owned() } else { text.to_owned() })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        of_answer("http://h:1", status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn the_server_s_words_come_through_under_the_status_s_kind() {
        let error = answer(409, r#"{"error": "llm `gpt` exists"}"#);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "llm `gpt` exists"));
        let error = answer(429, r#"{"error": {"message": "slow down", "type": "rate_limit"}}"#);
        assert_eq!((error.kind(), error.message()), (ErrorKind::RateLimited, "slow down"));
        assert_eq!(answer(405, r#"{"error":"no"}"#).kind(), ErrorKind::Invalid);
        assert_eq!(answer(507, r#"{"error":"no"}"#).kind(), ErrorKind::Internal);
    }

    #[test]
    fn the_time_to_wait_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        let error = of_answer("u", StatusCode::SERVICE_UNAVAILABLE, &headers, br#"{"error":"busy"}"#);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_answer_of_something_else_is_named_as_such() {
        for (status, body) in [(404, "<html>nginx</html>"), (502, ""), (400, r#"{"detail":"x"}"#)] {
            let error = answer(status, body);
            let cause = error.source().and_then(|cause| cause.downcast_ref::<Unreachable>());
            assert_eq!(cause, Some(&Unreachable::NotOurs { status: Some(status) }), "{body}");
            assert!(error.message().contains("http://h:1"), "{error}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, header::HeaderValue::from_static("https://login.example/"));
        let error = of_answer("u", StatusCode::FOUND, &headers, b"");
        assert!(error.message().contains("redirects to https://login.example/"), "{error}");
    }
}
