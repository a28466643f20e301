//! A chat completion's request → a prompt.

use serde_json::Value;

use crate::{
    Error, ErrorKind, Result,
    adapter::{
        DecodeContext, ProviderRequest, Settings,
        anthropic::is_neutral,
        fields::{self, JSON_INSTRUCTION, Path, Report, take},
    },
    wire::{ChatRequest, request::shown},
};

/// The longest prompt, in bytes. Of a longer one the program would read this much, and say so to nobody.
const MAX_PROMPT: usize = 8 * 1024 * 1024;
/// The longest name of a model.
const MAX_MODEL: usize = 200;

pub(in crate::adapter) fn encode(request: &ChatRequest, settings: &Settings<'_>) -> Result<ProviderRequest> {
    check_model(settings.model)?;
    let mut body = fields::read(request, settings.defaults)?;
    let mut report = Report::default();
    let mut turns = read_messages(body.shift_remove("messages").unwrap_or_default(), &mut report)?;
    for (key, value) in body {
        turns.extend(take_field(&key, &value, &mut report)?);
    }
    let prompt = inert(write(&turns), &mut report);
    if prompt.len() > MAX_PROMPT {
        let message = format!("messages: are longer than the {MAX_PROMPT} bytes that this provider takes");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let dropped = report.into_names();
    fields::check_dropped(&dropped, settings.strict)?;
    let context = DecodeContext::new(settings.llm_name, settings.model, settings.created)
        .with_usage(request.include_usage());
    Ok(ProviderRequest { body: prompt.into(), dropped, context })
}

/// The model becomes part of a command line, and then of a path at the provider: nothing in it may look like anything
/// else, and nothing may lead to another path.
fn check_model(model: &str) -> Result<()> {
    let harmless = |letter: char| letter.is_ascii_alphanumeric() || "._-:/@".contains(letter);
    let fits = model.len() <= MAX_MODEL
        && !model.starts_with('-')
        && !model.contains("..")
        && model.chars().all(harmless);
    if fits { Ok(()) } else { Err(Path::Top("model").fault("is no name of a model of this provider")) }
}

/// What a turn is headed with, and its text.
type Turn = (&'static str, String);

fn read_messages(messages: Value, report: &mut Report) -> Result<Vec<Turn>> {
    let path = Path::Top("messages");
    let mut turns = Vec::new();
    for (index, message) in path.list(messages)?.into_iter().enumerate() {
        let path = path.index(index);
        let mut message = path.object(message)?;
        let role = path.key("role").text(take(&mut message, "role"))?;
        let head = match role.as_str() {
            "system" | "developer" => "[system]",
            "user" => "[user]",
            "assistant" => "[assistant]",
            "tool" => return Err(path.key("role").fault("this provider takes no results of tools")),
            other => {
                let what = format!("`{}` is not system, developer, user or assistant", shown(other));
                return Err(path.key("role").fault(what));
            }
        };
        for key in ["tool_calls", "function_call"] {
            let calls = take(&mut message, key);
            if !calls.is_null() && calls.as_array().is_none_or(|calls| !calls.is_empty()) {
                return Err(path.key(key).fault("this provider takes no calls of tools"));
            }
        }
        let text = read_content(take(&mut message, "content"), head, &path.key("content"))?;
        if !text.trim().is_empty() {
            turns.push((head, text));
        }
        report.left_over("messages", &message);
    }
    if turns.iter().all(|(head, _)| *head == "[system]") {
        let what = "at least one message of the user or the assistant that is not empty is required";
        return Err(path.fault(what));
    }
    Ok(turns)
}

fn read_content(content: Value, head: &str, path: &Path<'_>) -> Result<String> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        Value::Null if head == "[assistant]" => return Ok(String::new()),
        Value::Null => return Err(path.fault("is required")),
        _ => return Err(path.fault("must be a string or a list of parts")),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let path = path.index(index);
        let mut part = path.object(part)?;
        let ty = path.key("type").text(take(&mut part, "type"))?;
        if ty != "text" {
            let what = format!("`{}` cannot be sent to this provider, which takes text alone", shown(&ty));
            return Err(path.key("type").fault(what));
        }
        texts.push(path.key("text").text(take(&mut part, "text"))?);
    }
    Ok(texts.join("\n"))
}

/// What a parameter adds to the prompt. All but a wish for JSON are dropped.
fn take_field(key: &str, value: &Value, report: &mut Report) -> Result<Option<Turn>> {
    let path = Path::Top(key);
    match key {
        "model" | "stream" | "stream_options" => {}
        "n" => {
            if path.count(value)? > 1 {
                return Err(path.fault("this provider gives one choice"));
            }
        }
        "tools" | "functions" => {
            if value.as_array().is_none_or(|tools| !tools.is_empty()) {
                report.dropped(key);
            }
        }
        "tool_choice" | "function_call" => {
            let wish = value.as_str().unwrap_or("a function");
            if wish != "auto" && wish != "none" {
                return Err(path.fault("this provider takes no tools"));
            }
        }
        "parallel_tool_calls" => {}
        "response_format" => return instruction(value, report),
        _ => {
            if !is_neutral(key, value) {
                report.dropped(key);
            }
        }
    }
    Ok(None)
}

/// A wish for JSON, which this provider can only be asked for.
fn instruction(format: &Value, report: &mut Report) -> Result<Option<Turn>> {
    let path = Path::Top("response_format");
    let text = match format.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(None),
        Some("json_object") => JSON_INSTRUCTION.to_owned(),
        Some("json_schema") => match format.pointer("/json_schema/schema") {
            Some(schema @ Value::Object(_)) => {
                format!("{JSON_INSTRUCTION} It must be valid under this JSON schema:\n{schema}")
            }
            _ => return Err(path.key("json_schema").key("schema").fault("must be an object")),
        },
        _ => return Err(path.key("type").fault("must be text, json_object or json_schema")),
    };
    report.dropped("response_format");
    Ok(Some(("[system]", text)))
}

/// One text of the user alone is the prompt; more are told apart by a line that says whose each is.
fn write(turns: &[Turn]) -> String {
    match turns {
        // A slash would make it a command.
        [(head, text)] if *head == "[user]" && !text.trim_start().starts_with('/') => text.clone(),
        _ => {
            let mut prompt = String::new();
            for (head, text) in turns {
                prompt.push_str(head);
                for line in text.split('\n') {
                    // Nobody's text begins a turn of somebody else.
                    let is_head = ["[system]", "[user]", "[assistant]"].contains(&line.trim());
                    prompt.push_str(if is_head { "\n " } else { "\n" });
                    prompt.push_str(line);
                }
                prompt.push_str("\n\n");
            }
            prompt
        }
    }
}

/// Takes the meaning from what would name a file. The program reads files that a prompt names as `@path`; it does so
/// in its working folder alone, which is empty, and this does not rely on that.
fn inert(prompt: String, report: &mut Report) -> String {
    let mut written = String::new();
    let mut rest = prompt.as_str();
    while let Some((before, after)) = rest.split_once('@') {
        // Names may be quoted, and have backslashes in them.
        let word = after.split([' ', '\t', '\n', '\r']).next().unwrap_or_default();
        let is_path = word.starts_with(['/', '.', '~']) || word.contains(['"', '\\']) || word.contains("..");
        written.push_str(before);
        written.push_str(if is_path { "\\@" } else { "@" });
        if is_path {
            report.dropped("messages.at-path");
        }
        rest = after;
    }
    if written.is_empty() {
        return prompt;
    }
    written.push_str(rest);
    written
}
