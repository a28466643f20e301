//! Spans of requests, and how they are linked to those of others.

use http::HeaderName;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{AsHeaderName, HeaderValue},
};
use mcpctl_core::gateway::SPANS;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::routes::Route;

/// The length of a `traceparent` of the version there is.
const TRACEPARENT_LENGTH: usize = 55;
/// How much `tracestate` is kept: what everybody must be able to pass on.
const MOST_TRACESTATE: usize = 512;

/// The span of a request, inside that of the caller if it told of one. A path is not noted: it may name a user.
pub(crate) fn request_span(method: &Method, headers: &HeaderMap, id: &HeaderValue) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = known(method),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = known(method),
        http.route = Empty,
        http.response.status_code = Empty,
        error.r#type = Empty,
        mcpctl.request.id = id.to_str().unwrap_or_default(),
    );
    if !span.is_disabled() {
        let around = TraceContextPropagator::new().extract(&Caller(headers));
        if around.span().span_context().is_valid() {
            // Fails for a span that has begun, and this one has not.
            let _ = span.set_parent(around);
        }
    }
    span
}

/// Notes the route of a request.
pub(crate) fn routed(span: &Span, method: &Method, route: &Route) {
    if !span.is_disabled() {
        span.record("otel.name", format!("{} {}", known(method), route.path));
        span.record("http.route", route.path.as_str());
    }
}

/// Notes how a request was answered.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    if !span.is_disabled() {
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.record("error.type", status.as_str());
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The `traceparent` that stands for a span. One that is not sampled has one too, which says so: whoever gets it
/// then does not sample either, and the trace stays one.
pub fn traceparent(span: &Span) -> Option<HeaderValue> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let sampled = u8::from(span.is_sampled());
    HeaderValue::from_str(&format!("00-{}-{}-{sampled:02x}", span.trace_id(), span.span_id())).ok()
}

/// What is written for a method: a caller may make one up.
fn known(method: &Method) -> &str {
    const METHODS: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    if METHODS.contains(method) { method.as_str() } else { "_OTHER" }
}

/// The caller's headers, as far as they tell of a span: exactly one `traceparent`, and a `tracestate` that is
/// not too long.
struct Caller<'a>(&'a HeaderMap);

impl Caller<'_> {
    fn only(&self, name: impl AsHeaderName) -> Option<&str> {
        let mut values = self.0.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }
}

impl Extractor for Caller<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.only(key)?;
        let fits = match key {
            "traceparent" => {
                let later = value.get(..2) != Some("00") && value.len() > TRACEPARENT_LENGTH;
                value.len() == TRACEPARENT_LENGTH || later
            }
            _ => value.len() <= MOST_TRACESTATE,
        };
        fits.then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        TraceContextPropagator::new().extract(&Caller(&headers)).span().span_context().is_valid()
    }

    #[test]
    fn only_a_good_traceparent_counts() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parent(&[good]));
        assert!(parent(&["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes-later"]));
        for bad in [
            "",
            "00-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert!(!parent(&[bad]), "{bad}");
        }
        assert!(!parent(&[good, good]), "two say nothing");
        assert!(!parent(&[]));
    }

    #[test]
    fn nothing_is_told_of_a_span_that_nobody_traces() {
        assert_eq!(traceparent(&Span::none()), None);
        let span = request_span(&Method::GET, &HeaderMap::new(), &HeaderValue::from_static("id"));
        assert!(span.is_disabled());
        assert_eq!(traceparent(&span), None);
    }
}
