use super::*;

const MESSAGE: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":6,",
    "\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":",
    "\"text_delta\",\"text\":\"\\\"message_stop\\\" é\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
    "\"usage\":{\"output_tokens\":5}}\n\n",
);
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const RESPONSE: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\n\n";
const COMPLETED: &str = concat!(
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",",
    "\"error\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":5}}}\n\n",
);

fn relay(flavour: Flavour, bytes: &str, size: usize) -> (String, Summary) {
    let mut stream = EventStream::new(flavour, DecodeContext::new("l", "m", 1));
    let mut out = Vec::new();
    for read in bytes.as_bytes().chunks(size) {
        stream.push(Bytes::copy_from_slice(read), &mut out);
    }
    stream.finish(&mut out);
    assert!(stream.is_done());
    (String::from_utf8(out.concat()).unwrap(), stream.summary().clone())
}

#[test]
fn whole_answers_pass_byte_for_byte() {
    for (flavour, text) in [
        (Flavour::Messages, [MESSAGE, STOP].concat()),
        (Flavour::Messages, [": c\r\n", &MESSAGE.replace('\n', "\r\n"), STOP].concat()),
        (Flavour::Responses, [RESPONSE, COMPLETED].concat()),
    ] {
        for size in [1, 7, 10_000] {
            let (out, summary) = relay(flavour, &[&text, "data: LATE\n\n"].concat(), size);
            assert_eq!(out, text, "{flavour:?} in reads of {size}");
            assert_eq!(summary.finish_reason.as_deref(), Some("stop"));
            assert_eq!(summary.completion_tokens, Some(5));
            assert_eq!(summary.error, None);
        }
    }
    assert_eq!(relay(Flavour::Messages, &[MESSAGE, STOP].concat(), 99).1.prompt_tokens, Some(8));
}

#[test]
fn a_last_event_may_lack_its_blank_line() {
    let text = [MESSAGE, STOP].concat();
    assert_eq!(relay(Flavour::Messages, text.trim_end(), 9).0, text);
}

#[test]
fn what_is_cut_off_ends_in_an_error() {
    for (flavour, text) in [(Flavour::Messages, MESSAGE), (Flavour::Responses, RESPONSE)] {
        for cut in [text.to_owned(), [text, "event: x\ndata: {\"half"].concat()] {
            for size in [1, 10_000] {
                let (out, summary) = relay(flavour, &cut, size);
                let error = out.strip_prefix(text).unwrap();
                assert!(error.starts_with("event: error\ndata: {\"type\":\"error\","), "{error}");
                assert!(error.contains("closed the stream") && summary.error.is_some());
            }
        }
    }
}

#[test]
fn an_error_is_the_end_and_says_nothing_of_our_key() {
    let error = |ty: &str| {
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{ty}\",\"message\":\"sk-x\"}}}}\n\n"
        )
    };
    let busy = [MESSAGE, &error("overloaded_error")].concat();
    let (out, summary) = relay(Flavour::Messages, &[&busy, STOP].concat(), 11);
    assert_eq!((out, summary.error.as_deref()), (busy, Some("sk-x")));
    let (out, summary) = relay(Flavour::Messages, &[MESSAGE, &error("authentication_error")].concat(), 11);
    assert!(!out.contains("sk-x") && out.contains("refused the server's credentials"), "{out}");
    assert!(summary.error.is_some_and(|error| !error.contains("sk-x")));
}

#[test]
fn what_is_no_event_ends_the_stream() {
    for garbage in ["<html>\n\n", "{\"type\":\"error\"}\n\n", "event: error\ndata: [DO\n\n"] {
        let (out, _) = relay(Flavour::Messages, &[MESSAGE, garbage, STOP].concat(), 5);
        assert!(
            out.starts_with(MESSAGE) && out.contains("event: error") && !out.contains("event: message_stop")
        );
    }
}
