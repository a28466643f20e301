use super::*;

#[test]
fn the_last_end_of_a_read() {
    assert_eq!(last_end(b"data: a\n\ndata: b\n\n"), 18);
    assert_eq!(last_end(b"data: a\n\ndata: b\n"), 9);
    assert_eq!(last_end(b"data: a\r\n\r\ndata: b\r\n\r"), 11);
    assert_eq!(last_end(b"data: a\r\rdata: b\r\r"), 9);
    assert_eq!(last_end(b"data: a\n\r\ndata"), 10);
    assert_eq!(last_end(b"data: a\r\ndata: b\r\n"), 0);
    assert_eq!(last_end(b"\n"), 1);
    assert_eq!(last_end(b""), 0);
}

#[test]
fn the_first_end_of_a_read() {
    assert_eq!(first_end(b"data: a\n\ndata: b\n\n"), 9);
    assert_eq!(first_end(b"data: a\r\n\r\ndata: b\n\n"), 11);
    assert_eq!(first_end(b"data: a\r\rdata: b\r\r"), 9);
    assert_eq!(first_end(b"data: a\n"), 8);
}

#[test]
fn pieces_of_an_answer_are_not_looked_at() {
    for plain in [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\": 1\"},\"finish_reason\":null}],\"usage\" : null}\n\n",
        ": ping\n\ndata:{}\r\n\r\n",
        "\n",
    ] {
        assert!(!needs_a_look(plain.as_bytes()), "{plain}");
    }
    for special in [
        "data: [DONE]\n\n",
        "data: {\"finish_reason\": \"stop\"}\n\n",
        "data: {\"usage\":{}}\n\n",
        "data: {\"error\":{}}\n\n",
        "data: {\"object\":\"error\"}\n\n",
        "data: {\n\n",
        "data: {}\ndata: {}\n\n",
        "data: {}\n\n<html>\n\n",
        "event: x\ndata: {}\n\n",
    ] {
        assert!(needs_a_look(special.as_bytes()), "{special}");
    }
}
