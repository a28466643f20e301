//! Each status that is no success, and how it looks.

use serde_json::{Map, Value, json};

use crate::respond::Dialect;

/// Statuses with what they mean.
const STATUSES: &[(u16, &str)] = &[
    (400, "malformed, or not valid: the message names every fault"),
    (401, "no token, or one that is unknown, expired or revoked"),
    (403, "the permission is missing that the message names"),
    (404, "there is no such resource"),
    (405, "the path knows other methods"),
    (408, "the body took too long to arrive"),
    (409, "the name is taken, the version is stale, or the resource is in use"),
    (413, "the body is over the limit"),
    (415, "the body is not JSON"),
    (429, "too many requests: try again later"),
    (500, "the server's fault: its log has the cause under the request's id"),
    (501, "this build cannot do it"),
    (502, "what the server depends on could not be reached, broke off, or answered rubbish"),
    (503, "overloaded, sealed, or away from its database: try again later"),
    (504, "what the server depends on did not answer in time"),
];

/// The forms that errors have. A provider's own error is passed on in OpenAI's form where ours have another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One of ours.
    Own(Dialect),
    /// One of ours, or a provider's.
    OwnOrProvider,
}

impl Form {
    const ALL: [Self; 4] = [
        Self::Own(Dialect::Mcpctl),
        Self::Own(Dialect::OpenAi),
        Self::Own(Dialect::Anthropic),
        Self::OwnOrProvider,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Own(Dialect::Mcpctl) => "Error",
            Self::Own(Dialect::OpenAi) => "OpenAiError",
            Self::Own(Dialect::Anthropic) => "AnthropicError",
            Self::OwnOrProvider => "CallError",
        }
    }

    fn schema(self) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.prefix())})
    }
}

/// The answers of these statuses, by reference.
pub(super) fn answers(form: Form, statuses: &[u16]) -> Map<String, Value> {
    let at = |status: &u16| json!({"$ref": format!("#/components/responses/{}{status}", form.prefix())});
    statuses.iter().map(|status| (status.to_string(), at(status))).collect()
}

/// A provider's own error, with whichever status it has.
pub(super) fn of_provider(form: Form) -> Value {
    json!({
        "description": "the provider's own refusal, with its status",
        "headers": headers(0),
        "content": {"application/json": {"schema": form.schema()}},
    })
}

/// All of them, to refer to.
pub(super) fn all() -> Map<String, Value> {
    let mut all = Map::new();
    for form in Form::ALL {
        for (status, meaning) in STATUSES {
            let answer = json!({
                "description": meaning,
                "headers": headers(*status),
                "content": {"application/json": {"schema": form.schema()}},
            });
            all.insert(format!("{}{status}", form.prefix()), answer);
        }
    }
    all
}

fn headers(status: u16) -> Value {
    let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/RequestId"}});
    let more = match status {
        401 => ("WWW-Authenticate", json!({"schema": {"type": "string", "const": "Bearer"}})),
        405 => ("Allow", json!({"schema": {"type": "string"}})),
        429 | 503 => (
            "Retry-After",
            json!({"description": "seconds to wait", "schema": {"type": "string", "pattern": "^[0-9]+$"}}),
        ),
        _ => return headers,
    };
    if let Some(headers) = headers.as_object_mut() {
        headers.insert(more.0.to_owned(), more.1);
    }
    headers
}
