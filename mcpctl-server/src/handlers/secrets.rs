//! What is done with secret backends besides reading and changing them.

use hyper::{Response, StatusCode};
use mcpctl_core::{
    Error, Principal,
    registry::MigrationOrder,
    resource::{Faults, Spec},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    request::{Input, json_body},
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

pub(crate) async fn migrate(
    app: &App,
    who: &Principal,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let order = order(json_body(app, request).await?)?;
    let report = app.registry.migrate(who, &order).await?;
    let failed = report.failed.iter().map(|(name, error)| json!({"name": name, "error": error}));
    let body = json!({
        "migrated": report.migrated,
        "skipped": report.skipped,
        "failed": failed.collect::<Vec<Value>>(),
    });
    Ok(json_response(StatusCode::OK, &body))
}

fn order(mut body: Spec) -> Result<MigrationOrder, Error> {
    let mut faults = Faults::default();
    let mut backend = |body: &mut Spec, field: &str| match body.remove(field) {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => {
            faults.add(field, "is required, and must be a secretbackend's name");
            String::new()
        }
    };
    let (from, to) = (backend(&mut body, "from"), backend(&mut body, "to"));
    let mut flag = |body: &mut Spec, field: &str| match body.remove(field) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            faults.add(field, "must be true or false");
            false
        }
    };
    let (keep_source, dry_run) = (flag(&mut body, "keepSource"), flag(&mut body, "dryRun"));
    let names = match body.remove("names") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(_) => {
            faults.add("names", "must be a list of names");
            None
        }
    };
    for field in body.keys() {
        let field: String = field.chars().filter(|letter| !letter.is_control()).take(60).collect();
        faults.add(&field, "unknown field");
    }
    faults.into_result()?;
    Ok(MigrationOrder { from, to, names, keep_source, dry_run })
}
