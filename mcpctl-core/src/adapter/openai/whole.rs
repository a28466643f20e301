use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::{
    Result,
    adapter::{DecodeContext, Decoded, ProviderRequest, Settings, Summary, answer::Usage, failure},
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

/// The same parts as nearly every answer has them: read in one pass, with nothing to build.
#[derive(Deserialize)]
struct PlainAnswer<'a> {
    usage: Option<Usage>,
    #[serde(borrow)]
    choices: Option<Vec<PlainChoice<'a>>>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct PlainChoice<'a> {
    #[serde(borrow)]
    finish_reason: Option<&'a str>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<Value>,
}

pub(in crate::adapter) fn decode(body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
    let summary = match read_plain(body) {
        Some(summary) => summary,
        None => read_any(body, context)?,
    };
    Ok(Decoded { body: body.clone(), summary })
}

/// What a successful answer of the usual form says; `None` when this one needs a closer look.
fn read_plain(body: &[u8]) -> Option<Summary> {
    let text = std::str::from_utf8(body).ok()?.trim_ascii_start();
    if !text.starts_with('{') {
        return None;
    }
    let answer: PlainAnswer<'_> = serde_json::from_str(text).ok()?;
    if answer.error.is_some() {
        return None;
    }
    let mut summary = Summary::default();
    if let Some(usage) = &answer.usage {
        summary.add_usage(usage);
    }
    let choices = answer.choices.as_deref().unwrap_or_default();
    let reason = choices.iter().rev().find_map(|choice| choice.finish_reason);
    summary.finish_reason = reason.map(str::to_owned);
    Some(summary)
}

fn read_any(body: &[u8], context: &DecodeContext) -> Result<Summary> {
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
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both ways of reading must agree on, when the quick one reads it at all.
    const ANSWERS: [&str; 16] = [
        r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"},{"finish_reason":null},{}]}"#,
        r#"{"usage":{"input_tokens":1,"output_tokens":2,"input_tokens_details":{"cached_tokens":3}}}"#,
        r#"{"usage":{"prompt_tokens":7,"prompt_tokens_details":null,"prompt_cache_hit_tokens":5}}"#,
        r#"{"usage":{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":null}}}"#,
        r#"{"usage":{"prompt_tokens":1.5,"completion_tokens":"2","total_tokens":-3}}"#,
        r#"{"usage":{"prompt_tokens":1,"prompt_tokens":2}}"#,
        r#"{"usage":null,"choices":null,"error":null}"#,
        r#"{"usage":[1],"choices":{"finish_reason":"stop"}}"#,
        r#"{"choices":[{"finish_reason":"st\u006fp"}]}"#,
        r#"{"choices":[{"finish_reason":7}, 8]}"#,
        r#"{"error":{"message":"no"},"usage":{"prompt_tokens":1}}"#,
        r#"{"error":"no"}"#,
        " {\"a\":1e400,\"b\":\"\\ud800\"} ",
        "{}",
        r#"{"usage":{"prompt_tokens":18446744073709551616}}"#,
    ];

    #[test]
    fn the_quick_way_reads_what_the_other_reads() {
        let context = DecodeContext::new("llm", "model", 0);
        let mut quick = 0;
        for answer in ANSWERS {
            if let Some(summary) = read_plain(answer.as_bytes()) {
                assert_eq!(summary, read_any(answer.as_bytes(), &context).unwrap(), "{answer}");
                quick += 1;
            }
        }
        assert!(quick > 5, "only {quick} are read the quick way");
    }

    #[test]
    fn what_is_no_answer_is_read_neither_way() {
        let context = DecodeContext::new("llm", "model", 0);
        for text in ["", "[]", "[{}]", "null", "{", "{}{}", "<html>", r#"{"a":1,}"#] {
            assert!(read_plain(text.as_bytes()).is_none(), "{text}");
            assert!(read_any(text.as_bytes(), &context).is_err(), "{text}");
        }
    }
}
