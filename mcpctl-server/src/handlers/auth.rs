//! Logging in and out, and asking what one may do.

use hyper::{
    Response, StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use mcpctl_core::{
    Error, Principal,
    rbac::{Action, Operation, Permission},
    registry::{LoggedIn, Origin, WhoCan},
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
    let password = secret(&mut body, "password", &mut faults);
    refuse_rest(&body, &mut faults);
    faults.into_result()?;
    let address = call.peer.to_string();
    let login = app.registry.login(&email.unwrap_or_default(), password, origin(call, &address)).await?;
    Ok(logged_in(&login))
}

pub(crate) async fn change_password(
    app: &App,
    who: &Principal,
    call: &Call<'_>,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let mut body = json_body(app, request).await?;
    let mut faults = Faults::default();
    let current = secret(&mut body, "currentPassword", &mut faults);
    let new = secret(&mut body, "newPassword", &mut faults);
    refuse_rest(&body, &mut faults);
    faults.into_result()?;
    let address = call.peer.to_string();
    Ok(logged_in(&app.registry.change_password(who, current, new, origin(call, &address)).await?))
}

fn origin<'a>(call: &Call<'a>, address: &'a str) -> Origin<'a> {
    Origin { address, request_id: Some(call.request_id) }
}

fn logged_in(login: &LoggedIn) -> Response<Body> {
    let body = json!({
        "token": login.token.expose(),
        "expiresAt": login.expires_at.to_string(),
        "user": view(&login.user),
    });
    json_response(StatusCode::OK, &body)
}

/// What everybody may know, and clients keep: they need it most while the server is away.
pub(crate) fn keys(app: &App) -> Result<Response<Body>, Refusal> {
    let mut response = json_response(StatusCode::OK, &app.registry.lease_keys()?.to_jwks());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

pub(crate) async fn logout(app: &App, who: &Principal) -> Result<Response<Body>, Refusal> {
    app.registry.logout(who).await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

pub(crate) fn whoami(app: &App, who: &Principal) -> Result<Response<Body>, Refusal> {
    let user = app.registry.user_of(who).map(|user| view(&user));
    let mut body = json!({"user": user});
    if let Some(body) = body.as_object_mut() {
        let more = [("token", who.api_token()), ("impersonator", who.impersonator())];
        body.extend(more.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
    }
    Ok(json_response(StatusCode::OK, &body))
}

pub(crate) async fn can_i(app: &App, who: &Principal, request: Input<'_>) -> Result<Response<Body>, Refusal> {
    let permission = permission(app, json_body(app, request).await?)?;
    let answer = app.registry.can_i(who, &permission);
    let mut body = json!({"allowed": answer.allowed, "reason": answer.reason});
    if let (Some(binding), Some(body)) = (answer.binding, body.as_object_mut()) {
        body.insert("binding".into(), binding.into());
    }
    Ok(json_response(StatusCode::OK, &body))
}

pub(crate) async fn who_can(
    app: &App,
    who: &Principal,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let permission = permission(app, json_body(app, request).await?)?;
    let able = app.registry.who_can(who, &permission).await?;
    let subject = |able: WhoCan| {
        let mut subject = json!({"kind": able.kind, "name": able.name, "binding": able.binding});
        if let (Some(group), Some(subject)) = (able.group, subject.as_object_mut()) {
            subject.insert("group".into(), group.into());
        }
        subject
    };
    let subjects: Vec<Value> = able.into_iter().map(subject).collect();
    Ok(json_response(StatusCode::OK, &json!({"subjects": subjects})))
}

/// The permission that a body `{action, resource?, name?}` asks about.
fn permission(app: &App, mut body: Spec) -> Result<Permission, Refusal> {
    let mut faults = Faults::default();
    let action = text(&mut body, "action", true, &mut faults).unwrap_or_default();
    let resource = text(&mut body, "resource", false, &mut faults);
    let name = text(&mut body, "name", false, &mut faults);
    refuse_rest(&body, &mut faults);
    faults.into_result()?;
    match (Operation::parse(&action), Action::parse(&action), resource) {
        (Some(operation), _, None) => Ok(Permission::Operation(operation)),
        (_, Some(action), Some(resource)) => {
            let kind = Kind::parse(&resource)
                .ok_or_else(|| Error::invalid("resource: must be a kind of resource"))?;
            Ok(match name {
                Some(name) => app.registry.permission(action, kind, &name),
                None => Permission::Kind(action, kind),
            })
        }
        _ => {
            let message = "action: must be view, create, edit, delete, run or expose with a `resource`, or an operation";
            Err(Error::invalid(message).into())
        }
    }
}

fn secret(body: &mut Spec, name: &str, faults: &mut Faults) -> SecretValue {
    SecretValue::new(text(body, name, true, faults).unwrap_or_default())
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
