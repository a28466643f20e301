use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure;
use crate::{Error, ErrorKind, Result};

/// What reading an answer needs to know about its request.
#[derive(Clone, Debug, Default)]
pub struct DecodeContext {
    pub(super) llm_name: String,
    pub(super) model: String,
    pub(super) created: i64,
    pub(super) include_usage: bool,
    pub(super) strip_usage: bool,
    /// Names of tools that had to be changed for the provider: the provider's → the caller's.
    pub(super) names: HashMap<String, String>,
    /// The same for tools that had to be changed on the way to a chat request.
    pub(super) caller_names: HashMap<String, String>,
    /// What the answer repeats of its request.
    pub(super) echo: Map<String, Value>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// A chat completion in OpenAI's format.
    pub body: Bytes,
    /// What is worth knowing about it.
    pub summary: Summary,
}

/// What accounting wants to know about an answer. A number that the provider did not give is `None`, not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tokens of the request, those read from or written to a cache included.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// Tokens of the request that were read from a cache.
    pub cached_tokens: Option<u64>,
    /// Why the answer ended, in OpenAI's words.
    pub finish_reason: Option<String>,
    /// The message of an error in the middle of a stream, or in an answer that claimed success.
    pub error: Option<String>,
}

/// What an OpenAI `usage` object says, in the spelling of either of its APIs.
#[derive(Default, Deserialize)]
pub(super) struct Usage {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
    prompt_tokens_details: Option<UsageDetails>,
    input_tokens_details: Option<UsageDetails>,
    /// DeepSeek's own.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
pub(super) struct UsageDetails {
    cached_tokens: Option<u64>,
}

impl DecodeContext {
    /// The context of an answer to the Llm `llm_name`; `model` is used when the answer names none, and `created`
    /// is in seconds since 1970. An [`Adapter::encode`](super::Adapter::encode) gives a fuller one.
    pub fn new(llm_name: impl Into<String>, model: impl Into<String>, created: i64) -> Self {
        Self { llm_name: llm_name.into(), model: model.into(), created, ..Self::default() }
    }

    /// The same, for a caller who wants (or does not want) a last chunk with the usage.
    #[must_use]
    pub fn with_usage(mut self, include_usage: bool) -> Self {
        self.include_usage = include_usage;
        self
    }

    /// A failure of the provider, naming the Llm.
    pub(super) fn provider_error(&self, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Provider, self.message(what))
    }

    /// Reads an answer that must be a JSON object.
    pub(super) fn read_object<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T> {
        let text = std::str::from_utf8(body).ok().filter(|text| text.trim_start().starts_with('{'));
        let cause = match text.map(serde_json::from_str::<T>) {
            Some(Ok(read)) => return Ok(read),
            Some(Err(error)) if error.is_data() => "a JSON object of another shape",
            _ if failure::looks_like_html(body) => "HTML",
            _ if body.trim_ascii().is_empty() => "an empty body",
            _ => "something that is not a JSON object",
        };
        Err(self.provider_error(format_args!("the provider answered with {cause}")))
    }

    /// `what`, with the Llm's name in front.
    pub(super) fn message(&self, what: impl std::fmt::Display) -> String {
        format!("llm `{}`: {what}", self.llm_name)
    }
}

impl Summary {
    /// Takes over what an OpenAI `usage` object says; what it does not say, or not as a number, stays.
    pub(super) fn read_usage(&mut self, usage: &Value) {
        let number = |key: &str| usage.get(key).and_then(Value::as_u64);
        let details = |key: &str| {
            usage.get(key).map(|details| UsageDetails {
                cached_tokens: details.get("cached_tokens").and_then(Value::as_u64),
            })
        };
        self.add_usage(&Usage {
            prompt_tokens: number("prompt_tokens"),
            input_tokens: number("input_tokens"),
            completion_tokens: number("completion_tokens"),
            output_tokens: number("output_tokens"),
            prompt_tokens_details: details("prompt_tokens_details"),
            input_tokens_details: details("input_tokens_details"),
            prompt_cache_hit_tokens: number("prompt_cache_hit_tokens"),
        });
    }

    /// Takes over what an OpenAI `usage` object says; what it does not say stays.
    pub(super) fn add_usage(&mut self, usage: &Usage) {
        let cached = |details: &Option<UsageDetails>| details.as_ref()?.cached_tokens;
        self.prompt_tokens = usage.prompt_tokens.or(usage.input_tokens).or(self.prompt_tokens);
        self.completion_tokens = usage.completion_tokens.or(usage.output_tokens).or(self.completion_tokens);
        self.cached_tokens = cached(&usage.prompt_tokens_details)
            .or_else(|| cached(&usage.input_tokens_details))
            .or(usage.prompt_cache_hit_tokens)
            .or(self.cached_tokens);
    }

    /// Takes over what a chat completion or a chunk of one says.
    pub(super) fn read_answer(&mut self, answer: &Value) {
        if let Some(usage) = answer.get("usage") {
            self.read_usage(usage);
        }
        let choices = answer.get("choices").and_then(Value::as_array);
        for choice in choices.into_iter().flatten() {
            if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
                self.finish_reason = Some(reason.to_owned());
            }
        }
        if let Some(message) = failure::message_in(answer) {
            self.error.get_or_insert(message);
        }
    }
}
