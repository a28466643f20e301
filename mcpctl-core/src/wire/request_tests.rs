use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scan(text: &str) -> Result<ChatRequest> {
    ChatRequest::scan(&Bytes::copy_from_slice(text.as_bytes()))
}

fn fault(text: &str) -> String {
    let error = scan(text).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    error.message().to_owned()
}

fn valid(body: &Value) -> ChatRequest {
    scan(&body.to_string()).unwrap()
}

#[test]
fn reads_what_it_must() {
    let request = scan(r#" {"model" : "a\u0062" ,"stream":true,"stream_options":{"x":1,"include_usage":true}, "messages":[1], "\u0078":null} "#).unwrap();
    assert_eq!(request.model(), Some("ab"));
    assert!(request.stream() && request.include_usage());
    assert!(request.has("x") && request.has("messages") && !request.has("y"));
    assert_eq!(request.raw("messages"), Some("[1]"));

    let request = scan(r#"{"model":null,"stream":null,"stream_options":null,"messages":[{}]}"#).unwrap();
    assert_eq!(request.model(), None);
    assert!(!request.stream() && !request.include_usage());
}

#[test]
fn messages_are_required() {
    for body in [
        "{}",
        r#"{"messages":null}"#,
        r#"{"messages":[]}"#,
        r#"{"messages":[ ]}"#,
        r#"{"messages":{}}"#,
        r#"{"messages":"x"}"#,
    ] {
        assert_eq!(fault(body), "messages is required", "{body}");
    }
}

#[test]
fn other_endpoints_require_other_fields() {
    let scan =
        |text: &'static str, required| ChatRequest::scan_for(&Bytes::from_static(text.as_bytes()), required);
    assert!(scan("{}", Required::Nothing).is_ok());
    assert!(scan(r#"{"input":"x"}"#, Required::Field("input")).is_ok());
    let error = scan(r#"{"input":null}"#, Required::Field("input")).unwrap_err();
    assert_eq!(error.message(), "input is required");
    let edits = Edits { model: Some("m"), ..Edits::default() };
    assert_eq!(scan(" { } ", Required::Nothing).unwrap().rewrite(&edits), r#" {"model":"m" } "#);
}

#[test]
fn wrong_types_are_named() {
    assert_eq!(fault(r#"{"messages":[1],"model":7}"#), "model: must be a string or null");
    assert_eq!(fault(r#"{"messages":[1],"stream":"true"}"#), "stream: must be true, false or null");
    assert_eq!(fault(r#"{"messages":[1],"stream_options":[]}"#), "stream_options: must be an object or null");
    let twice = r#"{"messages":[1],"stream_options":{"include_usage":1}}"#;
    assert_eq!(fault(twice), "stream_options.include_usage: must be true or false, once");
}

#[test]
fn duplicate_fields_are_named_however_they_are_written() {
    assert_eq!(fault(r#"{"model":"a","messages":[1],"model":"b"}"#), "the field `model` occurs twice");
    assert_eq!(fault(r#"{"model":"a","messages":[1],"mod\u0065l":"b"}"#), "the field `model` occurs twice");
    let long = "k".repeat(10_000);
    assert!(fault(&format!(r#"{{"{long}":1,"{long}":2}}"#)).len() < 200);
}

#[test]
fn malformed_json_says_where_and_does_not_repeat_the_body() {
    assert_eq!(
        fault("{\"messages\":[1],\n  \"x\": secret}"),
        "malformed JSON: expected value at line 2 column 8"
    );
    assert_eq!(fault("{\"messages\":[1]} x"), "malformed JSON: trailing characters at line 1 column 18");
    assert_eq!(fault("{\"messages\":[1]"), "malformed JSON: EOF while parsing an object at line 1 column 15");
    assert_eq!(fault("[1]"), "the body must be a JSON object");
    assert_eq!(fault("\"sk-secret\""), "the body must be a JSON object");
    assert_eq!(fault("  "), "the body is empty; a JSON object is required");
    let error = ChatRequest::scan(&Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err();
    assert_eq!(error.message(), "the body is not UTF-8 at byte 6");
}

#[test]
fn deep_nesting_is_refused_and_brackets_in_strings_are_not_nesting() {
    for open in ["[", "{\"a\":"] {
        let deep = format!("{{\"messages\":{}", open.repeat(100_000));
        assert_eq!(fault(&deep), "the body nests deeper than 128 levels");
    }
    let nested = |levels: usize| format!("{{\"messages\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(scan(&nested(127)).is_ok());
    assert_eq!(fault(&nested(128)), "the body nests deeper than 128 levels");
    assert!(scan(&json!({"messages": ["[{".repeat(1000) + "\\\"[["]}).to_string()).is_ok());
}

#[test]
fn too_many_fields_are_refused() {
    let fields: Vec<String> = (0..100_000).map(|n| format!("\"f{n}\":0")).collect();
    assert_eq!(fault(&format!("{{{}}}", fields.join(","))), "the body has more than 256 fields");
}

#[test]
fn nothing_to_change_returns_the_same_bytes() {
    let request =
        valid(&json!({"model": "m", "messages": [1], "temperature": null, "max_completion_tokens": 1}));
    let defaults = json!({"temperature": 1, "model": "x", "stream": true, "messages": [], "max_tokens": 7});
    let edits = Edits { model: Some("m"), include_usage: true, defaults: defaults.as_object() };
    let out = request.rewrite(&edits);
    assert_eq!(out.as_ptr(), request.body().as_ptr());
    assert_eq!(out.len(), request.body().len());
}

#[test]
fn everything_else_stays_byte_for_byte() {
    let request = scan(
        "{ \"big\": 12345678901234567890123, \"stream\":true,\n\"model\" : \"a\", \"messages\" :[1e400] }\n",
    )
    .unwrap();
    let edits = Edits { model: Some("b\"\n"), include_usage: true, defaults: None };
    assert_eq!(
        request.rewrite(&edits),
        "{ \"big\": 12345678901234567890123, \"stream\":true,\n\"model\" : \"b\\\"\\n\", \"messages\" :[1e400],\"stream_options\":{\"include_usage\":true} }\n"
    );
}

/// JSON of the kind that requests hold.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!("true")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,6}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        Just("model".to_owned()),
        Just("stream".to_owned()),
        Just("stream_options".to_owned()),
        Just("temperature".to_owned()),
        ".{0,5}",
    ];
    let value = prop_oneof![
        any_json(),
        Just(json!("m")),
        Just(json!(true)),
        Just(json!({"include_usage": false, "z": 1})),
    ];
    proptest::collection::vec((key, value), 0..8).prop_map(|pairs| {
        let mut body: Map<String, Value> = pairs.into_iter().collect();
        body.insert("messages".to_owned(), json!([{"role": "user"}]));
        body
    })
}

proptest! {
    #[test]
    fn rewriting_is_editing_a_value(
        body in body(),
        pretty in any::<bool>(),
        model in proptest::option::of(".{0,6}"),
        include_usage in any::<bool>(),
        defaults in body(),
    ) {
        let text = match pretty {
            true => serde_json::to_string_pretty(&body).unwrap(),
            false => Value::Object(body.clone()).to_string(),
        };
        if let Ok(request) = scan(&text) {
            let out = request.rewrite(&Edits { model: model.as_deref(), include_usage, defaults: Some(&defaults) });
            // Reading a number may round it, so both sides are read once.
            let mut wanted: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let defaults: Map<String, Value> = serde_json::from_str(&Value::Object(defaults).to_string()).unwrap();
            if let Some(model) = model {
                wanted.insert("model".to_owned(), model.into());
            }
            if include_usage && wanted.get("stream") == Some(&json!(true)) {
                let options = wanted.entry("stream_options").or_insert_with(|| json!({}));
                if options.is_null() {
                    *options = json!({});
                }
                options["include_usage"] = json!(true);
            }
            for (key, value) in defaults {
                if !NO_DEFAULT.contains(&key.as_str()) {
                    wanted.entry(key).or_insert(value);
                }
            }
            let out: Map<String, Value> = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(Value::Object(out), Value::Object(wanted));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ChatRequest::scan(&Bytes::from(bytes));
    }
}
