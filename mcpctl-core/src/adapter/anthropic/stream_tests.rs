use super::*;

const START: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m-1\"}}\n\n";

fn stream() -> AnthropicStream {
    AnthropicStream::new(DecodeContext::new("claude", "m", 1))
}

fn text(text: &str) -> String {
    let delta = json!({"type": "text_delta", "text": text});
    format!("data: {}\n\n", json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

#[test]
fn all_chunks_of_a_read_leave_together_and_without_delay() {
    let mut stream = stream();
    let mut out = Vec::new();
    stream.push([START, &text("a"), &text("b")].concat().as_bytes(), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].windows(6).filter(|part| part == b"data: ").count(), 3);
    stream.push(b": ping\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n", &mut out);
    assert_eq!(out.len(), 1);
    stream.push(text("c").as_bytes(), &mut out);
    assert_eq!(out.len(), 2);
}

#[test]
fn chunks_are_written_as_openai_writes_them() {
    let mut stream = stream();
    let mut out = Vec::new();
    stream.push([START, &text("a\"\n")].concat().as_bytes(), &mut out);
    let head = r#"data: {"id":"chatcmpl-msg_1","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":"#;
    let tail = ",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let wanted = format!(
        "{head}{{\"role\":\"assistant\",\"content\":\"\"}}{tail}{head}{{\"content\":\"a\\\"\\n\"}}{tail}"
    );
    assert_eq!(String::from_utf8(out.concat()).unwrap(), wanted);
}

#[test]
fn a_broken_connection_ends_in_one_error() {
    let mut stream = stream();
    let mut out = Vec::new();
    stream.push([START, "data: {\"type\":\"content_blo"].concat().as_bytes(), &mut out);
    out.clear();
    stream.fail("llm `claude`: reset", "provider_error", &mut out);
    stream.fail("again", "provider_error", &mut out);
    stream.push(text("late").as_bytes(), &mut out);
    stream.finish(&mut out);
    assert!(stream.is_done());
    assert_eq!(stream.summary().error.as_deref(), Some("llm `claude`: reset"));
    assert_eq!(
        String::from_utf8(out.concat()).unwrap(),
        "data: {\"error\":{\"message\":\"llm `claude`: reset\",\"type\":\"provider_error\",\"param\":null,\"code\":null}}\n\ndata: [DONE]\n\n"
    );
}

#[test]
fn an_endless_event_is_an_error() {
    let mut stream = stream();
    let mut out = Vec::new();
    let piece = vec![b'x'; 1 << 20];
    stream.push(b"data: ", &mut out);
    for _ in 0..17 {
        stream.push(&piece, &mut out);
    }
    assert!(stream.is_done());
    assert!(stream.summary().error.as_deref().unwrap().contains("larger than 16777216 bytes"));
}

#[test]
fn endless_thinking_is_streamed_and_not_remembered() {
    let mut stream = stream();
    let mut out = Vec::new();
    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
    let event = json!({"type": "content_block_start", "index": 0, "content_block": block});
    stream.push(format!("{START}data: {event}\n\n").as_bytes(), &mut out);
    let delta = json!({"type": "thinking_delta", "thinking": "x".repeat(1 << 20)});
    let event = json!({"type": "content_block_delta", "index": 0, "delta": delta});
    for _ in 0..17 {
        out.clear();
        stream.push(format!("data: {event}\n\n").as_bytes(), &mut out);
        assert!(out.concat().len() > 1 << 20);
    }
    out.clear();
    stream.push(b"data: {\"type\":\"content_block_stop\",\"index\":0}\n\n", &mut out);
    assert!(out.is_empty());
}

#[test]
fn the_summary_knows_what_the_usage_said() {
    let mut stream = stream();
    let mut out = Vec::new();
    let usage = json!({"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5});
    let event = json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": usage});
    stream.push(format!("{START}data: {event}\n\n").as_bytes(), &mut out);
    let summary = Summary {
        prompt_tokens: Some(7),
        completion_tokens: Some(5),
        cached_tokens: Some(4),
        finish_reason: Some("tool_calls".to_owned()),
        error: None,
    };
    assert_eq!(stream.summary(), &summary);
}
