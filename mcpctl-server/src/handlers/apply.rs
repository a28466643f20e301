//! Making and changing many resources at once.

use hyper::{Response, StatusCode};
use mcpctl_core::{
    Error, Principal,
    registry::{Applied, ApplyMode, Done, Wanted},
    resource::{Faults, Kind, Spec},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    request::{Input, json_body},
    respond::{Body, Refusal, json_response},
};

pub(crate) async fn apply(app: &App, who: &Principal, request: Input<'_>) -> Result<Response<Body>, Refusal> {
    let (wanted, mode) = read(json_body(app, request).await?)?;
    let applied = app.registry.apply(who, wanted, mode).await?;
    let results: Vec<Value> = applied.into_iter().map(result).collect();
    Ok(json_response(StatusCode::OK, &json!({"results": results})))
}

/// What a body `{resources: [{kind, name, …}], dryRun?, atomic?}` asks for.
fn read(mut body: Spec) -> Result<(Vec<Wanted>, ApplyMode), Error> {
    let mut faults = Faults::default();
    let mut flag = |name: &str, body: &mut Spec| match body.remove(name) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            faults.add(name, "must be true or false");
            false
        }
    };
    let mode = ApplyMode { dry_run: flag("dryRun", &mut body), atomic: flag("atomic", &mut body) };
    let mut wanted = Vec::new();
    match body.remove("resources") {
        Some(Value::Array(resources)) => {
            for (index, resource) in resources.into_iter().enumerate() {
                match read_one(resource) {
                    Ok(one) => wanted.push(one),
                    Err((field, fault)) => faults.add(&format!("resources[{index}]{field}"), fault),
                }
            }
        }
        Some(_) => faults.add("resources", "must be a list of objects"),
        None => faults.add("resources", "is required"),
    }
    for name in body.keys() {
        faults.add(&name.chars().take(60).collect::<String>(), "unknown field");
    }
    faults.into_result()?;
    Ok((wanted, mode))
}

fn read_one(resource: Value) -> Result<Wanted, (&'static str, &'static str)> {
    let Value::Object(mut body) = resource else { return Err(("", "must be an object")) };
    let kind = body.remove("kind").ok_or((".kind", "is required"))?;
    let kind = kind.as_str().and_then(Kind::parse).ok_or((".kind", "must be a kind of resource"))?;
    if !body.get("name").is_some_and(Value::is_string) {
        return Err((".name", "is required, and must be a string"));
    }
    Ok(Wanted { kind, body })
}

fn result(applied: Applied) -> Value {
    let Applied { kind, name, outcome } = applied;
    let (word, more) = match outcome {
        Ok(Done::Created(token)) => ("created", token.map(|token| ("token", Value::from(token.expose())))),
        Ok(Done::Updated) => ("updated", None),
        Ok(Done::Unchanged) => ("unchanged", None),
        // The causes of what is our fault are for the log.
        Err(error) => ("error", Some(("error", Refusal::from(error).message.into()))),
    };
    let mut result = json!({"kind": kind.singular, "name": name, "outcome": word});
    if let Some(result) = result.as_object_mut() {
        result.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    result
}
