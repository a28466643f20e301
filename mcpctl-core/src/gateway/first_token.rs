//! Whether a stream has begun to say something: providers first send events that carry nothing yet.

use memchr::memmem;

/// Keys of what a model says, thinks or calls, in every API: a token is there once one of them has text.
const KEYS: [&[u8]; 9] = [
    b"\"content\"",
    b"\"delta\"",
    b"\"text\"",
    b"\"arguments\"",
    b"\"partial_json\"",
    b"\"reasoning_content\"",
    b"\"reasoning\"",
    b"\"thinking\"",
    b"\"refusal\"",
];

/// Whether there is a token in these events.
pub(super) fn is_in(events: &[u8]) -> bool {
    KEYS.iter().any(|key| {
        memmem::find_iter(events, key).any(|at| {
            let rest = events.get(at + key.len()..).unwrap_or_default().trim_ascii_start();
            let text = rest.strip_prefix(b":").map(|rest| rest.trim_ascii_start());
            text.and_then(|text| text.strip_prefix(b"\"")).is_some_and(|text| !text.starts_with(b"\""))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_pings_and_empty_texts_are_no_tokens() {
        for event in [
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"data: {"choices":[{"delta":{"role": "assistant", "content": null}}]}"#,
            r#"data: {"type":"message_start","message":{"role":"assistant","content":[]}}"#,
            r#"data: {"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
            r#"data: {"type":"response.created","response":{"output":[]}}"#,
            r#"data: {"type":"ping"}"#,
            "data: [DONE]",
            "\"content\"",
            "",
        ] {
            assert!(!is_in(event.as_bytes()), "{event}");
        }
    }

    #[test]
    fn a_token_is_found_in_every_api() {
        for event in [
            r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]} data: {"choices":[{"delta":{"content":"a"}}]}"#,
            r#"data: {"choices":[{"delta":{"content": "a"}}]}"#,
            r#"data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}"#,
            r#"data: {"choices":[{"text":"a"}]}"#,
            r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#,
            r#"data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"a"}}"#,
            r#"data: {"type":"response.output_text.delta","delta":"a"}"#,
        ] {
            assert!(is_in(event.as_bytes()), "{event}");
        }
    }
}
