//! Whether the process is up, and whether it can serve.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use mcpctl_core::Principal;
use serde_json::json;

use crate::{
    app::App,
    openapi::document,
    respond::{Body, Refusal, json_response},
};

pub(crate) fn healthz() -> Response<Body> {
    json_response(StatusCode::OK, &json!({"status": "ok"}))
}

pub(crate) async fn readyz(app: &App) -> Result<Response<Body>, Refusal> {
    if app.registry.is_sealed() {
        return Ok(json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "sealed", "error": "sealed"}),
        ));
    }
    app.registry.store().revision().await?;
    Ok(json_response(StatusCode::OK, &json!({"status": "ok"})))
}

pub(crate) fn metrics(app: &App, who: &Principal) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(Body::Full(app.gateway.metrics(who)?.into()));
    let format = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    Ok(response)
}

/// The API's description: the same for everybody, and made once.
pub(crate) fn openapi() -> Response<Body> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    let mut response = Response::new(Body::Full(DOCUMENT.clone().into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn version() -> Response<Body> {
    json_response(
        StatusCode::OK,
        &json!({"name": "mcpctl-server", "version": env!("CARGO_PKG_VERSION"), "api": "v1"}),
    )
}
