//! Logging in and out, and asking what one may do.

use hyper::{Response, StatusCode};
use mcpctl_core::{
    Error, Principal,
    rbac::{Action, Operation, Permission},
    registry::Origin,
    resource::{Faults, Kind, Spec, view},
    secret::SecretValue,
};
use serde_json::{Value, json};

use crate::{
    app::{App, Call},
    request::{Input, json_body},
    respond::{Body, Refusal, empty_response, json_response},
};

pub(crate) async fn login(app: &App, call: &Call<'_>, request: Input<'_>) -> Result<Response<Body>, Refusal> {
    let mut body = json_body(app, request).await?;
    let mut faults = Faults::default();
    let email = text(&mut body, "email", true, &mut faults);
    let password = SecretValue::new(text(&mut body, "password", true, &mut faults).unwrap_or_default());
    refuse_rest(&body, &mut faults);
    faults.into_result()?;
    let address = call.peer.to_string();
    let origin = Origin { address: &address, request_id: Some(call.request_id) };
    let login = app.registry.login(&email.unwrap_or_default(), password, origin).await?;
    let body = json!({
        "token": login.token.expose(),
        "expiresAt": login.expires_at.to_string(),
        "user": view(&login.user),
    });
    Ok(json_response(StatusCode::OK, &body))
}

pub(crate) async fn logout(app: &App, who: &Principal) -> Result<Response<Body>, Refusal> {
    app.registry.logout(who).await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

pub(crate) fn whoami(app: &App, who: &Principal) -> Result<Response<Body>, Refusal> {
    let user = app.registry.user_of(who).map(|user| view(&user));
    Ok(json_response(StatusCode::OK, &json!({"user": user})))
}

pub(crate) async fn can_i(app: &App, who: &Principal, request: Input<'_>) -> Result<Response<Body>, Refusal> {
    let mut body = json_body(app, request).await?;
    let mut faults = Faults::default();
    let action = text(&mut body, "action", true, &mut faults).unwrap_or_default();
    let resource = text(&mut body, "resource", false, &mut faults);
    let name = text(&mut body, "name", false, &mut faults);
    refuse_rest(&body, &mut faults);
    faults.into_result()?;
    let permission = match (Operation::parse(&action), Action::parse(&action), resource) {
        (Some(operation), _, None) => Permission::Operation(operation),
        (_, Some(action), Some(resource)) => {
            let kind = Kind::parse(&resource)
                .ok_or_else(|| Error::invalid("resource: must be a kind of resource"))?;
            match name {
                Some(name) => app.registry.permission(action, kind, &name),
                None => Permission::Kind(action, kind),
            }
        }
        _ => {
            let message = "action: must be view, create, edit, delete, run or expose with a `resource`, or an operation";
            return Err(Error::invalid(message).into());
        }
    };
    let answer = app.registry.can_i(who, &permission);
    let mut body = json!({"allowed": answer.allowed, "reason": answer.reason});
    if let (Some(binding), Some(body)) = (answer.binding, body.as_object_mut()) {
        body.insert("binding".into(), binding.into());
    }
    Ok(json_response(StatusCode::OK, &body))
}

fn text(body: &mut Spec, name: &str, required: bool, faults: &mut Faults) -> Option<String> {
    match body.remove(name) {
        Some(Value::String(text)) => return Some(text),
        Some(_) => faults.add(name, "must be a string"),
        None if required => faults.add(name, "is required"),
        None => {}
    }
    None
}

fn refuse_rest(body: &Spec, faults: &mut Faults) {
    for name in body.keys() {
        faults.add(&name.chars().take(60).collect::<String>(), "unknown field");
    }
}
