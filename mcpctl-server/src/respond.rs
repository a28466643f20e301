//! Responses, and how errors look in them.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use mcpctl_core::{Error, ErrorKind, adapter::anthropic_error_type, gateway::AnswerBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::stall::{Stalled, Watched};

/// Every response carries its request's id.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A response's body.
pub(crate) enum Body {
    /// All of it.
    Full(Full<Bytes>),
    /// An Llm's answer.
    Answer(AnswerBody),
    /// Events, as they happen.
    Events(mpsc::Receiver<Bytes>),
    /// A streamed answer over HTTP/2.
    Watched(Watched),
}

impl Body {
    /// The same body for a connection that others share: an answer that its client does not read comes to an end.
    pub(crate) fn watched(self, patience: Duration) -> Self {
        match self {
            Self::Answer(body) if body.size_hint().exact().is_none() => {
                Self::Watched(Watched::new(body, patience))
            }
            other => other,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        let polled = match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(cx),
            Self::Answer(body) => Pin::new(body).poll_frame(cx),
            Self::Events(events) => return events.poll_recv(cx).map(|event| Some(Ok(Frame::data(event?)))),
            Self::Watched(body) => return body.poll_frame(cx),
        };
        polled.map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Answer(body) => body.is_end_stream(),
            Self::Events(_) | Self::Watched(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Answer(body) => body.size_hint(),
            Self::Events(_) | Self::Watched(_) => SizeHint::default(),
        }
    }
}

/// A request that is not carried out: a status, a message that is safe to show, and headers.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which API a request speaks: errors look as its clients expect them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"error": "<message>"}`.
    Mcpctl,
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
}

impl Dialect {
    pub(crate) fn of_path(path: &str) -> Self {
        // Below an Llm's own path, the same paths follow.
        let below =
            path.strip_prefix("/api/v1/llms/").and_then(|rest| rest.split_at_checked(rest.find('/')?));
        match below.map_or(path, |(_, path)| path) {
            "/v1/messages" | "/v1/messages/count_tokens" => Self::Anthropic,
            path if path.starts_with("/v1/") => Self::OpenAi,
            _ => Self::Mcpctl,
        }
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such route")
    }

    pub(crate) fn wrong_method(allow: &str) -> Self {
        let mut refusal =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed; expected {allow}"));
        refusal.set(ALLOW, allow);
        refusal
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }

    pub(crate) fn into_response(self, dialect: Dialect) -> Response<Body> {
        let body = match dialect {
            Dialect::Mcpctl => json!({"error": self.message}),
            Dialect::OpenAi => {
                let (ty, code) = openai_words(self.status);
                json!({"error": {"message": self.message, "type": ty, "param": null, "code": code}})
            }
            Dialect::Anthropic => {
                let ty = anthropic_error_type(self.status.as_u16());
                json!({"type": "error", "error": {"type": ty, "message": self.message}})
            }
        };
        let mut response = json_response(self.status, &body);
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if error.kind() == ErrorKind::Unavailable && error.source().is_none() {
            // Overload: it is counted, and a line for each refusal would be one load more.
            tracing::debug!(error = error.message(), "request refused");
        } else if status.is_server_error() {
            tracing::error!(status = status.as_u16(), error = error.chain(), "request failed");
        }
        let mut refusal = Self::new(status, error.message());
        if status == StatusCode::UNAUTHORIZED {
            refusal.set(WWW_AUTHENTICATE, "Bearer");
        }
        let overloaded = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        let wait = error.retry_after().or(overloaded.then_some(Duration::from_secs(5)));
        if let Some(wait) = wait {
            refusal.set(RETRY_AFTER, &wait.as_secs().max(1).to_string());
        }
        refusal
    }
}

/// `type` and `code` as OpenAI's API words them.
const fn openai_words(status: StatusCode) -> (&'static str, Option<&'static str>) {
    match status.as_u16() {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", Some("permission_denied")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        502 | 504 => ("provider_error", Some("provider_unavailable")),
        _ => ("server_error", None),
    }
}

/// A JSON response. It is for this caller alone, so nothing may keep it.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Full(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(hyper::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A response without a body.
pub(crate) fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Full(Full::default()));
    *response.status_mut() = status;
    response
}
