//! Reading requests: ids, tokens, bodies, queries.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Body as _, Incoming},
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_MATCH},
};
use mcpctl_core::{
    Error,
    gateway::{BodyFault, read_whole},
    resource::{Id, Spec, parse_body},
};
use percent_encoding::percent_decode_str;

use crate::{App, respond::Refusal};

/// The largest body, in bytes.
const MAX_BODY: usize = 10 * 1024 * 1024;
/// The largest body of a restore, which is everything there is: it is read for nobody but who may restore.
pub(crate) const MAX_RESTORE: usize = 128 * 1024 * 1024;
/// How much of a body is read that nobody wants, in bytes, and for how long.
const MAX_UNWANTED: usize = 256 * 1024;
const UNWANTED_DEADLINE: Duration = Duration::from_secs(2);
/// Longer tokens than any of ours are not even hashed.
const MAX_TOKEN: usize = 1024;

/// A request whose body is on loan: what a handler leaves unread is dealt with once it has answered.
pub(crate) type Input<'a> = Request<&'a mut Incoming>;

/// The caller's request id when it is sane, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    };
    match headers.get("x-request-id").filter(sane) {
        Some(id) => id.clone(),
        None => new_id(),
    }
}

/// An id like no other's: random where processes differ, counted where requests of one do. It is no secret.
fn new_id() -> HeaderValue {
    static FIRST: LazyLock<Id> = LazyLock::new(Id::random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut text = [0; 25];
    for (place, letter) in text.iter_mut().zip(FIRST.as_str().bytes()) {
        *place = letter;
    }
    let mut number = COUNT.fetch_add(1, Ordering::Relaxed);
    for place in text.iter_mut().rev().take(11) {
        let digit = u8::try_from(number % 36).unwrap_or_default();
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        number /= 36;
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The bearer token; `None` unless there is exactly one, well-formed.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && is_token(token)).then_some(token)
}

/// The token as clients of Anthropic's API send it: as a bearer, or in `x-api-key`. With both, they must be one.
pub(crate) fn bearer_or_key(headers: &HeaderMap) -> Option<&str> {
    let mut keys = headers.get_all("x-api-key").iter();
    let Some(key) = keys.next() else { return bearer(headers) };
    let key = key.to_str().ok().filter(|key| is_token(key) && keys.next().is_none())?;
    let agrees = !headers.contains_key(AUTHORIZATION) || bearer(headers) == Some(key);
    agrees.then_some(key)
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A path segment without its percent-encoding.
pub(crate) fn decode_segment(segment: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| Error::invalid("the path is not valid UTF-8").into())
}

/// The body as a strict JSON object.
pub(crate) async fn json_body(app: &App, request: Input<'_>) -> Result<Spec, Refusal> {
    let body = read_body(app, request).await?;
    Ok(parse_body(&body)?)
}

/// The whole body, which must be said to be JSON.
pub(crate) async fn read_body(app: &App, request: Input<'_>) -> Result<Bytes, Refusal> {
    read_body_of(app, request, MAX_BODY).await
}

/// The same for a body of at most `most` bytes.
pub(crate) async fn read_body_of(app: &App, request: Input<'_>, most: usize) -> Result<Bytes, Refusal> {
    check_content_type(request.headers())?;
    let too_large = || {
        let message = format!("the body is larger than {most} bytes");
        Refusal::from(Error::new(mcpctl_core::ErrorKind::TooLarge, message))
    };
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    read_whole(request.into_body(), most, app.body_timeout).await.map_err(|fault| match fault {
        BodyFault::TooLong => too_large(),
        BodyFault::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"),
        BodyFault::Broken(_) => Error::invalid("the body broke off").into(),
    })
}

/// Reads what is left of a body that was not wanted, so that the connection can serve the next request; false when
/// that is too much or takes too long, and the connection has to be closed. So it is when the client `waits` to be
/// told to send its body: reading would tell it to.
pub(crate) async fn finish_body(body: &mut Incoming, waits: bool) -> bool {
    if body.is_end_stream() || waits {
        return body.is_end_stream();
    }
    if body.size_hint().lower() > MAX_UNWANTED as u64 {
        return false;
    }
    read_whole(body, MAX_UNWANTED, UNWANTED_DEADLINE).await.is_ok()
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body must be JSON: send `Content-Type: application/json`",
    ))
}

/// The version in `If-Match`, if there is one; `*` matches any.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').parse::<i64>();
    version.map(Some).map_err(|_| Error::invalid("If-Match: must be the ETag of an earlier response").into())
}

/// The parameters of a query, decoded; a name that occurs twice is an error.
pub(crate) fn query(request: &Input<'_>) -> Result<Vec<(String, String)>, Refusal> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        if parameters.iter().any(|(known, _)| *known == name) {
            return Err(Error::invalid(format!("the parameter `{name}` occurs twice")).into());
        }
        parameters.push((name.into_owned(), value.into_owned()));
    }
    Ok(parameters)
}

/// A number in a query.
pub(crate) fn number(name: &str, value: &str, most: usize) -> Result<usize, Refusal> {
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(Error::invalid(format!("{name}: must be a whole number from 1 to {most}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_differ_and_look_like_ids() {
        let (one, other) = (new_id(), new_id());
        assert_ne!(one, other);
        for id in [one, other] {
            assert!(Id::parse(id.to_str().unwrap()).is_some(), "{id:?}");
        }
    }
}
