//! What the stub answers as Anthropic's API, and what becomes of it for a caller of OpenAI's.

use serde_json::{Value, json};

use crate::{answers::CHUNKS, http::ANY_DIGIT};

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and over again, until it is tired. ";
const ID: &str = "msg_0123456789abcdefghijklmn";

/// A whole message.
pub fn whole() -> Vec<u8> {
    let usage = json!({"input_tokens": 19, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                       "output_tokens": 64, "service_tier": "standard"});
    json!({
        "id": ID, "type": "message", "role": "assistant", "model": "stub-1",
        "content": [{"type": "text", "text": TEXT.repeat(3)}],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": usage,
    })
    .to_string()
    .into_bytes()
}

/// The events of a streamed message.
pub fn events() -> Vec<Vec<u8>> {
    let event = |name: &str, rest: Value| {
        let mut data = json!({ "type": name });
        data.as_object_mut()
            .into_iter()
            .for_each(|data| data.extend(rest.as_object().cloned().unwrap_or_default()));
        format!("event: {name}\ndata: {data}\n\n").into_bytes()
    };
    let usage = json!({"input_tokens": 19, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1});
    let message = json!({"id": ID, "type": "message", "role": "assistant", "model": "stub-1", "content": [],
                         "stop_reason": null, "stop_sequence": null, "usage": usage});
    let mut events = vec![
        event("message_start", json!({ "message": message })),
        event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    events.extend((0..CHUNKS).map(|number| {
        let delta = json!({"type": "text_delta", "text": format!(" token-{number}")});
        event("content_block_delta", json!({"index": 0, "delta": delta}))
    }));
    let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
    events.push(event("content_block_stop", json!({"index": 0})));
    events.push(event("message_delta", json!({"delta": delta, "usage": {"output_tokens": 256}})));
    events.push(event("message_stop", json!({})));
    events
}

/// The whole message for a caller of OpenAI's API.
pub fn whole_translated() -> Vec<u8> {
    let completion = json!({
        "id": format!("chatcmpl-{ID}"), "object": "chat.completion", "created": 0, "model": "stub-1",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": TEXT.repeat(3), "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 19, "completion_tokens": 64, "total_tokens": 83,
                  "prompt_tokens_details": {"cached_tokens": 0}},
    });
    timeless(&completion)
}

/// The chunks of the streamed message.
pub fn chunks() -> Vec<u8> {
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({"id": format!("chatcmpl-{ID}"), "object": "chat.completion.chunk", "created": 0,
                               "model": "stub-1", "choices": choices});
        if let (Some(chunk), Some(usage)) = (chunk.as_object_mut(), usage) {
            chunk.insert("usage".to_owned(), usage);
        }
        [b"data: ", timeless(&chunk).as_slice(), b"\n\n"].concat()
    };
    let piece = |delta: Value, reason: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]), None)
    };
    let mut chunks = piece(json!({"role": "assistant", "content": ""}), None);
    for number in 0..CHUNKS {
        chunks.extend(piece(json!({"content": format!(" token-{number}")}), None));
    }
    chunks.extend(piece(json!({}), Some("stop")));
    let usage = json!({"prompt_tokens": 19, "completion_tokens": 256, "total_tokens": 275,
                       "prompt_tokens_details": {"cached_tokens": 0}});
    chunks.extend(chunk(json!([]), Some(usage)));
    chunks.extend_from_slice(b"data: [DONE]\n\n");
    chunks
}

/// An answer whose time is any.
fn timeless(answer: &Value) -> Vec<u8> {
    let any = String::from_utf8_lossy(&[ANY_DIGIT; 10]).into_owned();
    answer.to_string().replace("\"created\":0,", &format!("\"created\":{any},")).into_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mcpctl_core::adapter::{Adapter, DecodeContext};

    use super::*;

    /// What is expected is what the adapter makes of it, whose own test is the golden corpus.
    #[test]
    fn what_is_expected_is_the_translation() {
        let of = |expected: Vec<u8>| String::from_utf8_lossy(&expected).replace('\0', "1");
        let context = DecodeContext::new("message", "stub-1", 1_111_111_111).with_usage(true);
        let decoded = Adapter::Anthropic.decode(&whole().into(), &context).unwrap();
        assert_eq!(String::from_utf8_lossy(&decoded.body), of(whole_translated()));
        let (mut decoder, mut out) = (Adapter::Anthropic.stream(context), Vec::new());
        decoder.push(Bytes::from(events().concat()), &mut out);
        decoder.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out.concat()), of(chunks()));
    }
}
