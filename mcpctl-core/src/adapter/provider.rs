use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    DecodeContext, Decoded, ProviderError, StreamDecoder, anthropic, failure, failure::Shape, gemini, openai,
};
use crate::{Result, resource::LlmType, wire::ChatRequest};

/// The formats that providers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Adapter {
    /// OpenAI's chat completions: what callers speak too, so bytes pass through.
    OpenAi,
    /// Anthropic's Messages API, version `2023-06-01`: translated.
    Anthropic,
    /// The `gemini` program: a prompt on its standard input, lines of JSON on its standard output.
    Gemini,
}

/// What an Llm's configuration says about a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// The Llm's name, for messages.
    pub llm_name: &'a str,
    /// The model to ask the provider for.
    pub model: &'a str,
    /// The token limit of an answer when the request has none and the provider requires one.
    pub max_tokens: Option<u64>,
    /// Refuse a request that cannot be expressed in full, instead of reporting what was dropped.
    pub strict: bool,
    /// Request fields to set when absent.
    pub defaults: Option<&'a Map<String, Value>>,
    /// The `anthropic-version` that will be sent; kept here so that a translation may depend on it.
    pub anthropic_version: Option<&'a str>,
    /// The time of the answer, in seconds since 1970.
    pub created: i64,
    /// Ask an OpenAI-format provider for the usage of a stream even if the caller did not. The extra chunk is
    /// removed from what the caller sees. Only for providers that are known to accept `stream_options`.
    pub ask_usage: bool,
    /// The provider's type, for what OpenAI-format providers differ in; OpenAI's own unless given.
    pub ty: Option<LlmType>,
}

/// What to send to the provider, and what its answer will have to be read with.
#[derive(Clone, Debug)]
pub struct ProviderRequest {
    /// The body.
    pub body: Bytes,
    /// Parameters that the provider cannot be told, or that were changed: for `x-mcpctl-dropped`. Printable ASCII
    /// without commas or spaces, each at most 64 characters.
    pub dropped: Vec<String>,
    /// For [`Adapter::decode`] and [`Adapter::stream`].
    pub context: DecodeContext,
}

impl Adapter {
    /// The adapter of a provider type.
    pub const fn of(ty: LlmType) -> Self {
        match ty {
            LlmType::OpenAi | LlmType::DeepSeek | LlmType::Vllm | LlmType::Ollama => Self::OpenAi,
            LlmType::Anthropic => Self::Anthropic,
            LlmType::GeminiCli => Self::Gemini,
        }
    }

    /// The path of chat below a provider's base URL; see [`Adapter::endpoint`]. A program has no addresses, and the
    /// path stands for its one way to be called.
    pub const fn chat_path(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Gemini => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }

    /// The content type of a streamed answer.
    pub const fn stream_type(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "text/event-stream",
            Self::Gemini => "application/x-ndjson",
        }
    }

    /// The URL of `path` below `base_url`. A base that already ends in `/v1`, with or without a slash, does not
    /// get a second one.
    ///
    /// ```
    /// use mcpctl_core::adapter::Adapter;
    ///
    /// for base in ["http://host:1", "http://host:1/", "http://host:1/v1", "http://host:1/v1/"] {
    ///     assert_eq!(Adapter::endpoint(base, "/v1/messages"), "http://host:1/v1/messages");
    /// }
    /// ```
    pub fn endpoint(base_url: &str, path: &str) -> String {
        let base = base_url.trim_end_matches('/');
        let base = match path.starts_with("/v1/") {
            true => base.strip_suffix("/v1").unwrap_or(base),
            false => base,
        };
        format!("{base}{path}")
    }

    /// The provider's request for the caller's.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field, when the request is malformed or cannot be
    /// expressed at all; with [`Settings::strict`] also when it cannot be expressed in full.
    pub fn encode(self, request: &ChatRequest, settings: &Settings<'_>) -> Result<ProviderRequest> {
        match self {
            Self::OpenAi => Ok(openai::encode(request, settings)),
            Self::Anthropic => anthropic::encode(request, settings),
            Self::Gemini => gemini::encode(request, settings),
        }
    }

    /// A whole successful answer, in OpenAI's format. From an OpenAI-format provider these are the same bytes,
    /// checked to be a JSON object.
    ///
    /// # Errors
    ///
    /// [`Provider`](crate::ErrorKind::Provider), naming the Llm and the cause, when the answer is something else.
    pub fn decode(self, body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
        match self {
            Self::OpenAi => openai::decode(body, context),
            Self::Anthropic => anthropic::decode(body, context),
            Self::Gemini => gemini::decode(body, context),
        }
    }

    /// An answer whose status is not a success, as it may be shown to the caller. Works for any status and any
    /// bytes.
    pub fn decode_error(self, status: u16, body: &[u8], llm_name: &str) -> ProviderError {
        failure::decode_error(self, Shape::OpenAi, status, body, llm_name)
    }

    /// A decoder of a streamed answer.
    pub fn stream(self, context: DecodeContext) -> StreamDecoder {
        match self {
            Self::OpenAi => StreamDecoder::openai(context),
            Self::Anthropic => StreamDecoder::anthropic(context),
            Self::Gemini => StreamDecoder::gemini(context),
        }
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
