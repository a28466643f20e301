//! A chat completion's request → one for a message.

use serde_json::{Map, Value, json};

use super::{
    blocks, cache,
    fields::{self, JSON_INSTRUCTION, Path, Report},
    messages::Conversation,
    names::Names,
    thinking, tools,
};
use crate::{
    Result,
    adapter::{DecodeContext, ProviderRequest, Settings},
    wire::ChatRequest,
};

/// The token limit when neither the caller nor the Llm has one: Anthropic requires it.
const DEFAULT_MAX_TOKENS: u64 = 1024;

pub(in crate::adapter) fn encode(request: &ChatRequest, settings: &Settings<'_>) -> Result<ProviderRequest> {
    let mut translation = Translation::default();
    for (key, value) in fields::read(request, settings.defaults)? {
        translation.take_field(&key, value)?;
    }
    let (body, names, dropped) = translation.finish(settings, request.stream())?;
    fields::check_dropped(&dropped, settings.strict)?;
    let context = DecodeContext {
        names: names.into_map(),
        ..DecodeContext::new(settings.llm_name, settings.model, settings.created)
            .with_usage(request.include_usage())
    };
    Ok(ProviderRequest { body: body.to_string().into(), dropped, context })
}

/// A request under translation: what can be written at once, and what has to wait for another field.
#[derive(Default)]
struct Translation {
    report: Report,
    names: Names,
    conversation: Conversation,
    tools: Vec<Value>,
    tool_choice: Value,
    sequential_tools: bool,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    thinking: thinking::Wish,
    wants_json: bool,
    /// Parameters that stand on their own.
    parameters: Map<String, Value>,
}

impl Translation {
    fn take_field(&mut self, key: &str, value: Value) -> Result<()> {
        let path = Path::Top(key);
        match key {
            "model" | "stream" | "stream_options" => {}
            "messages" => {
                self.conversation = Conversation::read(value, &mut self.names, &mut self.report)?;
            }
            "max_tokens" => self.max_tokens = Some(path.count(&value)?),
            "max_completion_tokens" => self.max_completion_tokens = Some(path.count(&value)?),
            "temperature" => {
                let fits = path.number(&value, 0.0, 2.0)? <= 1.0;
                if !fits {
                    self.report.dropped(key);
                }
                self.set(key, if fits { value } else { 1.into() });
            }
            "top_p" => {
                path.number(&value, 0.0, 1.0)?;
                self.set(key, value);
            }
            "top_k" => {
                path.number(&value, 0.0, 1e9)?;
                self.set(key, value);
            }
            "stop" => self.take_stop(value)?,
            "user" => {
                let user = path.text(value)?;
                if !user.is_empty() {
                    self.set("metadata", json!({"user_id": user}));
                }
            }
            "tools" => self.tools = tools::translate(value, &mut self.names, &mut self.report)?,
            "tool_choice" => self.tool_choice = value,
            "parallel_tool_calls" => self.sequential_tools = !path.flag(&value)?,
            "reasoning_effort" => self.thinking.effort = Some(thinking::effort(value, &mut self.report)?),
            "thinking" => self.thinking.native = Some(path.object(value)?),
            "response_format" => self.take_format(value)?,
            "n" => {
                if path.count(&value)? > 1 {
                    return Err(path.fault("this provider gives one choice"));
                }
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

    fn take_stop(&mut self, value: Value) -> Result<()> {
        let path = Path::Top("stop");
        let list = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        let mut kept = Vec::with_capacity(list.len());
        for (index, stop) in list.into_iter().enumerate() {
            let Value::String(stop) = stop else {
                return Err(path.index(index).fault("must be a string"));
            };
            if stop.trim().is_empty() {
                // Anthropic refuses these.
                self.report.dropped("stop");
            } else {
                kept.push(Value::String(stop));
            }
        }
        if !kept.is_empty() {
            self.set("stop_sequences", kept.into());
        }
        Ok(())
    }

    fn take_format(&mut self, value: Value) -> Result<()> {
        let path = Path::Top("response_format");
        let mut format = path.object(value)?;
        let ty = path.key("type").text(fields::take(&mut format, "type"))?;
        match ty.as_str() {
            "text" => {}
            "json_object" => {
                self.report.dropped("response_format");
                self.wants_json = true;
            }
            "json_schema" => {
                let path = path.key("json_schema");
                let mut named = path.object(fields::take(&mut format, "json_schema"))?;
                let schema = path.key("schema").object(fields::take(&mut named, "schema"))?;
                self.set("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
            }
            _ => return Err(path.key("type").fault("must be text, json_object or json_schema")),
        }
        Ok(())
    }

    /// The finished body, the names that were changed, and what was dropped.
    fn finish(mut self, settings: &Settings<'_>, stream: bool) -> Result<(Value, Names, Vec<String>)> {
        let report = &mut self.report;
        let mut body = Map::new();
        body.insert("model".to_owned(), settings.model.into());
        let max_tokens = self.max_completion_tokens.or(self.max_tokens).or(settings.max_tokens);
        // Thinking counts against the limit: one that nobody chose leaves room for the answer itself.
        let room = DEFAULT_MAX_TOKENS.saturating_add(self.thinking.budget());
        let max_tokens = max_tokens.filter(|limit| *limit > 0).unwrap_or(room);
        body.insert("max_tokens".to_owned(), max_tokens.into());
        if self.wants_json {
            self.conversation.system.extend(blocks::text(JSON_INSTRUCTION));
        }
        let turns = self.conversation.turns.iter_mut().flat_map(|turn| &mut turn.content);
        cache::limit(self.tools.iter_mut().chain(&mut self.conversation.system).chain(turns), report);
        if let Some(system) = self.conversation.system() {
            body.insert("system".to_owned(), system);
        }
        if !self.tools.is_empty() {
            body.insert("tools".to_owned(), self.tools.into());
            let choice = tools::choice(self.tool_choice, !self.sequential_tools, &mut self.names, report)?;
            body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
        }
        body.append(&mut self.parameters);
        if let Some(thinking) = self.thinking.settle(max_tokens, &body, &self.conversation.turns, report) {
            if thinking.get("type") != Some(&json!("disabled")) {
                thinking::drop_clashes(&mut body, report);
            }
            body.insert("thinking".to_owned(), thinking);
        }
        let turns = self.conversation.turns.into_iter().map(|turn| turn.into_json());
        body.insert("messages".to_owned(), turns.collect());
        if stream {
            body.insert("stream".to_owned(), true.into());
        }
        Ok((body.into(), self.names, self.report.into_names()))
    }
}

/// Whether a parameter that a provider lacks asks for nothing beyond what it does anyway.
pub(in crate::adapter) fn is_neutral(key: &str, value: &Value) -> bool {
    match key {
        "logprobs" | "store" => value == false,
        "frequency_penalty" | "presence_penalty" | "top_logprobs" => value.as_f64() == Some(0.0),
        "logit_bias" | "metadata" => value.as_object().is_some_and(Map::is_empty),
        "service_tier" => value == "auto" || value == "default",
        "modalities" => *value == json!(["text"]),
        _ => false,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
