//! A whole chat completion, as blocks one after the other.

use serde_json::{Map, Value};

use crate::{
    Result,
    adapter::{DecodeContext, Summary, failure},
};

/// A chat completion.
pub(super) struct Completion {
    pub(super) head: Head,
    pub(super) blocks: Vec<Block>,
    /// In OpenAI's words, but `tool_calls` whenever there are any, and `content_filter` for a refusal.
    pub(super) finish: Option<String>,
    pub(super) counts: Counts,
}

/// What an answer begins with.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Head {
    /// Without OpenAI's prefix.
    pub(super) id: String,
    pub(super) model: String,
}

/// A piece of an answer.
pub(super) enum Block {
    Thinking(String),
    Text(String),
    Tool { id: String, name: String, arguments: String },
}

/// Numbers of tokens. One that was not given is unknown, which is not 0.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::adapter) struct Counts {
    pub(super) prompt: Option<u64>,
    pub(super) cached: Option<u64>,
    pub(super) completion: Option<u64>,
    pub(super) reasoning: Option<u64>,
}

impl Counts {
    /// Takes over what a `usage` object says; what it does not say stays.
    pub(super) fn merge(&mut self, usage: &Value) {
        // As accounting reads them: the caller and the audit trail are told the same.
        let mut known = Summary {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            cached_tokens: self.cached,
            ..Summary::default()
        };
        known.read_usage(usage);
        (self.prompt, self.completion) = (known.prompt_tokens, known.completion_tokens);
        self.cached = known.cached_tokens;
        let reasoning = usage.pointer("/completion_tokens_details/reasoning_tokens");
        self.reasoning = reasoning.and_then(Value::as_u64).or(self.reasoning);
    }
}

impl Head {
    pub(super) fn read(answer: &Value, context: &DecodeContext) -> Self {
        let text = |key: &str| answer.get(key).and_then(Value::as_str);
        let id = text("id").filter(|id| !id.is_empty()).unwrap_or("unknown");
        Self {
            id: id.strip_prefix("chatcmpl-").unwrap_or(id).to_owned(),
            model: text("model").filter(|model| !model.is_empty()).unwrap_or(&context.model).to_owned(),
        }
    }
}

/// The text of thinking, under either of the names that servers give it.
pub(super) fn reasoning(message: &Value) -> Option<&str> {
    let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("reasoning_content").or(text("reasoning"))
}

/// The arguments of a call as JSON text; some servers send the object itself.
pub(super) fn arguments(function: &Value) -> String {
    match function.get("arguments") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The reason that the caller should see: some servers say `stop` however the answer ended.
pub(super) fn settled(reason: &str, has_tools: bool, refused: bool) -> &str {
    match reason {
        "stop" | "function_call" if has_tools => "tool_calls",
        "stop" if refused => "content_filter",
        reason => reason,
    }
}

impl Completion {
    pub(super) fn read(body: &[u8], context: &DecodeContext) -> Result<Self> {
        let answer: Value = context.read_object::<Map<String, Value>>(body)?.into();
        let choice = answer.get("choices").and_then(Value::as_array).and_then(|choices| choices.first());
        let Some((choice, message)) = choice.and_then(|choice| Some((choice, choice.get("message")?))) else {
            let what = "the provider answered with JSON that is not a chat completion";
            // An error that claimed success says what is wrong.
            let told = answer.get("error").and_then(|_| failure::message_in(&answer));
            return Err(context.provider_error(told.as_deref().unwrap_or(what)));
        };
        let mut blocks = Vec::new();
        blocks.extend(reasoning(message).map(|text| Block::Thinking(text.to_owned())));
        let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let refusal = text("refusal");
        blocks.extend(text("content").into_iter().chain(refusal).map(|text| Block::Text(text.to_owned())));
        let calls = message.get("tool_calls").and_then(Value::as_array);
        let mut has_tools = false;
        for (index, call) in calls.into_iter().flatten().enumerate() {
            let Some(function) = call.get("function") else { continue };
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
            let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
            blocks.push(Block::Tool {
                id: id.map_or_else(|| format!("call_{index}"), str::to_owned),
                name: context.caller_names.get(name).map_or(name, String::as_str).to_owned(),
                arguments: arguments(function),
            });
            has_tools = true;
        }
        let finish = choice.get("finish_reason").and_then(Value::as_str);
        let finish = finish.map(|reason| settled(reason, has_tools, refusal.is_some()).to_owned());
        let mut counts = Counts::default();
        counts.merge(answer.get("usage").unwrap_or(&Value::Null));
        Ok(Self { head: Head::read(&answer, context), blocks, finish, counts })
    }
}
