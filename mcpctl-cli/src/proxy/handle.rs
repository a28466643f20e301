//! What the proxy answers.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{self, CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};
use mcpctl_core::{
    adapter::Api,
    failover::{Call, Decision, Passed},
    gateway::{BodyFault, read_whole},
};
use serde_json::json;

use super::{
    Proxy,
    answer::{Body, Dialect, Refusal, json_response, passed},
    control,
};

/// The largest body, in bytes: as large as the server takes.
const MAX_BODY: usize = 10 << 20;
/// How long a body may take.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(60);
/// How much of a body is read that nobody wants, and for how long: an answer that comes with a reset is lost.
const MAX_UNWANTED: usize = 256 << 10;
const UNWANTED_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// What goes on to the server of a request's headers. All else stays here, credentials before all.
static PASSED_ON: [HeaderName; 10] = [
    header::ACCEPT,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-request-id"),
];

impl Proxy {
    /// Answers a request.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (parts, mut body) = request.into_parts();
        let began = Instant::now();
        let dialect = Dialect::of_path(parts.uri.path());
        let mut asked = String::new();
        let answer = match self.guard.admit(&parts.uri, &parts.headers) {
            Ok(origin) => {
                let origin = origin.cloned();
                let answer = self.answer(&parts, &mut body, origin.as_ref(), &mut asked).await;
                (answer, origin)
            }
            Err(refusal) => (Err(refusal), None),
        };
        let (answer, origin) = answer;
        let mut response = match answer {
            Ok(response) => response,
            Err(refusal) => {
                finish_body(&parts.headers, &mut body).await;
                refusal.into_response(dialect)
            }
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            let exposed = HeaderValue::from_static("x-mcpctl-failover, x-request-id, retry-after");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        self.journal.request(|| {
            let (status, took) = (response.status().as_u16(), began.elapsed().as_millis());
            format!("{} {}{asked} {status} in {took} ms", parts.method, parts.uri.path())
        });
        response
    }

    async fn answer(
        self: &Arc<Self>,
        parts: &Parts,
        body: &mut Incoming,
        origin: Option<&HeaderValue>,
        asked: &mut String,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(origin) = origin.filter(|_| parts.method == Method::OPTIONS) {
            return Ok(preflight(origin));
        }
        let path = parts.uri.path();
        if path == "/healthz" {
            require(parts, &Method::GET)?;
            return Ok(json_response(StatusCode::OK, &json!({"status": "ok"})));
        }
        self.guard.authenticate(&parts.headers)?;
        if let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) {
            require(parts, &Method::POST)?;
            let body = whole(&parts.headers, body).await?;
            return self.call(api, passed_on(&parts.headers), body, asked).await;
        }
        if path == "/v1/models" {
            require(parts, &Method::GET)?;
            return self.pass_on(&["v1", "models"], parts).await;
        }
        if let Some(name) = path.strip_prefix("/v1/models/").filter(|name| is_segment(name)) {
            require(parts, &Method::GET)?;
            return self.pass_on(&["v1", "models", name], parts).await;
        }
        if let Some(rest) = path.strip_prefix("/-/") {
            return control::answer(self, &parts.method, rest).await;
        }
        let message = format!("no such route; this proxy has {}, /v1/models and /healthz", apis());
        Err(Refusal::new(StatusCode::NOT_FOUND, "no_such_route", message))
    }

    /// A call of an Llm.
    async fn call(
        &self,
        api: Api,
        headers: HeaderMap,
        body: Bytes,
        asked: &mut String,
    ) -> Result<Response<Body>, Refusal> {
        let call = Call::new(api, headers, body);
        let llm = call.llm().unwrap_or_default().to_owned();
        let forwarded = self.calls.forward(call).await;
        let via = forwarded.via.as_deref();
        *asked = format!(" {llm}{}", via.map(|via| format!(" via={via}")).unwrap_or_default());
        if let Some(failure) = &forwarded.failure {
            self.journal.failed(&llm, via, &forwarded.decision, failure);
        }
        match forwarded.answer {
            Ok(answer) => {
                self.heed_login(&answer);
                Ok(passed(answer, via, &forwarded.decision))
            }
            Err(error) => {
                let mut refusal = Refusal::from(error);
                // Nobody else has said anything, so it can be said here.
                refusal.message = format!("{} (failover: {})", refusal.message, forwarded.decision);
                Err(refusal)
            }
        }
    }

    /// A question that only the server can answer.
    async fn pass_on(&self, path: &[&str], parts: &Parts) -> Result<Response<Body>, Refusal> {
        let headers = passed_on(&parts.headers);
        let answer = self.calls.client().forward(Method::GET, path, headers, Bytes::new()).await?;
        if answer.status.is_redirection() {
            let message = "the server's URL redirects elsewhere, which is not followed";
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, "server_unreachable", message));
        }
        let answer = Passed::from(answer);
        self.heed_login(&answer);
        Ok(passed(answer, None, &Decision::Primary))
    }

    fn heed_login(&self, answer: &Passed) {
        if answer.status == StatusCode::UNAUTHORIZED {
            self.journal.unauthenticated();
        }
    }
}

/// One segment of a path as it is, which needs no decoding: names of Llms do not.
fn is_segment(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    !name.is_empty() && ![".", ".."].contains(&name) && name.bytes().all(plain)
}

fn apis() -> String {
    Api::ALL.map(Api::path).join(", ")
}

fn require(parts: &Parts, method: &Method) -> Result<(), Refusal> {
    if parts.method == *method {
        return Ok(());
    }
    let message = format!("method not allowed; expected {method}");
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(PASSED_ON.len());
    for name in &PASSED_ON {
        for value in headers.get_all(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

async fn whole(headers: &HeaderMap, body: &mut Incoming) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {MAX_BODY} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    read_whole(body, MAX_BODY, BODY_TIME).await.map_err(|fault| match fault {
        BodyFault::TooLong => too_large(),
        BodyFault::TooSlow => {
            let message = "the body took too long to arrive";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
        }
        BodyFault::Broken(_) => Refusal::new(StatusCode::BAD_REQUEST, "body_broke_off", "the body broke off"),
    })
}

/// Reads what is left of a body that is not wanted. A client that waits to be told to send it is not told.
async fn finish_body(headers: &HeaderMap, body: &mut Incoming) {
    if !body.is_end_stream() && !headers.contains_key(EXPECT) {
        let _ = read_whole(body, MAX_UNWANTED, UNWANTED_TIME).await;
    }
}

/// What a browser asks before it lets a page ask.
fn preflight(origin: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::Full(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let wanted = HeaderValue::from_static(
        "authorization, x-api-key, content-type, accept, anthropic-version, anthropic-beta, \
         anthropic-dangerous-direct-browser-access, x-stainless-arch, x-stainless-lang, x-stainless-os, \
         x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, \
         x-stainless-runtime-version, x-stainless-timeout, x-stainless-helper-method",
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_and_no_cookie_goes_on() {
        let mut headers = HeaderMap::new();
        for name in
            ["authorization", "x-api-key", "cookie", "proxy-authorization", "host", "impersonate-user"]
        {
            headers.insert(name, HeaderValue::from_static("t0p"));
        }
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        let kept = passed_on(&headers);
        assert_eq!(kept.len(), 1, "{kept:?}");
    }

    #[test]
    fn a_model_s_name_is_one_segment() {
        for (name, expected) in
            [("gpt-4o", true), ("a.b", true), ("", false), ("..", false), ("a/b", false), ("a%2fb", false)]
        {
            assert_eq!(is_segment(name), expected, "{name}");
        }
    }
}
