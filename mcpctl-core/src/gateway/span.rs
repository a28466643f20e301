//! The span of a call, in the words of OpenTelemetry's conventions for generative AI. It says who asked which model
//! and how that ended, and nothing of what was said.
//!
//! Spans are made with `tracing` under a target of their own, [`SPANS`]. Unless a subscriber wants that target there
//! is no span, and nothing is allocated for one.

use std::time::Duration;

use http::{HeaderValue, Uri};
use tracing::{Span, field::Empty};

use crate::{
    adapter::Api,
    registry::LlmEntry,
    resource::{InferenceCall, LlmType},
};

/// The target of spans that are made for tracing requests, and for nothing else.
pub const SPANS: &str = "mcpctl::spans";

/// Makes the `traceparent` that stands for a span at the provider; `None` when the span is not traced.
///
/// It is called with the span of each call that is traced, and never otherwise. What it returns is sent under that
/// one name: it cannot touch the credential or any other header.
pub type Propagate = fn(&Span) -> Option<HeaderValue>;

/// The header that carries a span to a provider.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The span of one call.
pub(super) struct CallSpan {
    span: Span,
    /// The span around it.
    around: Span,
    operation: &'static str,
    is_named: bool,
}

impl CallSpan {
    /// Begins a span inside the current one; `None` when nobody traces.
    pub(super) fn begin(api: Api, llm: &LlmEntry, streaming: bool) -> Option<Box<Self>> {
        let span = tracing::info_span!(
            target: SPANS,
            "inference",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            gen_ai.operation.name = Empty,
            gen_ai.provider.name = provider_name(llm.spec.ty),
            gen_ai.request.model = Empty,
            gen_ai.request.stream = streaming,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.response.time_to_first_chunk = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            http.response.status_code = Empty,
            error.r#type = Empty,
            mcpctl.llm = llm.name,
            server.address = Empty,
            server.port = Empty,
        );
        if span.is_disabled() {
            return None;
        }
        let operation = operation_name(api);
        span.record("gen_ai.operation.name", operation);
        let url = Some(llm.spec.url.as_str()).filter(|url| !url.is_empty()).or(llm.spec.ty.default_url());
        if let Some(uri) = url.and_then(|url| url.parse::<Uri>().ok()) {
            // The host alone: a URL may hold more than others should see.
            span.record("server.address", uri.host());
            let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
            span.record("server.port", i64::from(uri.port_u16().unwrap_or(usual)));
        }
        Some(Box::new(Self { span, around: Span::current(), operation, is_named: false }))
    }

    /// The model that is asked for. The first one counts: a span that a provider was told of keeps its name.
    pub(super) fn model(&mut self, model: &str) {
        if !std::mem::replace(&mut self.is_named, true) {
            let model: String = model.chars().filter(|letter| !letter.is_control()).take(200).collect();
            self.span.record("otel.name", format!("{} {model}", self.operation));
            self.span.record("gen_ai.request.model", model);
        }
    }

    /// What a provider is told of this span.
    pub(super) fn traceparent(&self, propagate: Propagate) -> Option<HeaderValue> {
        propagate(&self.span)
    }

    /// Ends the span of a call that ended like this.
    pub(super) fn end(mut self, call: &InferenceCall, first_byte: Option<Duration>) {
        self.model(&call.model);
        let Self { span, around, .. } = self;
        span.record("http.response.status_code", i64::from(call.status));
        // As a number that fits: unsigned ones would be exported as text.
        let tokens = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
        span.record("gen_ai.usage.input_tokens", tokens(call.prompt_tokens));
        span.record("gen_ai.usage.output_tokens", tokens(call.completion_tokens));
        span.record("gen_ai.usage.cache_read.input_tokens", tokens(call.cached_tokens));
        span.record("gen_ai.response.finish_reasons", call.finish_reason.as_deref().map(known_reason));
        if call.streaming {
            span.record("gen_ai.response.time_to_first_chunk", first_byte.map(|time| time.as_secs_f64()));
        }
        if let Some(error) = error_type(call) {
            span.record("error.type", error);
            span.record("otel.status_code", "ERROR");
        }
        drop(span);
        // A span ends when it was last left: that of the request lasts for as long as its answer streams.
        around.in_scope(|| ());
    }
}

const fn operation_name(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions | Api::Responses | Api::Messages => "chat",
        Api::Completions => "text_completion",
        Api::Embeddings => "embeddings",
        Api::CountTokens => "count_tokens",
    }
}

const fn provider_name(ty: LlmType) -> &'static str {
    match ty {
        LlmType::GeminiCli => "gcp.gemini",
        LlmType::Anthropic | LlmType::OpenAi | LlmType::DeepSeek | LlmType::Vllm | LlmType::Ollama => {
            ty.as_str()
        }
    }
}

/// Reasons are words that APIs define. What a provider makes up is its text, and stays out.
fn known_reason(reason: &str) -> &str {
    let is_word = reason.len() <= 40 && reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_word { reason } else { "other" }
}

/// Which sort of failure a call was, if it was one: never the provider's own words.
fn error_type(call: &InferenceCall) -> Option<String> {
    match call.status {
        499 => Some("client_closed".to_owned()),
        504 => Some("timeout".to_owned()),
        status if status >= 400 => Some(status.to_string()),
        _ => call.error.as_ref().map(|_| "provider_error".to_owned()),
    }
}
