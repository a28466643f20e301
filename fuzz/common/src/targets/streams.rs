//! Streams of each provider, for callers of each API.

use std::collections::BTreeMap;

use bytes::Bytes;
use mcpctl_core::{
    adapter::{Api, Codec, DecodeContext, Summary},
    resource::LlmType,
    wire::DONE,
};
use serde_json::value::RawValue;

use super::events::{chunks, frames, messages, responses as response_events};
use crate::digest;

/// The caller's bytes for the provider's, which arrive in reads of `step` bytes.
fn relay(codec: Codec, input: &[u8], step: usize, include_usage: bool) -> (Vec<u8>, Summary) {
    let mut decoder = codec.stream(DecodeContext::new("l", "m", 1).with_usage(include_usage));
    let mut out = Vec::new();
    for read in input.chunks(step) {
        decoder.push(Bytes::copy_from_slice(read), &mut out);
    }
    decoder.finish(&mut out);
    assert!(decoder.is_done());
    let (sent, summary) = (out.len(), decoder.summary().clone());
    // The end is the end.
    decoder.push(Bytes::copy_from_slice(input), &mut out);
    decoder.finish(&mut out);
    decoder.fail("late", "api_error", &mut out);
    assert_eq!((out.len(), decoder.summary()), (sent, &summary));
    (out.concat(), summary)
}

/// The same for any split of the bytes.
fn relayed(api: Api, ty: LlmType, input: &[u8]) -> (Vec<u8>, Summary) {
    let (codec, digest) = (Codec::new(api, ty).unwrap(), digest(input));
    let include_usage = digest.is_multiple_of(2);
    let whole = relay(codec, input, usize::MAX, include_usage);
    for step in [1, 2 + digest % 70] {
        let split = relay(codec, input, step, include_usage);
        let shown = String::from_utf8_lossy(&split.0);
        assert_eq!((whole.0 == split.0, &whole.1), (true, &split.1), "reads of {step} bytes: {shown}");
    }
    whole
}

/// Whether the provider's stream has an event of this type. Other fields may hold numbers that are too large to read.
fn has_event(input: &[u8], ty: &str) -> bool {
    frames(input).iter().any(|(_, data)| {
        let fields: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(data).ok();
        let found = fields.as_ref().and_then(|fields| fields.get("type"));
        found.is_some_and(|found| serde_json::from_str(found.get()).is_ok_and(|found: String| found == ty))
    })
}

pub(super) fn openai_to_anthropic(input: &[u8]) {
    let (out, summary) = relayed(Api::ChatCompletions, LlmType::Anthropic, input);
    let broken = chunks(&out);
    assert_eq!(broken, summary.error.is_some());
    // A cut-off answer never looks like a finished one.
    assert!(broken || has_event(input, "message_stop"));
}

pub(super) fn anthropic_to_openai(input: &[u8]) {
    for ty in [LlmType::OpenAi, LlmType::Vllm] {
        let (out, summary) = relayed(Api::Messages, ty, input);
        assert_eq!(messages(&out), summary.error.is_some());
    }
}

pub(super) fn responses(input: &[u8]) {
    for ty in [LlmType::Vllm, LlmType::Anthropic] {
        let (out, summary) = relayed(Api::Responses, ty, input);
        assert_eq!(response_events(&out), summary.error.is_some());
    }
}

/// The caller's bytes are the provider's, up to where something is wrong with these.
pub(super) fn passthrough(input: &[u8]) {
    for api in [Api::ChatCompletions, Api::Completions] {
        let (out, summary) = relayed(api, LlmType::OpenAi, input);
        assert!(out.ends_with(DONE));
        let ends = frames(&out).iter().filter(|(_, data)| data.trim() == "[DONE]").count();
        assert_eq!(ends, 1, "{}", String::from_utf8_lossy(&out));
        let whole = summary.error.is_some() || summary.finish_reason.is_some();
        let ended = frames(input).iter().any(|(_, data)| data.trim() == "[DONE]");
        assert!(whole || ended, "{}", String::from_utf8_lossy(&out));
    }
}

pub(super) fn events(input: &[u8]) {
    for (api, ty) in [(Api::Messages, LlmType::Anthropic), (Api::Responses, LlmType::OpenAi)] {
        let (out, summary) = relayed(api, ty, input);
        let last = frames(&out).pop();
        assert!(last.is_some(), "{}", String::from_utf8_lossy(&out));
        let ends = |types: &[&str]| {
            let ty = |data: &str| {
                Some(serde_json::from_str::<serde_json::Value>(data).ok()?["type"].as_str()?.to_owned())
            };
            frames(&out)
                .iter()
                .filter(|(_, data)| ty(data).is_some_and(|ty| types.contains(&ty.as_str())))
                .count()
        };
        let count = match api {
            Api::Messages => ends(&["message_stop", "error"]),
            _ => ends(&["response.completed", "response.incomplete", "response.failed", "error"]),
        };
        assert_eq!(count, 1, "{api} {summary:?}: {}", String::from_utf8_lossy(&out));
    }
}

pub(super) fn gemini(input: &[u8]) {
    let (out, summary) = relayed(Api::ChatCompletions, LlmType::GeminiCli, input);
    let broken = chunks(&out);
    assert_eq!(broken, summary.error.is_some());
    // A whole answer and a streamed one agree on whether it is one.
    let codec = Codec::new(Api::ChatCompletions, LlmType::GeminiCli).unwrap();
    let whole = codec.decode(&Bytes::copy_from_slice(input), &DecodeContext::new("l", "m", 1));
    assert_eq!(whole.is_err(), broken);
    if let Ok(whole) = whole {
        assert_eq!(whole.summary, summary);
    }
}
