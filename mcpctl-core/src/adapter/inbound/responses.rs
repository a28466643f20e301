//! A request for a response → a chat completion's.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Translated;
use crate::{
    Error, Result,
    adapter::{
        Settings,
        fields::{self, Path, Report, take},
    },
    resource::LlmType,
    wire::{ChatRequest, request::shown},
};

/// Fields that a response repeats.
const ECHOED: [&str; 11] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

pub(in crate::adapter) fn translate(request: &ChatRequest, settings: &Settings<'_>) -> Result<Translated> {
    let mut translation = Translation {
        joins: settings.ty == Some(LlmType::DeepSeek),
        report: Report::default(),
        system: None,
        messages: Vec::new(),
        echo: Map::new(),
        parameters: Map::new(),
    };
    for (key, value) in fields::read(request, None)? {
        if ECHOED.contains(&key.as_str()) {
            translation.echo.insert(key.clone(), value.clone());
        }
        translation.take_field(&key, value)?;
    }
    if translation.messages.is_empty() {
        return Err(Error::invalid("input is required"));
    }
    let messages = translation.system.into_iter().chain(translation.messages);
    let mut body = Map::from_iter([
        ("model".to_owned(), settings.model.into()),
        ("messages".to_owned(), messages.collect()),
    ]);
    body.append(&mut translation.parameters);
    if request.stream() {
        body.insert("stream".to_owned(), true.into());
    }
    Ok(Translated {
        body: Value::Object(body).to_string().into(),
        dropped: translation.report.into_names(),
        names: HashMap::new(),
        echo: translation.echo,
    })
}

/// A request under translation.
struct Translation {
    /// Several texts become one: the provider takes no lists.
    joins: bool,
    report: Report,
    system: Option<Value>,
    messages: Vec<Value>,
    echo: Map<String, Value>,
    parameters: Map<String, Value>,
}

impl Translation {
    fn take_field(&mut self, key: &str, value: Value) -> Result<()> {
        let path = Path::Top(key);
        match key {
            "model" | "stream" | "stream_options" | "metadata" => {}
            "input" => self.take_input(value)?,
            "instructions" => {
                self.system = Some(json!({"role": "system", "content": path.text(value)?}));
            }
            "max_output_tokens" => self.set("max_tokens", value),
            "temperature" | "top_p" | "parallel_tool_calls" | "user" => self.set(key, value),
            "tools" => self.take_tools(value)?,
            "tool_choice" => self.take_choice(value)?,
            "text" => {
                let mut text = path.object(value)?;
                let format = take(&mut text, "format");
                self.take_format(format, &path.key("format"))?;
                self.report.left_over(key, &text);
            }
            "reasoning" => {
                let mut reasoning = path.object(value)?;
                let effort = take(&mut reasoning, "effort");
                if !effort.is_null() {
                    self.set("reasoning_effort", effort);
                }
                self.report.left_over(key, &reasoning);
            }
            // These refer to what only a provider that keeps responses knows.
            "previous_response_id" | "conversation" | "prompt" => {
                return Err(path.fault("this provider keeps no responses, conversations or prompts"));
            }
            "background" if value == true => {
                return Err(path.fault("this provider answers at once or not at all"));
            }
            _ => {
                if !is_neutral(key, &value) {
                    self.report.dropped(key);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) {
        self.parameters.insert(key.to_owned(), value);
    }

    fn take_input(&mut self, input: Value) -> Result<()> {
        let path = Path::Top("input");
        let Value::Array(items) = input else {
            let text = path.text(input)?;
            self.messages.push(json!({"role": "user", "content": text}));
            return Ok(());
        };
        for (index, item) in items.into_iter().enumerate() {
            let path = path.index(index);
            let mut item = path.object(item)?;
            let ty = take(&mut item, "type");
            match ty.as_str().unwrap_or("message") {
                "message" => self.take_message(item, &path)?,
                "function_call" => {
                    let text = |item: &mut Map<String, Value>, key| path.key(key).text(take(item, key));
                    let id = text(&mut item, "call_id")?;
                    let function = json!({"name": text(&mut item, "name")?,
                                          "arguments": text(&mut item, "arguments")?});
                    self.call(json!({"id": id, "type": "function", "function": function}));
                }
                "function_call_output" => {
                    let id = path.key("call_id").text(take(&mut item, "call_id"))?;
                    let parts = self.parts(take(&mut item, "output"), &path.key("output"))?;
                    let content = fields::content(parts, true).unwrap_or_else(|| "".into());
                    self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
                }
                // What an earlier answer thought, in a form that only its provider reads.
                "reasoning" => self.report.dropped("input.reasoning"),
                other => {
                    let what = format!("`{}` cannot be sent to this provider", shown(other));
                    return Err(path.key("type").fault(what));
                }
            }
        }
        Ok(())
    }

    fn take_message(&mut self, mut item: Map<String, Value>, path: &Path<'_>) -> Result<()> {
        let role = path.key("role").text(take(&mut item, "role"))?;
        let role = match role.as_str() {
            "system" | "developer" => "system",
            "user" => "user",
            "assistant" => "assistant",
            _ => return Err(path.key("role").fault("must be user, assistant, system or developer")),
        };
        let parts = self.parts(take(&mut item, "content"), &path.key("content"))?;
        if let Some(content) = fields::content(parts, self.joins || role != "user") {
            self.messages.push(json!({"role": role, "content": content}));
        }
        Ok(())
    }

    /// Calls belong to one message of the assistant, with what it said before.
    fn call(&mut self, call: Value) {
        let last =
            self.messages.last_mut().filter(|last| last.get("role").is_some_and(|role| role == "assistant"));
        match last.and_then(Value::as_object_mut) {
            Some(last) => match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                Some(calls) => calls.push(call),
                None => drop(last.insert("tool_calls".to_owned(), vec![call].into())),
            },
            None => self.messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
        }
    }

    fn parts(&mut self, content: Value, path: &Path<'_>) -> Result<Vec<Value>> {
        let parts = match content {
            Value::String(text) => return Ok(vec![json!({"type": "text", "text": text})]),
            Value::Array(parts) => parts,
            _ => return Err(path.fault("must be a string or a list of parts")),
        };
        let mut found = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let path = path.index(index);
            let mut part = path.object(part)?;
            let ty = path.key("type").text(take(&mut part, "type"))?;
            found.push(match ty.as_str() {
                "input_text" | "output_text" | "text" => {
                    json!({"type": "text", "text": path.key("text").text(take(&mut part, "text"))?})
                }
                "refusal" => {
                    json!({"type": "text", "text": path.key("refusal").text(take(&mut part, "refusal"))?})
                }
                "input_image" => {
                    let url = path.key("image_url").text(take(&mut part, "image_url"))?;
                    let mut image = json!({"url": url});
                    let detail = take(&mut part, "detail");
                    if let (Some(image), false) = (image.as_object_mut(), detail.is_null()) {
                        image.insert("detail".to_owned(), detail);
                    }
                    json!({"type": "image_url", "image_url": image})
                }
                "input_file" => {
                    let data = path.key("file_data").text(take(&mut part, "file_data"))?;
                    let file = json!({"filename": take(&mut part, "filename"), "file_data": data});
                    json!({"type": "file", "file": file})
                }
                other => {
                    let what = format!("`{}` cannot be sent to this provider", shown(other));
                    return Err(path.key("type").fault(what));
                }
            });
        }
        Ok(found)
    }

    fn take_tools(&mut self, tools: Value) -> Result<()> {
        let path = Path::Top("tools");
        let mut found = Vec::new();
        for (index, tool) in path.list(tools)?.into_iter().enumerate() {
            let path = path.index(index);
            let mut tool = path.object(tool)?;
            let ty = path.key("type").text(take(&mut tool, "type"))?;
            if ty == "function" {
                tool.retain(|_, value| !value.is_null());
                found.push(json!({"type": "function", "function": tool}));
            } else {
                // A tool that OpenAI runs itself.
                self.report.dropped(path);
            }
        }
        if !found.is_empty() {
            self.set("tools", found.into());
        }
        Ok(())
    }

    fn take_choice(&mut self, choice: Value) -> Result<()> {
        let path = Path::Top("tool_choice");
        if choice.is_string() {
            self.set("tool_choice", choice);
            return Ok(());
        }
        let mut choice = path.object(choice)?;
        if take(&mut choice, "type") == "function" {
            let name = path.key("name").text(take(&mut choice, "name"))?;
            self.set("tool_choice", json!({"type": "function", "function": {"name": name}}));
        } else {
            self.report.dropped("tool_choice");
        }
        Ok(())
    }

    fn take_format(&mut self, format: Value, path: &Path<'_>) -> Result<()> {
        if format.is_null() {
            return Ok(());
        }
        let mut format = path.object(format)?;
        match path.key("type").text(take(&mut format, "type"))?.as_str() {
            "text" => {}
            "json_object" => self.set("response_format", json!({"type": "json_object"})),
            "json_schema" => {
                format.retain(|_, value| !value.is_null());
                self.set("response_format", json!({"type": "json_schema", "json_schema": format}));
            }
            _ => return Err(path.key("type").fault("must be text, json_object or json_schema")),
        }
        Ok(())
    }
}

/// Whether a parameter asks for nothing beyond what happens anyway.
fn is_neutral(key: &str, value: &Value) -> bool {
    match key {
        "store" | "background" => value == false,
        "truncation" => value == "disabled",
        "service_tier" => value == "auto" || value == "default",
        "top_logprobs" => value.as_f64() == Some(0.0),
        "include" => value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}
