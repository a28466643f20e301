use super::*;
use crate::adapter::Adapter;

const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n";
const END: &str = "data: [DONE]\n\n";

/// What a caller gets for these reads, and the summary.
fn relay(context: DecodeContext, reads: &[&str]) -> (String, Summary) {
    let run = |reads: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = Adapter::OpenAi.stream(context.clone());
        let mut out = Vec::new();
        for read in reads {
            decoder.push(Bytes::copy_from_slice(read), &mut out);
        }
        decoder.finish(&mut out);
        assert!(decoder.is_done());
        let text = String::from_utf8(out.concat()).unwrap();
        assert_eq!(text.matches(END).count(), 1, "{text}");
        assert!(text.ends_with(END));
        (text, decoder.summary().clone())
    };
    let whole = run(&mut reads.iter().map(|read| read.as_bytes()));
    let all = reads.concat();
    assert_eq!(whole, run(&mut all.as_bytes().chunks(1)), "one byte at a time");
    assert_eq!(whole, run(&mut all.as_bytes().chunks(7)));
    whole
}

fn openai() -> DecodeContext {
    DecodeContext::new("fast", "m", 1)
}

fn passes(text: &str) -> Summary {
    let (out, summary) = relay(openai(), &[text]);
    assert_eq!(out, text);
    summary
}

fn error_frame(message: &str) -> String {
    format!(
        "data: {{\"error\":{{\"message\":\"llm `fast`: {message}\",\"type\":\"provider_error\",\"param\":null,\"code\":null}}}}\n\n{END}"
    )
}

#[test]
fn a_stream_passes_as_it_is() {
    let summary = passes(&[PIECE, PIECE, STOP, USAGE, END].concat());
    assert_eq!(summary.finish_reason.as_deref(), Some("stop"));
    assert_eq!(
        (summary.prompt_tokens, summary.completion_tokens, summary.cached_tokens),
        (Some(3), Some(4), Some(2))
    );
    passes(&[": ping\r\n\r\n", "data:{\"a\":\r\ndata: 1}\r\n\r\n", PIECE, END].concat());
}

#[test]
fn whole_events_leave_as_the_bytes_they_came_in() {
    let read = Bytes::from([PIECE, PIECE, STOP, END].concat());
    let mut decoder = Adapter::OpenAi.stream(openai());
    let mut out = Vec::new();
    decoder.push(read.clone(), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].as_ptr(), out[0].len()), (read.as_ptr(), read.len()));

    // The half event at the end waits; what stands before it is still not copied.
    let mut decoder = Adapter::OpenAi.stream(openai());
    let mut out = Vec::new();
    decoder.push(read.slice(..PIECE.len() + 9), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].as_ptr(), out[0].len()), (read.as_ptr(), PIECE.len()));
}

#[test]
fn nothing_passes_behind_the_end() {
    let (out, _) = relay(openai(), &[PIECE, STOP, END, PIECE, END]);
    assert_eq!(out, [PIECE, STOP, END].concat());
    let (out, _) = relay(openai(), &[&[PIECE, "data:[DONE]\r\n\r\n", PIECE].concat()]);
    assert_eq!(out, [PIECE, END].concat());
}

#[test]
fn a_missing_end_is_added_only_behind_a_finish_reason() {
    assert_eq!(relay(openai(), &[PIECE, STOP]).0, [PIECE, STOP, END].concat());
    assert_eq!(relay(openai(), &[PIECE, STOP, "data: {\"usa"]).0, [PIECE, STOP, END].concat());
    assert_eq!(relay(openai(), &[PIECE, STOP.trim_end()]).0, [PIECE, STOP, END].concat());
    assert_eq!(relay(openai(), &[PIECE, "data: [DONE]"]).0, [PIECE, END].concat());

    let cut_off = error_frame("the provider closed the stream before the answer was complete");
    let (out, summary) = relay(openai(), &[PIECE]);
    assert_eq!(out, [PIECE, &cut_off].concat());
    assert!(summary.error.unwrap().contains("before the answer was complete"));
    assert_eq!(relay(openai(), &[]).0, cut_off);
}

#[test]
fn half_an_event_does_not_stand_before_the_error() {
    let mut decoder = Adapter::OpenAi.stream(openai());
    let mut out = Vec::new();
    decoder.push(Bytes::from([PIECE, "data: {\"cho"].concat()), &mut out);
    decoder.fail("llm `fast`: reset", "provider_error", &mut out);
    decoder.fail("again", "provider_error", &mut out);
    decoder.push(Bytes::from(PIECE), &mut out);
    decoder.finish(&mut out);
    assert_eq!(String::from_utf8(out.concat()).unwrap(), [PIECE, &error_frame("reset")].concat());
    assert_eq!(decoder.summary().error.as_deref(), Some("llm `fast`: reset"));
}

#[test]
fn a_provider_without_finish_reasons_passes() {
    assert_eq!(passes(&[PIECE, END].concat()).error, None);
}

#[test]
fn usage_that_only_we_asked_for_is_kept_back() {
    let context = DecodeContext { strip_usage: true, ..openai() };
    let (out, summary) = relay(context.clone(), &[&[PIECE, STOP, USAGE, END].concat()]);
    assert_eq!(out, [PIECE, STOP, END].concat());
    assert_eq!(summary.prompt_tokens, Some(3));
    // A chunk that has a choice too, or an empty list for another reason, is the caller's.
    let both = STOP.replace("]}\n", "],\"usage\":{\"prompt_tokens\":1}}\n");
    let filter = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
    let text = [filter, &both, END].concat();
    assert_eq!(relay(context, &[&text]).0, text);
}

#[test]
fn an_error_of_the_provider_ends_the_stream() {
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
    let (out, summary) = relay(openai(), &[&[PIECE, error, PIECE, STOP, END].concat()]);
    assert_eq!(out, [PIECE, error, END].concat());
    assert_eq!(summary.error.as_deref(), Some("overloaded"));
    // Callers of this API do not look at names of events: this one would be a piece like any other to them.
    let (out, summary) = relay(openai(), &["event: error\ndata: {\"x\":1}\n\n", PIECE]);
    let told = r#"{"error":{"message":"{\"x\":1}","type":"provider_error","param":null,"code":null}}"#;
    assert_eq!(out, format!("data: {told}\n\n{END}"));
    assert_eq!(summary.error.as_deref(), Some("{\"x\":1}"));
}

#[test]
fn garbage_becomes_an_error() {
    let html = error_frame("the provider's stream turned into HTML");
    assert_eq!(relay(openai(), &[PIECE, "<html>\n\n", PIECE]).0, [PIECE, &html].concat());
    let broke = error_frame("the provider's stream broke: it sent something that is not a chunk");
    for garbage in
        ["data: {\"a\n\n", "data: 7\n\n", "Internal Server Error\n\n", "data: {\"finish_reason\":}\n\n"]
    {
        assert_eq!(relay(openai(), &[PIECE, garbage, STOP, END]).0, [PIECE, &broke].concat(), "{garbage}");
    }
    let told = error_frame("no such model");
    assert_eq!(relay(openai(), &["{\"error\":{\"message\":\"no such model\"}}"]).0, told);
}

#[test]
fn an_endless_event_is_an_error() {
    let mut decoder = Adapter::OpenAi.stream(openai());
    let mut out = Vec::new();
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    decoder.push(Bytes::from_static(b"data: "), &mut out);
    for _ in 0..16 {
        decoder.push(piece.clone(), &mut out);
    }
    assert!(decoder.is_done());
    assert_eq!(out.concat(), error_frame("the provider sent an event that is too large").into_bytes());
}

#[test]
fn a_byte_order_mark_and_empty_events_are_dropped() {
    assert_eq!(relay(openai(), &["\u{feff}", PIECE, "data:\n\n", STOP, END]).0, [PIECE, STOP, END].concat());
}
