//! Calling Llms.

use hyper::{Response, StatusCode};
use mcpctl_core::{
    Principal,
    gateway::{Answer, Target},
};
use serde_json::json;

use crate::{
    app::App,
    request::{Input, read_body},
    respond::{Body, Refusal, json_response},
};

pub(crate) async fn infer(
    app: &App,
    who: &Principal,
    name: &str,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let body = read_body(request).await?;
    Ok(render(app.gateway.chat(who, Target::Named(name), body).await?))
}

pub(crate) async fn chat_completions(
    app: &App,
    who: &Principal,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let body = read_body(request).await?;
    Ok(render(app.gateway.chat(who, Target::FromBody, body).await?))
}

pub(crate) fn models(app: &App, who: &Principal) -> Response<Body> {
    let models = app.gateway.models(who);
    let data: Vec<_> = models
        .iter()
        .map(|model| {
            let created = model.created_at.as_second();
            json!({"id": model.name, "object": "model", "created": created, "owned_by": model.owned_by})
        })
        .collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": data}))
}

fn render(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::Answer(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
