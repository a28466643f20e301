//! Reading and changing resources, of whatever kind.

use hyper::{
    Response, StatusCode,
    header::{ETAG, HeaderValue},
};
use mcpctl_core::{
    Error, Principal, lease,
    registry::ListQuery,
    resource::{Kind, Object, Spec, view},
    store::EventQuery,
};
use serde_json::{Value, json};

use super::watch;
use crate::{
    app::App,
    request::{Input, if_match, json_body, number, query},
    respond::{Body, Refusal, empty_response, json_response},
};

/// The longest page.
pub(crate) const MAX_LIMIT: usize = 1000;

pub(crate) async fn list(
    app: &App,
    who: &Principal,
    kind: Kind,
    request: &Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let (mut wanted, mut watched) = (ListQuery::default(), false);
    for (name, value) in query(request)? {
        match name.as_str() {
            "watch" => {
                watched = value
                    .parse()
                    .map_err(|_| Refusal::from(Error::invalid("watch: must be true or false")))?;
            }
            "limit" => wanted.limit = Some(number(&name, &value, MAX_LIMIT)?),
            "continue" => wanted.after = Some(value),
            _ => wanted.fields.push((name, value)),
        }
    }
    if watched {
        return watch::watch(app, who, kind, wanted).await;
    }
    let page = app.registry.list(who, kind, &wanted).await?;
    let items: Vec<Value> = page.items.iter().map(|object| Value::Object(view(object))).collect();
    let paged = wanted.limit.is_some() || wanted.after.is_some();
    let body = if paged { page_body(items, page.next) } else { Value::Array(items) };
    Ok(json_response(StatusCode::OK, &body))
}

pub(crate) async fn audit_logs(
    app: &App,
    who: &Principal,
    request: &Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let mut wanted = EventQuery { limit: 100, ..EventQuery::default() };
    let time = |name: &str, value: &str| {
        let message = format!("{name}: must be an RFC 3339 time such as 2026-01-31T12:00:00Z");
        value.parse().map(Some).map_err(|_| Refusal::from(Error::invalid(message)))
    };
    for (name, value) in query(request)? {
        match name.as_str() {
            "kind" => wanted.kind = Some(value),
            "llm" => wanted.llm = Some(value),
            "user" => wanted.user = Some(value),
            "since" => wanted.since = time(&name, &value)?,
            "until" => wanted.until = time(&name, &value)?,
            "limit" => wanted.limit = number(&name, &value, MAX_LIMIT)?,
            "continue" => wanted.before = Some(value),
            _ => return Err(Error::invalid(format!("unknown parameter `{name}`")).into()),
        }
    }
    let page = app.registry.audit_events(who, wanted).await?;
    let items = page.items.iter().map(|event| serde_json::to_value(event).map_err(Error::internal));
    let items = items.collect::<Result<Vec<Value>, Error>>()?;
    Ok(json_response(StatusCode::OK, &page_body(items, page.next)))
}

pub(crate) async fn audit_log(
    app: &App,
    who: &Principal,
    id: &str,
    request: &Input<'_>,
) -> Result<Response<Body>, Refusal> {
    if let Some((name, _)) = query(request)?.first() {
        return Err(Error::invalid(format!("unknown parameter `{name}`")).into());
    }
    let event = app.registry.audit_event(who, id).await?;
    Ok(json_response(StatusCode::OK, &serde_json::to_value(event).map_err(Error::internal)?))
}

fn page_body(items: Vec<Value>, next: Option<String>) -> Value {
    let mut body = json!({"items": items});
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("continue".into(), next.into());
    }
    body
}

pub(crate) async fn create(
    app: &App,
    who: &Principal,
    kind: Kind,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let body = json_body(app, request).await?;
    let created = app.registry.create(who, kind, body).await?;
    Ok(tagged(StatusCode::CREATED, &created, created.view()))
}

pub(crate) async fn get(
    app: &App,
    who: &Principal,
    kind: Kind,
    name: &str,
    request: &Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let mut reveal = false;
    for (parameter, value) in query(request)? {
        match (parameter.as_str(), value.as_str()) {
            ("showValues", "true" | "false") if kind == mcpctl_core::resource::kinds::SECRETS => {
                reveal = value == "true";
            }
            _ => return Err(Error::invalid(format!("unknown parameter `{parameter}`")).into()),
        }
    }
    if !reveal {
        let found = app.registry.get(who, kind, name).await?;
        let mut response = resource_response(StatusCode::OK, &found);
        if let Some(lease) = app.registry.lease_on_view(who, &found) {
            response.headers_mut().insert(lease::HEADER, lease);
        }
        return Ok(response);
    }
    let (secret, data) = app.registry.reveal(who, name).await?;
    let mut body = view(&secret);
    let data = data.iter().map(|(key, value)| (key.clone(), Value::from(value.expose()))).collect();
    body.insert("data".into(), Value::Object(data));
    Ok(json_response(StatusCode::OK, &Value::Object(body)))
}

pub(crate) async fn put(
    app: &App,
    who: &Principal,
    kind: Kind,
    name: &str,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let (version, body) = change(app, request).await?;
    Ok(resource_response(StatusCode::OK, &app.registry.put(who, kind, name, body, version).await?))
}

pub(crate) async fn patch(
    app: &App,
    who: &Principal,
    kind: Kind,
    name: &str,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let (version, body) = change(app, request).await?;
    Ok(resource_response(StatusCode::OK, &app.registry.patch(who, kind, name, body, version).await?))
}

/// The version a change was made from, and the change.
async fn change(app: &App, request: Input<'_>) -> Result<(Option<i64>, Spec), Refusal> {
    Ok((if_match(request.headers())?, json_body(app, request).await?))
}

pub(crate) async fn delete(
    app: &App,
    who: &Principal,
    kind: Kind,
    name: &str,
    request: &Input<'_>,
) -> Result<Response<Body>, Refusal> {
    app.registry.delete(who, kind, name, if_match(request.headers())?).await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

fn resource_response(status: StatusCode, object: &Object) -> Response<Body> {
    tagged(status, object, view(object))
}

fn tagged(status: StatusCode, object: &Object, shown: Spec) -> Response<Body> {
    let mut response = json_response(status, &Value::Object(shown));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", object.version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
