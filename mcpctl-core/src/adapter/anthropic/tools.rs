//! Tools, the choice among them, and calls of them.

use serde_json::{Map, Value, json};

use super::{
    blocks, cache,
    fields::{Path, Report, take},
    names::{self, Names},
};
use crate::Result;

/// `tools` → Anthropic's. What is no function cannot be expressed and is reported.
pub(super) fn translate(tools: Value, names: &mut Names, report: &mut Report) -> Result<Vec<Value>> {
    let path = Path::Top("tools");
    let mut found = Vec::new();
    for (index, tool) in path.list(tools)?.into_iter().enumerate() {
        let path = path.index(index);
        let mut tool = path.object(tool)?;
        let ty = path.key("type").text(take(&mut tool, "type"))?;
        if ty != "function" {
            report.dropped(path);
            continue;
        }
        found.push(function(tool, &path, names, report)?);
    }
    Ok(found)
}

fn function(
    mut tool: Map<String, Value>,
    path: &Path<'_>,
    names: &mut Names,
    report: &mut Report,
) -> Result<Value> {
    let outer_mark = cache::checked(take(&mut tool, "cache_control"), path)?;
    let path = &path.key("function");
    let mut function = path.object(take(&mut tool, "function"))?;
    let inner_mark = cache::checked(take(&mut function, "cache_control"), path)?;
    let name = path.key("name").text(take(&mut function, "name"))?;
    if name.is_empty() {
        return Err(path.key("name").fault("is required"));
    }
    let mut translated = Map::from_iter([("name".to_owned(), names.tool(name).into())]);
    let description = take(&mut function, "description");
    if !description.is_null() {
        let description = path.key("description").text(description)?;
        translated.insert("description".to_owned(), description.into());
    }
    let schema = schema(take(&mut function, "parameters"), &path.key("parameters"))?;
    translated.insert("input_schema".to_owned(), schema);
    let strict = take(&mut function, "strict");
    if !strict.is_null() {
        path.key("strict").flag(&strict)?;
        translated.insert("strict".to_owned(), strict);
    }
    report.left_over("tools.function", &function);
    let mut translated = Value::Object(translated);
    blocks::mark(&mut translated, if outer_mark.is_null() { inner_mark } else { outer_mark });
    Ok(translated)
}

/// The schema with every keyword it has; Anthropic wants it to be one of an object.
fn schema(parameters: Value, path: &Path<'_>) -> Result<Value> {
    let mut schema = match parameters {
        Value::Null => Map::new(),
        parameters => path.object(parameters)?,
    };
    if schema.is_empty() {
        return Ok(json!({"type": "object", "properties": {}}));
    }
    if !schema.contains_key("type") {
        schema.insert("type".to_owned(), "object".into());
    }
    Ok(schema.into())
}

/// `tool_choice` and `parallel_tool_calls` → Anthropic's `tool_choice`, for a request that has tools.
pub(super) fn choice(
    choice: Value,
    parallel: bool,
    names: &mut Names,
    report: &mut Report,
) -> Result<Option<Value>> {
    let path = Path::Top("tool_choice");
    let mut translated = match choice {
        Value::Null => None,
        Value::String(word) => Some(match word.as_str() {
            "auto" => json!({"type": "auto"}),
            "none" => json!({"type": "none"}),
            "required" => json!({"type": "any"}),
            _ => return Err(path.fault("must be auto, none, required or a function")),
        }),
        choice => {
            let mut choice = path.object(choice)?;
            let ty = path.key("type").text(take(&mut choice, "type"))?;
            if ty == "function" {
                let path = path.key("function");
                let mut function = path.object(take(&mut choice, "function"))?;
                let name = path.key("name").text(take(&mut function, "name"))?;
                Some(json!({"type": "tool", "name": names.tool(name)}))
            } else {
                report.dropped("tool_choice");
                None
            }
        }
    };
    if !parallel {
        let choice = translated.get_or_insert_with(|| json!({"type": "auto"}));
        if let Some(choice) =
            choice.as_object_mut().filter(|choice| choice.get("type") != Some(&json!("none")))
        {
            choice.insert("disable_parallel_tool_use".to_owned(), true.into());
        }
    }
    Ok(translated)
}

/// An assistant's `tool_calls` → `tool_use` blocks.
pub(super) fn calls(calls: Value, path: &Path<'_>, names: &mut Names) -> Result<Vec<Value>> {
    if calls.is_null() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (index, call) in path.list(calls)?.into_iter().enumerate() {
        let path = path.index(index);
        let mut call = path.object(call)?;
        let ty = take(&mut call, "type");
        if !ty.is_null() && ty != "function" {
            return Err(path.key("type").fault("must be function"));
        }
        let id = id_at(take(&mut call, "id"), &path.key("id"))?;
        let path = path.key("function");
        let mut function = path.object(take(&mut call, "function"))?;
        let name = path.key("name").text(take(&mut function, "name"))?;
        let input = input(take(&mut function, "arguments"), &path.key("arguments"))?;
        found.push(json!({"type": "tool_use", "id": id, "name": names.tool(name), "input": input}));
    }
    Ok(found)
}

/// A call's id for the provider.
pub(super) fn id_at(id: Value, path: &Path<'_>) -> Result<String> {
    let id = path.text(id)?;
    if id.is_empty() { Err(path.fault("is required")) } else { Ok(names::call_id(id)) }
}

/// A call's `arguments`, which are JSON text, as the object they stand for. What cannot be read is the caller's
/// error: an empty object in its place would be another call.
fn input(arguments: Value, path: &Path<'_>) -> Result<Value> {
    if arguments.is_null() {
        return Ok(json!({}));
    }
    let arguments = path.text(arguments)?;
    if arguments.trim().is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_str(&arguments) {
        Ok(input @ Value::Object(_)) => Ok(input),
        Ok(_) => Err(path.fault("must be the JSON text of an object")),
        Err(error) => Err(path.fault(format_args!("malformed JSON: {error}"))),
    }
}
