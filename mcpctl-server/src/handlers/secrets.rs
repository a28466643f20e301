//! What is done with secret backends besides reading and changing them.

use hyper::{Response, StatusCode};
use mcpctl_core::Principal;
use serde_json::json;

use crate::{
    app::App,
    respond::{Body, Refusal, json_response},
};

pub(crate) async fn test_backend(app: &App, who: &Principal, name: &str) -> Result<Response<Body>, Refusal> {
    let checked = app.registry.test_backend(who, name).await?;
    let mut body = json!({"ok": checked.ok, "message": checked.message});
    if let (Some(fault), Some(body)) = (checked.fault, body.as_object_mut()) {
        body.insert("cause".into(), fault.as_str().into());
    }
    Ok(json_response(StatusCode::OK, &body))
}
