use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn read(chunks: &[&[u8]]) -> Vec<SseEvent> {
    let mut decoder = SseDecoder::new();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk).unwrap();
        events.extend(std::iter::from_fn(|| decoder.next_event()));
    }
    decoder.finish().unwrap();
    events.extend(std::iter::from_fn(|| decoder.next_event()));
    events
}

fn data(text: &str) -> Vec<String> {
    let whole = read(&[text.as_bytes()]);
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(whole, read(&single), "one byte at a time: {text:?}");
    whole.into_iter().map(|event| event.data).collect()
}

#[test]
fn several_data_lines_are_joined() {
    assert_eq!(data("data: a\ndata: b\ndata:c\n\n"), ["a\nb\nc"]);
    assert_eq!(data("data:  two spaces\n\n"), [" two spaces"]);
}

#[test]
fn every_line_ending_and_their_mixes() {
    assert_eq!(data("data: a\r\n\r\ndata: b\n\ndata: c\r\rdata: d\r\n\n"), ["a", "b", "c", "d"]);
    assert_eq!(data("data: a\n\r\ndata: b\r\n\rdata: c\n\r"), ["a", "b", "c"]);
}

#[test]
fn a_byte_order_mark_counts_only_at_the_start() {
    assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
    assert_eq!(data("data: a\n\n\u{feff}data: b\n\n"), ["a"]);
}

#[test]
fn comments_and_unknown_fields_are_nothing() {
    assert_eq!(
        data(": ping\n\n:\n\nid: 7\nretry: 3\nfoo: bar\n\ndata: a\n: in between\ndata: b\n\n"),
        ["a\nb"]
    );
}

#[test]
fn an_event_without_data_is_none_and_its_name_is_forgotten() {
    assert_eq!(data("event: ping\n\ndata: a\n\n"), ["a"]);
    assert_eq!(read(&[b"event: ping\n\ndata: a\n\n"])[0].name, "");
    assert_eq!(read(&[b"event: x\nevent: y\ndata: a\n\n"])[0].name, "y");
    assert_eq!(data("data\n\n"), [""]);
    assert_eq!(data("data:\n\n"), [""]);
}

#[test]
fn a_last_event_without_its_blank_line_counts() {
    assert_eq!(data("data: a"), ["a"]);
    assert_eq!(data("data: a\n"), ["a"]);
    assert_eq!(data("data: a\r"), ["a"]);
    assert_eq!(data(""), [] as [&str; 0]);
    assert_eq!(data("event: message_stop"), [] as [&str; 0]);
}

#[test]
fn utf8_split_over_reads() {
    assert_eq!(data("data: grüß 🦀\n\n"), ["grüß 🦀"]);
    assert_eq!(read(&[b"data: \xff\n\n"])[0].data, "\u{fffd}");
}

#[test]
fn a_line_of_a_mebibyte() {
    let long = "x".repeat(1 << 20);
    let text = format!("data: {long}\n\n");
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
    assert_eq!(read(&chunks)[0].data, long);
}

#[test]
fn an_event_over_the_limit_is_an_error_and_earlier_ones_remain() {
    for text in [
        "data: ok\n\ndata: 0123456789\n\n",
        "data: ok\n\n:0123456789abcdef",
        "data: ok\n\ndata: 01234567\ndata: 90\n",
    ] {
        for size in [1, 3, 1000] {
            let mut decoder = SseDecoder::with_limit(15);
            let outcome: Result<(), SseError> =
                text.as_bytes().chunks(size).try_for_each(|chunk| decoder.push(chunk));
            assert_eq!(outcome, Err(SseError { limit: 15 }), "{text:?} by {size}");
            assert_eq!(decoder.push(b"\n\n"), Err(SseError { limit: 15 }));
            assert_eq!(decoder.finish(), Err(SseError { limit: 15 }));
            assert_eq!(decoder.next_event().unwrap().data, "ok");
            assert!(decoder.next_event().is_none());
        }
    }
}

#[test]
fn one_byte_at_a_time_is_linear() {
    let time = |size: usize| {
        let mut decoder = SseDecoder::new();
        let started = Instant::now();
        decoder.push(b"data: ").unwrap();
        for _ in 0..size {
            decoder.push(b"x").unwrap();
        }
        decoder.push(b"\n\n").unwrap();
        assert_eq!(decoder.next_event().unwrap().data.len(), size);
        started.elapsed()
    };
    time(1000);
    // Quadratic time would take hours for these 4 MiB.
    assert!(time(4 << 20).as_secs() < 20);
}

#[test]
fn what_is_written_is_read_back() {
    let mut out = Vec::new();
    write_data(&mut out, "{\"a\":1}");
    write_event(&mut out, "message_\nstart", "x\r\ny\rz\nw");
    out.extend_from_slice(DONE);
    let event = |name: &str, data: &str| SseEvent { name: name.to_owned(), data: data.to_owned() };
    assert_eq!(
        read(&[&out]),
        [event("", "{\"a\":1}"), event("message_start", "x\ny\nz\nw"), event("", "[DONE]")]
    );
}

/// Bytes that look like a stream often enough to reach every branch.
pub(crate) fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data:".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b": c".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(BOM.to_vec()),
        Just("ü🦀".as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(bytes in stream_bytes(), cuts in proptest::collection::vec(1_usize..9, 1..60)) {
        let whole = read(&[&bytes]);
        let mut chunks: Vec<&[u8]> = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        prop_assert_eq!(whole, read(&chunks));
    }
}
