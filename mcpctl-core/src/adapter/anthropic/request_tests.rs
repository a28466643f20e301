use bytes::Bytes;

use super::*;

fn sent(body: &Value) -> ProviderRequest {
    let request = ChatRequest::scan(&Bytes::from(body.to_string())).unwrap();
    encode(&request, &Settings { llm_name: "claude", model: "m", ..Settings::default() }).unwrap()
}

#[test]
fn names_of_dropped_fields_are_safe_in_a_header_and_few() {
    let mut body = json!({"messages": [{"role": "user", "content": "a"}], "x\r\nset-cookie: a, b": 1});
    for n in 0..100 {
        body[format!("f{n}")] = json!(n);
    }
    body["y".repeat(1000)] = json!(1);
    let dropped = sent(&body).dropped;
    assert_eq!(dropped.len(), 32);
    assert_eq!(dropped[0], "x__set-cookie__a__b");
    assert!(dropped.iter().all(|name| name.len() <= 64));
}

#[test]
fn different_names_stay_different_and_the_same_name_is_mapped_the_same_way() {
    let tools: Vec<Value> = ["a.b", "a/b", "a b", "ä", &"x".repeat(200)]
        .iter()
        .map(|name| json!({"type": "function", "function": {"name": name}}))
        .collect();
    let body = json!({"messages": [{"role": "user", "content": "a"}], "tools": tools});
    let (first, second) = (sent(&body), sent(&body));
    assert_eq!(first.body, second.body);
    assert_eq!(first.context.names.len(), 5);
    let allowed = |name: &String| {
        name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    assert!(first.context.names.keys().all(allowed));
}

#[test]
fn a_body_that_nests_as_deep_as_allowed_is_an_error_and_no_overflow() {
    let nested = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let body = format!("{{\"messages\":{nested}}}");
    let request = ChatRequest::scan(&Bytes::from(body)).unwrap();
    let error = encode(&request, &Settings::default()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
}

#[test]
fn the_caller_cannot_set_what_the_llm_decides() {
    let body =
        json!({"model": "other", "anthropic_version": "x", "messages": [{"role": "user", "content": "a"}]});
    let sent = sent(&body);
    assert_eq!(sent.body, r#"{"model":"m","max_tokens":1024,"messages":[{"role":"user","content":"a"}]}"#);
    assert_eq!(sent.dropped, ["anthropic_version"]);
}
