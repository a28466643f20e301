//! A request for a message → a chat completion's.

use serde_json::{Map, Value, json};

use super::{
    Translated,
    content::{Conversation, system_text},
};
use crate::{
    Result,
    adapter::{
        Settings,
        anthropic::Names,
        fields::{self, Path, Report, take},
    },
    resource::LlmType,
    wire::ChatRequest,
};

/// OpenAI takes so many stop sequences.
const MAX_STOPS: usize = 4;

pub(in crate::adapter) fn translate(request: &ChatRequest, settings: &Settings<'_>) -> Result<Translated> {
    let ty = settings.ty.unwrap_or(LlmType::OpenAi);
    let mut translation = Translation {
        ty,
        conversation: Conversation::new(ty),
        report: Report::default(),
        names: Names::of_openai(),
        system: None,
        tools: Vec::new(),
        choice: Value::Null,
        parameters: Map::new(),
    };
    for (key, value) in fields::read(request, None)? {
        translation.take_field(&key, value)?;
    }
    translation.finish(settings.model, request.stream())
}

/// A request under translation.
struct Translation {
    ty: LlmType,
    conversation: Conversation,
    report: Report,
    names: Names,
    system: Option<String>,
    tools: Vec<Value>,
    choice: Value,
    /// Parameters that stand on their own.
    parameters: Map<String, Value>,
}

impl Translation {
    fn take_field(&mut self, key: &str, value: Value) -> Result<()> {
        let path = Path::Top(key);
        match key {
            "model" | "stream" => {}
            "messages" => {
                for (index, message) in path.list(value)?.into_iter().enumerate() {
                    let path = path.index(index);
                    self.conversation.add(message, &path, &mut self.names, &mut self.report)?;
                }
            }
            "system" => self.system = system_text(value, &path, &mut self.report)?,
            "max_tokens" => {
                path.count(&value)?;
                // OpenAI's newer models refuse the old name, and other servers know no other.
                let is_new = self.ty == LlmType::OpenAi;
                self.set(if is_new { "max_completion_tokens" } else { "max_tokens" }, value);
            }
            "temperature" | "top_p" => {
                path.number(&value, 0.0, 1.0)?;
                self.set(key, value);
            }
            "top_k" => match self.ty {
                LlmType::Vllm => self.set(key, value),
                _ => self.report.dropped(key),
            },
            "stop_sequences" => self.take_stops(value)?,
            "metadata" => {
                let mut metadata = path.object(value)?;
                let user = take(&mut metadata, "user_id");
                if !user.is_null() {
                    self.set("user", path.key("user_id").text(user)?.into());
                }
                self.report.left_over("metadata", &metadata);
            }
            "thinking" => self.take_thinking(value)?,
            "output_config" => self.take_output(value)?,
            "output_format" => self.take_format(value, &path)?,
            "tools" => self.take_tools(value)?,
            "tool_choice" => self.choice = value,
            "service_tier" if value == "auto" => {}
            _ => self.report.dropped(key),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) {
        self.parameters.insert(key.to_owned(), value);
    }

    fn take_stops(&mut self, value: Value) -> Result<()> {
        let path = Path::Top("stop_sequences");
        let mut stops = Vec::new();
        for (index, stop) in path.list(value)?.into_iter().enumerate() {
            stops.push(Value::from(path.index(index).text(stop)?));
        }
        if self.ty == LlmType::OpenAi && stops.len() > MAX_STOPS {
            stops.truncate(MAX_STOPS);
            self.report.dropped("stop_sequences");
        }
        if !stops.is_empty() {
            self.set("stop", stops.into());
        }
        Ok(())
    }

    /// A budget is an effort, by the numbers that an effort becomes on the way to Anthropic.
    fn take_thinking(&mut self, value: Value) -> Result<()> {
        let path = Path::Top("thinking");
        let mut thinking = path.object(value)?;
        match path.key("type").text(take(&mut thinking, "type"))?.as_str() {
            "enabled" => {
                let budget = path.key("budget_tokens").count(&take(&mut thinking, "budget_tokens"))?;
                let effort = match budget {
                    0..2048 => "low",
                    2048..4096 => "medium",
                    _ => "high",
                };
                if !self.parameters.contains_key("reasoning_effort") {
                    self.set("reasoning_effort", effort.into());
                }
            }
            // How much is left to the model, which is how these models do it anyway.
            "disabled" | "adaptive" => {}
            _ => return Err(path.key("type").fault("must be enabled, disabled or adaptive")),
        }
        self.report.left_over("thinking", &thinking);
        Ok(())
    }

    fn take_output(&mut self, value: Value) -> Result<()> {
        let path = Path::Top("output_config");
        let mut config = path.object(value)?;
        let format = take(&mut config, "format");
        if !format.is_null() {
            self.take_format(format, &path.key("format"))?;
        }
        let effort = take(&mut config, "effort");
        if !effort.is_null() {
            let effort = path.key("effort").text(effort)?;
            let known = matches!(effort.as_str(), "low" | "medium" | "high");
            if !known {
                self.report.dropped("output_config.effort");
            }
            self.set("reasoning_effort", if known { effort.into() } else { "high".into() });
        }
        self.report.left_over("output_config", &config);
        Ok(())
    }

    fn take_format(&mut self, value: Value, path: &Path<'_>) -> Result<()> {
        let mut format = path.object(value)?;
        if path.key("type").text(take(&mut format, "type"))? != "json_schema" {
            return Err(path.key("type").fault("must be json_schema"));
        }
        let schema: Value = path.key("schema").object(take(&mut format, "schema"))?.into();
        let strict = is_strict(&schema);
        if !strict {
            // OpenAI guarantees only schemas that name every property and allow no other.
            self.report.dropped(path);
        }
        self.report.left_over("output_config.format", &format);
        let named = json!({"name": "answer", "schema": schema, "strict": strict});
        self.set("response_format", json!({"type": "json_schema", "json_schema": named}));
        Ok(())
    }

    fn take_tools(&mut self, tools: Value) -> Result<()> {
        let path = Path::Top("tools");
        for (index, tool) in path.list(tools)?.into_iter().enumerate() {
            let path = path.index(index);
            let mut tool = path.object(tool)?;
            let ty = take(&mut tool, "type");
            if !ty.is_null() && ty != "custom" {
                // A tool that Anthropic runs itself.
                self.report.dropped(path);
                continue;
            }
            let name = path.key("name").text(take(&mut tool, "name"))?;
            if name.is_empty() {
                return Err(path.key("name").fault("is required"));
            }
            let mut function = Map::from_iter([("name".to_owned(), self.names.tool(name).into())]);
            let description = take(&mut tool, "description");
            if !description.is_null() {
                let description = path.key("description").text(description)?;
                function.insert("description".to_owned(), description.into());
            }
            let schema = path.key("input_schema").object(take(&mut tool, "input_schema"))?;
            function.insert("parameters".to_owned(), schema.into());
            let strict = take(&mut tool, "strict");
            if !strict.is_null() {
                path.key("strict").flag(&strict)?;
                function.insert("strict".to_owned(), strict);
            }
            if !take(&mut tool, "cache_control").is_null() {
                self.report.dropped("cache_control");
            }
            self.report.left_over("tools", &tool);
            self.tools.push(json!({"type": "function", "function": function}));
        }
        Ok(())
    }

    /// `tool_choice`, and whether several tools may be called at once.
    fn take_choice(&mut self) -> Result<()> {
        let path = Path::Top("tool_choice");
        let mut choice = path.object(std::mem::take(&mut self.choice))?;
        let translated = match path.key("type").text(take(&mut choice, "type"))?.as_str() {
            "auto" => "auto".into(),
            "none" => "none".into(),
            "any" => "required".into(),
            "tool" => {
                let name = self.names.tool(path.key("name").text(take(&mut choice, "name"))?);
                json!({"type": "function", "function": {"name": name}})
            }
            _ => return Err(path.key("type").fault("must be auto, any, tool or none")),
        };
        self.set("tool_choice", translated);
        let sequential = take(&mut choice, "disable_parallel_tool_use");
        if !sequential.is_null() && path.key("disable_parallel_tool_use").flag(&sequential)? {
            self.set("parallel_tool_calls", false.into());
        }
        self.report.left_over("tool_choice", &choice);
        Ok(())
    }

    fn finish(mut self, model: &str, stream: bool) -> Result<Translated> {
        if !self.tools.is_empty() && !self.choice.is_null() {
            self.take_choice()?;
        }
        let mut body = Map::new();
        body.insert("model".to_owned(), model.into());
        let system = self.system.map(|text| json!({"role": "system", "content": text}));
        let said = self.conversation.into_messages(&mut self.report);
        if said.is_empty() {
            return Err(Path::Top("messages").fault("at least one message that is not empty is required"));
        }
        body.insert("messages".to_owned(), system.into_iter().chain(said).collect());
        if !self.tools.is_empty() {
            body.insert("tools".to_owned(), self.tools.into());
        }
        body.append(&mut self.parameters);
        if stream {
            body.insert("stream".to_owned(), true.into());
        }
        let body = Value::Object(body).to_string().into();
        let (dropped, names) = (self.report.into_names(), self.names.into_map());
        Ok(Translated { body, dropped, names, echo: Map::new() })
    }
}

/// Whether OpenAI can guarantee the schema: every object names all its properties and allows no other.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => {
            let properties = object.get("properties").and_then(Value::as_object);
            let closed = object.get("additionalProperties") == Some(&Value::Bool(false));
            let required = object.get("required").and_then(Value::as_array);
            let all = properties.is_none_or(|properties| {
                properties.keys().all(|key| {
                    required.is_some_and(|required| required.iter().any(|name| name.as_str() == Some(key)))
                })
            });
            let is_object = object.get("type").is_some_and(|ty| ty == "object") || properties.is_some();
            (!is_object || (closed && all)) && object.values().all(is_strict)
        }
        Value::Array(list) => list.iter().all(is_strict),
        _ => true,
    }
}
