//! The proxy's answers: those of others, passed on, and its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mcpctl_core::{
    Error,
    adapter::{Api, anthropic_error_type},
    failover::{Decision, Passed, PassedBody},
};
use serde_json::{Value, json};

/// Says of an answer that a local provider gave it, and which.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-mcpctl-failover");
/// The server's proof for this very client, which is of no use to anybody else.
const LEASE: HeaderName = HeaderName::from_static("x-mcpctl-lease");

/// What belongs to one connection and not to the answer on it, and what a web page could be made to keep.
static NOT_PASSED_ON: [HeaderName; 14] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::SET_COOKIE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    header::LOCATION,
    HeaderName::from_static("keep-alive"),
    LEASE,
    MARK,
];

/// A response's body.
pub(super) enum Body {
    /// All of it.
    Full(Option<Bytes>),
    /// Somebody else's.
    Passed(PassedBody),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passed(body) => {
                Pin::new(body).poll_next(context).map(|next| next.map(|read| read.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Passed(body) => body.length() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = match self {
            Self::Full(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Passed(body) => body.length(),
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Which API a request speaks: errors look as its clients expect them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
}

impl Dialect {
    pub(super) fn of_path(path: &str) -> Self {
        let api = Api::ALL.into_iter().find(|api| api.path() == path);
        if api.is_some_and(Api::is_anthropic) { Self::Anthropic } else { Self::OpenAi }
    }
}

/// A request that the proxy itself turns down.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// For machines.
    pub(super) code: &'static str,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code }
    }

    pub(super) fn into_response(self, dialect: Dialect) -> Response<Body> {
        let status = self.status.as_u16();
        let body = match dialect {
            Dialect::OpenAi => {
                let ty = if status < 500 { "invalid_request_error" } else { "server_error" };
                json!({"error": {"message": self.message, "type": ty, "param": null, "code": self.code}})
            }
            Dialect::Anthropic => {
                let ty = anthropic_error_type(status);
                json!({"type": "error", "error": {"type": ty, "message": self.message}})
            }
        };
        let mut response = json_response(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::BAD_GATEWAY);
        Self::new(status, "server_unreachable", error.message())
    }
}

/// A JSON response. It is for this caller alone, so nothing may keep it.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Full(Some(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Somebody else's answer as it is; marked when it is a local provider's.
pub(super) fn passed(answer: Passed, via: Option<&str>, decision: &Decision) -> Response<Body> {
    let Passed { status, mut headers, body } = answer;
    NOT_PASSED_ON.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(via) = via {
        mark(&mut headers, via, decision);
    }
    let mut response = Response::new(Body::Passed(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn mark(headers: &mut HeaderMap, via: &str, decision: &Decision) {
    let lease = if *decision == Decision::Leased { "; lease" } else { "" };
    // A provider's name fits a header: it is a label.
    if let Ok(value) = HeaderValue::from_str(&format!("via={via}{lease}")) {
        headers.insert(MARK, value);
    }
}
