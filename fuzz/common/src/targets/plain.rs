//! The readers below all translation.

use std::collections::BTreeMap;

use bytes::Bytes;
use mcpctl_core::{
    adapter::Api,
    wire::{ChatRequest, Edits, MAX_FIELDS, SseDecoder, SseError, SseEvent, sse},
};
use serde_json::{json, value::RawValue};

use crate::digest;

fn read(input: &[u8], step: usize, limit: usize) -> (Vec<SseEvent>, Result<(), SseError>) {
    let mut decoder = SseDecoder::with_limit(limit);
    let pushed = input.chunks(step).try_for_each(|read| decoder.push(read));
    let outcome = pushed.and_then(|()| decoder.finish());
    (std::iter::from_fn(|| decoder.next_event()).collect(), outcome)
}

pub(super) fn sse(input: &[u8]) {
    let digest = digest(input);
    for limit in [SseDecoder::DEFAULT_LIMIT, digest % 100] {
        let whole = read(input, usize::MAX, limit);
        for step in [1, 2, 3 + digest % 60] {
            assert_eq!(read(input, step, limit), whole, "reads of {step} bytes, at most {limit}");
        }
    }
    let (events, outcome) = read(input, usize::MAX, SseDecoder::DEFAULT_LIMIT);
    assert_eq!(outcome, Ok(()));
    // What is written is read as what it was.
    let mut written = Vec::new();
    for event in &events {
        sse::write_event(&mut written, &event.name, &event.data);
    }
    assert_eq!(read(&written, usize::MAX, SseDecoder::DEFAULT_LIMIT), (events, Ok(())));
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn request_scan(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    for api in Api::ALL {
        match ChatRequest::scan_for(&body, api.required()) {
            Ok(request) => scanned(&body, &request),
            Err(error) => {
                let message = error.message();
                assert!(!message.is_empty() && message.len() < 1000, "{message}");
            }
        }
    }
}

fn scanned(body: &Bytes, request: &ChatRequest) {
    let before: Fields<'_> = serde_json::from_slice(body).unwrap();
    assert_eq!(request.rewrite(&Edits::default()), body);
    let defaults =
        json!({"temperature": 0.5, "max_tokens": 9, "stream": true, "messages": [], "né\"w": {"a": 1}});
    let edits = Edits { model: Some("a \"model\"\n"), include_usage: true, defaults: defaults.as_object() };
    let after = request.rewrite(&edits);
    let fields: Fields<'_> = serde_json::from_slice(&after).unwrap();
    assert_eq!(fields["model"].get(), r#""a \"model\"\n""#);
    for (key, value) in &before {
        if key != "model" && (key != "stream_options" || !request.stream()) {
            assert_eq!(fields[key].get(), value.get(), "{key}");
        }
    }
    if fields.len() <= MAX_FIELDS {
        let again = ChatRequest::scan_for(&after, Api::Responses.required()).unwrap();
        assert_eq!(again.stream(), request.stream());
        assert_eq!(again.include_usage(), request.stream() || request.include_usage());
        assert_eq!(again.rewrite(&edits), after);
    }
}
