//! Calling Llms.

use hyper::{HeaderMap, Response, StatusCode};
use mcpctl_core::{
    Principal,
    adapter::Api,
    gateway::{Answer, Ask, Model, Target},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    request::{Input, read_body},
    respond::{Body, Refusal, json_response},
};

pub(crate) async fn call(
    app: &App,
    who: &Principal,
    target: Target<'_>,
    api: Api,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let headers = if api.is_anthropic() { request.headers().clone() } else { HeaderMap::new() };
    let body = read_body(app, request).await?;
    let ask = Ask::new(target, api, body).with_headers(&headers);
    Ok(render(app.gateway.call(who, ask).await?))
}

pub(crate) fn models(app: &App, who: &Principal) -> Response<Body> {
    list(&app.gateway.models(who))
}

pub(crate) async fn model(app: &App, who: &Principal, name: &str) -> Result<Response<Body>, Refusal> {
    Ok(json_response(StatusCode::OK, &shown(&app.gateway.model(who, name).await?)))
}

pub(crate) async fn models_of(app: &App, who: &Principal, name: &str) -> Result<Response<Body>, Refusal> {
    Ok(list(&[app.gateway.model(who, name).await?]))
}

pub(crate) async fn project_llm(app: &App, who: &Principal, name: &str) -> Result<Response<Body>, Refusal> {
    let found = app.registry.project_llm(who, name).await?;
    let mut body = json!({"status": found.status.as_str()});
    if let Some(body) = body.as_object_mut() {
        let more = [("llm", found.llm), ("model", found.model)];
        body.extend(more.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
    }
    Ok(json_response(StatusCode::OK, &body))
}

fn list(models: &[Model]) -> Response<Body> {
    let data: Vec<Value> = models.iter().map(shown).collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": data}))
}

fn shown(model: &Model) -> Value {
    let created = model.created_at.as_second();
    json!({"id": model.name, "object": "model", "created": created, "owned_by": model.owned_by})
}

fn render(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::Answer(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
