use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    Result,
    adapter::{DecodeContext, Decoded, ProviderRequest, Settings, Summary, failure},
    wire::{ChatRequest, Edits},
};

pub(in crate::adapter) fn encode(request: &ChatRequest, settings: &Settings<'_>) -> ProviderRequest {
    let edits = Edits {
        model: Some(settings.model).filter(|model| !model.is_empty()),
        include_usage: settings.ask_usage,
        defaults: settings.defaults,
    };
    let context = DecodeContext {
        strip_usage: settings.ask_usage && request.stream() && !request.include_usage(),
        ..DecodeContext::new(settings.llm_name, settings.model, settings.created)
            .with_usage(request.include_usage())
    };
    ProviderRequest { body: request.rewrite(&edits), dropped: Vec::new(), context }
}

/// The parts of an answer that accounting reads; everything else is skipped, not built.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<Value>,
}

pub(in crate::adapter) fn decode(body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
    let answer: Answer<'_> = context.read_object(body)?;
    let mut summary = Summary::default();
    if let Some(usage) = answer.usage.and_then(|json| serde_json::from_str(json.get()).ok()) {
        summary.read_usage(&usage);
    }
    let choices = answer.choices.and_then(|json| serde_json::from_str::<Vec<Choice>>(json.get()).ok());
    let mut reasons = choices.into_iter().flatten().filter_map(|choice| choice.finish_reason);
    summary.finish_reason = reasons.next_back().as_ref().and_then(Value::as_str).map(str::to_owned);
    if let Some(error) = answer.error.and_then(|json| serde_json::from_str::<Value>(json.get()).ok()) {
        summary.error = failure::message_in(&serde_json::json!({ "error": error }));
    }
    Ok(Decoded { body: body.clone(), summary })
}
