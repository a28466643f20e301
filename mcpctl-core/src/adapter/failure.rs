use bytes::Bytes;
use serde_json::{Value, json};

use super::Adapter;
use crate::{wire::DONE, wire::sse};

/// The longest message taken from a provider's answer, in bytes.
const MAX_MESSAGE: usize = 4096;

/// A provider's refusal, as it may be shown to the caller.
///
/// It never repeats what a provider said about our key: a 401 or 403 has a message of ours. Any other message is
/// the provider's own; [`redact`](Self::redact) takes a reflected key out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// The status for the caller.
    pub status: u16,
    /// What went wrong.
    pub message: String,
    /// The class of the error, such as `invalid_request_error`.
    pub error_type: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// A code for programs.
    pub code: Option<String>,
    /// `{"error": {"message", "type", "param", "code"}}`, or for a caller of Anthropic's API
    /// `{"type": "error", "error": {"type", "message"}}`. From a provider that answered in this shape, its own
    /// bytes.
    pub body_json: Bytes,
    shape: Shape,
}

/// How the caller's API writes errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    OpenAi,
    Anthropic,
}

impl ProviderError {
    /// Takes `secret` out of the message and the body, wherever the provider repeated it.
    #[must_use]
    pub fn redact(mut self, secret: &str) -> Self {
        let told = |text: &str| !secret.is_empty() && text.contains(secret);
        let body = String::from_utf8_lossy(&self.body_json);
        let quoted = Value::from(secret).to_string();
        let escaped = quoted.trim_matches('"');
        let in_body = told(&body) || (!escaped.is_empty() && body.contains(escaped));
        if !in_body && !told(&self.message) {
            return self;
        }
        let clean = |text: &str| text.replace(secret, "[redacted]");
        self.message = clean(&self.message);
        self.error_type = clean(&self.error_type);
        self.param = self.param.as_deref().map(clean);
        self.code = self.code.as_deref().map(clean);
        self.write_body();
        self
    }

    fn write_body(&mut self) {
        let body = match self.shape {
            Shape::OpenAi => envelope(
                &self.message,
                &self.error_type,
                self.param.as_deref().map(Value::from),
                self.code.as_deref().map(Value::from),
            ),
            Shape::Anthropic => anthropic_envelope(&self.message, &self.error_type, self.status),
        };
        self.body_json = body.to_string().into();
    }
}

pub(super) fn decode_error(
    adapter: Adapter,
    shape: Shape,
    status: u16,
    body: &[u8],
    llm_name: &str,
) -> ProviderError {
    let shown = match status {
        401 | 403 | 407 => return refused_credentials(shape, llm_name),
        529 => 503,
        400..=528 | 530..=599 => status,
        _ => 502,
    };
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let mut error = ProviderError {
        status: shown,
        message: String::new(),
        error_type: type_of(shown).to_owned(),
        param: None,
        code: None,
        body_json: Bytes::new(),
        shape,
    };
    let told = parsed.as_ref().filter(|_| status >= 400);
    match told.and_then(message_in) {
        Some(message) => error.message = message,
        None => {
            let what = match status {
                300..=399 => "a redirect, which is not followed".to_owned(),
                _ if body.trim_ascii().is_empty() => "an empty body".to_owned(),
                _ if looks_like_html(body) => "HTML".to_owned(),
                _ if told.is_some() => "JSON that is not an error object".to_owned(),
                _ => format!("`{}`", cut(String::from_utf8_lossy(body).trim(), 200)),
            };
            error.message = format!("llm `{llm_name}`: the provider answered {status} with {what}");
        }
    }
    let detail = told.and_then(|answer| detail_of(answer).as_object());
    let text = |key: &str| detail.and_then(|detail| detail.get(key)).and_then(as_text);
    error.error_type = text("type").unwrap_or(error.error_type);
    error.param = text("param");
    error.code = text("code");
    error.write_body();
    // The same format in and out: the provider's own body, if it has the shape that callers expect.
    let same_shape = told.and_then(|answer| answer.pointer("/error/message")).is_some_and(Value::is_string);
    let own_shape = match (adapter, shape) {
        (Adapter::OpenAi, Shape::OpenAi) => same_shape,
        (Adapter::Anthropic, Shape::Anthropic) => {
            same_shape && told.is_some_and(|told| told.get("type").is_some_and(|ty| ty == "error"))
        }
        _ => false,
    };
    if own_shape {
        error.body_json = Bytes::copy_from_slice(body);
    }
    error
}

/// The caller's own token was fine, so this is no 401 for them; what the provider said may hold the key.
fn refused_credentials(shape: Shape, llm_name: &str) -> ProviderError {
    let mut error = ProviderError {
        status: 502,
        message: format!("llm `{llm_name}`: provider refused the server's credentials"),
        error_type: "provider_error".to_owned(),
        param: None,
        code: Some("provider_credentials".to_owned()),
        body_json: Bytes::new(),
        shape,
    };
    error.write_body();
    error
}

/// The message of an error object in any of the shapes that providers use; `None` when the answer is no error.
pub(super) fn message_in(answer: &Value) -> Option<String> {
    let message = match answer.get("error").filter(|error| !error.is_null()) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(error) => Some(
            error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned),
        ),
        None if answer.get("choices").is_some() => None,
        None => match (answer.get("message"), answer.get("detail")) {
            (Some(Value::String(text)), _) | (_, Some(Value::String(text))) => Some(text.clone()),
            (_, Some(detail)) if !detail.is_null() => Some(detail.to_string()),
            _ => None,
        },
    };
    message.map(|text| cut(&text, MAX_MESSAGE))
}

/// One `data:` frame with an error, then the end: a cut-off answer never looks like a finished one.
pub(super) fn error_frame(out: &mut Vec<u8>, message: &str, error_type: &str, code: Option<&str>) {
    sse::write_data(out, &envelope(message, error_type, None, code.map(Value::from)).to_string());
    out.extend_from_slice(DONE);
}

/// Whether an answer is a web page.
pub(super) fn looks_like_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

/// `text` without control characters, cut to at most `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    let mut head: String = head.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    if end < text.len() {
        head.push('…');
    }
    head
}

/// One `error` event of Anthropic's API, after which nothing comes.
pub(super) fn anthropic_error_event(out: &mut Vec<u8>, message: &str, error_type: &str) {
    let error = anthropic_envelope(message, error_type, 500);
    sse::write_event(out, "error", &error.to_string());
}

/// The `type` of an error of this status, as Anthropic's API words it.
pub const fn anthropic_error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

/// An error with a type that Anthropic's clients know: the one given, if it is one, else that of the status.
fn anthropic_envelope(message: &str, error_type: &str, status: u16) -> Value {
    const KNOWN: [&str; 10] = [
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "api_error",
        "overloaded_error",
        "timeout_error",
    ];
    // OpenAI calls most of what is under 500 an `invalid_request_error`; the status says more.
    let known = KNOWN.contains(&error_type) && (status >= 500 || error_type != "invalid_request_error");
    let error_type = if known { error_type } else { anthropic_error_type(status) };
    json!({"type": "error", "error": {"type": error_type, "message": message}})
}

fn envelope(message: &str, error_type: &str, param: Option<Value>, code: Option<Value>) -> Value {
    json!({"error": {
        "message": message,
        "type": error_type,
        "param": param,
        "code": code,
    }})
}

/// The object that holds message, type and code.
fn detail_of(answer: &Value) -> &Value {
    answer.get("error").filter(|error| error.is_object()).unwrap_or(answer)
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(cut(text, MAX_MESSAGE)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

const fn type_of(status: u16) -> &'static str {
    match status {
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "provider_error",
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
