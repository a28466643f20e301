use super::*;

fn decode(adapter: Adapter, status: u16, body: &str) -> ProviderError {
    let error = decode_error(adapter, Shape::OpenAi, status, body.as_bytes(), "fast");
    let shown: Value = serde_json::from_slice(&error.body_json).unwrap();
    assert_eq!(shown["error"]["message"], error.message);
    error
}

#[test]
fn anthropic_errors_become_openai_errors() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too big"}}"#;
    let error = decode(Adapter::Anthropic, 400, body);
    assert_eq!(error.status, 400);
    assert_eq!(
        error.body_json,
        r#"{"error":{"message":"max_tokens: too big","type":"invalid_request_error","param":null,"code":null}}"#
    );
}

#[test]
fn statuses() {
    for (status, shown) in [
        (400, 400),
        (404, 404),
        (413, 413),
        (422, 422),
        (429, 429),
        (402, 402),
        (500, 500),
        (502, 502),
        (503, 503),
        (504, 504),
        (529, 503),
        (401, 502),
        (403, 502),
        (407, 502),
        (301, 502),
        (204, 502),
        (0, 502),
        (600, 502),
    ] {
        assert_eq!(decode(Adapter::OpenAi, status, r#"{"error":{"message":"x"}}"#).status, shown, "{status}");
    }
}

#[test]
fn a_refused_key_is_not_the_callers_fault_and_is_not_repeated() {
    for status in [401, 403] {
        let error =
            decode(Adapter::OpenAi, status, r#"{"error":{"message":"Incorrect API key: sk-canary"}}"#);
        assert_eq!(error.status, 502);
        assert!(error.message.ends_with("provider refused the server's credentials"));
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn openai_errors_are_the_providers_own_bytes() {
    let body = r#"{ "error": {"message": "bad", "type": "t", "param": "p", "code": 400, "more": 1} }"#;
    let error = decode(Adapter::OpenAi, 400, body);
    assert_eq!(error.body_json, body);
    assert_eq!(
        (error.error_type.as_str(), error.param.as_deref(), error.code.as_deref()),
        ("t", Some("p"), Some("400"))
    );
}

#[test]
fn other_shapes_are_put_into_the_usual_one() {
    for body in [r#"{"object":"error","message":"bad"}"#, r#"{"error":"bad"}"#, r#"{"detail":"bad"}"#] {
        assert_eq!(decode(Adapter::OpenAi, 400, body).message, "bad", "{body}");
    }
    let detail = r#"{"detail":[{"loc":["body"]}]}"#;
    assert_eq!(decode(Adapter::OpenAi, 422, detail).message, r#"[{"loc":["body"]}]"#);
}

#[test]
fn what_is_no_json_names_the_llm() {
    for (body, cause) in [
        ("<html>x</html>", "HTML"),
        ("", "an empty body"),
        ("upstream\u{7} away", "`upstream  away`"),
        ("[1]", "JSON that is not an error object"),
    ] {
        let error = decode(Adapter::Anthropic, 502, body);
        assert_eq!(error.message, format!("llm `fast`: the provider answered 502 with {cause}"));
    }
    let redirect = decode(Adapter::OpenAi, 302, r#"{"error":{"message":"secret place"}}"#);
    assert_eq!(
        redirect.message,
        "llm `fast`: the provider answered 302 with a redirect, which is not followed"
    );
    assert!(decode(Adapter::OpenAi, 500, &"ü".repeat(100_000)).body_json.len() < 1000);
}

#[test]
fn a_reflected_key_is_redacted() {
    let body = r#"{"error":{"message":"no sk-canary here","code":"sk-canary","more":"sk-canary"}}"#;
    let error = decode(Adapter::OpenAi, 400, body).redact("sk-canary");
    assert!(!format!("{error:?}").contains("canary"));
    assert_eq!(error.message, "no [redacted] here");
    let odd = "a\"b";
    let body = r#"{"error":{"message":"x","more":"a\"b"}}"#;
    assert!(
        !decode(Adapter::OpenAi, 400, body).redact(odd).body_json.windows(4).any(|part| part == b"a\\\"b")
    );
    assert_eq!(decode(Adapter::OpenAi, 400, body).redact("").body_json, body);
}
