//! Reading everything for a backup, and writing it back.

use hyper::{Response, StatusCode};
use mcpctl_core::{
    Error, Principal,
    registry::{OnConflict, RestoreMode, Restored, RestoredAs},
    resource::{Faults, Spec, parse_body},
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    app::App,
    request::{Input, MAX_RESTORE, json_body, read_body_of},
    respond::{Body, Refusal, json_response},
};

pub(crate) async fn backup(
    app: &App,
    who: &Principal,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let mut body = json_body(app, request).await?;
    let mut faults = Faults::default();
    let with_values = flag("withValues", &mut body, &mut faults);
    refuse_others(&body, &mut faults);
    faults.into_result()?;
    let backup = app.registry.backup(who, with_values).await?;
    let manifest = json!({
        "serverVersion": env!("CARGO_PKG_VERSION"),
        "createdAt": backup.created_at,
        "withValues": backup.with_values,
        "counts": backup.counts(),
    });
    // It may be large, and calls of this thread must not wait for it.
    let answer =
        move || json_response(StatusCode::OK, &json!({"manifest": manifest, "resources": backup.resources}));
    Ok(spawn_blocking(answer).await.map_err(Error::internal)?)
}

pub(crate) async fn restore(
    app: &App,
    who: &Principal,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    let body = read_body_of(app, request, MAX_RESTORE).await?;
    // It may be large, and calls of this thread must not wait for it.
    let read = spawn_blocking(move || read(parse_body(&body)?));
    let (resources, mode) = read.await.map_err(Error::internal)??;
    let restored = app.registry.restore(who, resources, mode).await?;
    let results: Vec<Value> = restored.into_iter().map(result).collect();
    Ok(json_response(StatusCode::OK, &json!({"results": results})))
}

/// What a body `{resources: [{kind, name, …}], onConflict?, dryRun?}` asks for.
fn read(mut body: Spec) -> Result<(Vec<Spec>, RestoreMode), Error> {
    let mut faults = Faults::default();
    let dry_run = flag("dryRun", &mut body, &mut faults);
    let on_conflict = match body.remove("onConflict") {
        None => Some(OnConflict::default()),
        Some(word) => word.as_str().and_then(OnConflict::parse),
    };
    if on_conflict.is_none() {
        faults.add("onConflict", format!("must be one of {}", OnConflict::NAMES.join(", ")));
    }
    let mut resources = Vec::new();
    match body.remove("resources") {
        Some(Value::Array(given)) => {
            for (index, resource) in given.into_iter().enumerate() {
                match resource {
                    Value::Object(resource) => resources.push(resource),
                    _ => faults.add(&format!("resources[{index}]"), "must be an object"),
                }
            }
        }
        Some(_) => faults.add("resources", "must be a list of objects"),
        None => faults.add("resources", "is required"),
    }
    refuse_others(&body, &mut faults);
    faults.into_result()?;
    Ok((resources, RestoreMode { on_conflict: on_conflict.unwrap_or_default(), dry_run }))
}

fn flag(name: &str, body: &mut Spec, faults: &mut Faults) -> bool {
    match body.remove(name) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            faults.add(name, "must be true or false");
            false
        }
    }
}

fn refuse_others(body: &Spec, faults: &mut Faults) {
    for name in body.keys() {
        let name: String = name.chars().filter(|letter| !letter.is_control()).take(60).collect();
        faults.add(&name, "unknown field");
    }
}

fn result(restored: Restored) -> Value {
    let Restored { kind, name, outcome, note } = restored;
    let (word, error) = match outcome {
        Ok(RestoredAs::Created) => ("created", None),
        Ok(RestoredAs::Updated) => ("updated", None),
        Ok(RestoredAs::Unchanged) => ("unchanged", None),
        Ok(RestoredAs::Skipped) => ("skipped", None),
        Ok(RestoredAs::Held) => ("held", None),
        // The causes of what is our fault are for the log.
        Err(error) => ("error", Some(Refusal::from(error).message)),
    };
    let mut result = json!({"kind": kind.singular, "name": name, "outcome": word});
    if let Some(result) = result.as_object_mut() {
        result.extend(error.map(|error| ("error".to_owned(), error.into())));
        result.extend(note.map(|note| ("note".to_owned(), note.into())));
    }
    result
}
