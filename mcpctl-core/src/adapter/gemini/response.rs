//! The lines of an answer → a chat completion.

use bytes::Bytes;
use serde_json::json;

use super::event::{Event, Lines, Said, Stats};
use crate::{
    Result,
    adapter::{DecodeContext, Decoded, Summary},
};

pub(in crate::adapter) fn decode(body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
    let (mut text, mut complaint) = (String::new(), None);
    let (mut id, mut served) = (completion_id(None), None);
    let mut lines = Lines::default();
    lines.push(body, context)?;
    lines.push(b"\n", context)?;
    while let Some(line) = lines.next() {
        match Event::read(line).map(Event::said) {
            Some(Said::Nothing) => {}
            Some(Said::Begin { session, model }) => (id, served) = (completion_id(session.as_deref()), model),
            Some(Said::Text(more)) => text.push_str(&more),
            Some(Said::Complaint(what)) => complaint = Some(what.into_owned()),
            Some(Said::Done(stats)) => return Ok(completion(&id, served.as_deref(), &text, stats, context)),
            Some(Said::Failed(failure)) => {
                let message = failure.shown(complaint.as_deref(), context);
                return Err(crate::Error::new(crate::ErrorKind::Provider, message));
            }
            None => return Err(context.provider_error(NO_EVENT)),
        }
    }
    Err(context.provider_error(TOO_EARLY))
}

/// What is wrong with a line that cannot be read.
pub(super) const NO_EVENT: &str = "the gemini program printed something that is not one of its events";
/// What is wrong with an answer without an end.
pub(super) const TOO_EARLY: &str = "the gemini program ended before its answer was complete";

pub(super) fn completion_id(session: Option<&str>) -> String {
    format!("chatcmpl-{}", session.unwrap_or("unknown"))
}

fn completion(id: &str, model: Option<&str>, text: &str, stats: Stats, context: &DecodeContext) -> Decoded {
    let mut completion = json!({
        "id": id,
        "object": "chat.completion",
        "created": context.created,
        "model": model.unwrap_or(&context.model),
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
    });
    let mut summary = Summary { finish_reason: Some("stop".to_owned()), ..Summary::default() };
    if let (Some(usage), Some(completion)) = (stats.to_openai(), completion.as_object_mut()) {
        summary.read_usage(&usage);
        completion.insert("usage".to_owned(), usage);
    }
    Decoded { body: completion.to_string().into(), summary }
}
