//! Odd contents, which some databases bend.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{Storage, Write, committed, events::denial, llm, put, session, spec, writes};
use crate::{
    resource::{Actor, AuditEvent, EventDetail, Id, Login, Object, Session, kinds},
    store::EventQuery,
};

const TEXTS: [&str; 8] = [
    "",
    "it's \"quoted\" \\ `back` $1 ?1 :name %s -- ; DROP TABLE objects;",
    "line\nline\r\n\ttab",
    "naïve ß 日本語 🦀 e\u{301} \u{202e}rtl",
    "nul \0 inside",
    "nul \0 another",
    "\u{1}\u{7f}\u{feff}\u{ffff}\u{10ffff}",
    "null",
];

/// Any text is kept in specs, events and values, and queries may hold any; names and ids hold no NUL.
pub async fn any_text_is_kept(store: Arc<dyn Storage>) {
    for (number, text) in TEXTS.into_iter().enumerate() {
        let name = text.replace('\0', "0");
        let odd = spec(json!({text: [text, {text: text}], "more": text}));
        let object = put(&*store, Object::new(kinds::LLMS, name.clone(), odd)).await;
        assert_eq!(store.get(kinds::LLMS, &object.id).await.unwrap(), Some(object.clone()));
        assert_eq!(store.find(kinds::LLMS, &name).await.unwrap(), Some(object));
        assert_eq!(store.find(kinds::LLMS, &format!("{name}\0")).await.unwrap(), None);

        let value = Write::PutValue { key: text.into(), value: name.clone() };
        committed(&*store, writes([value])).await;
        assert_eq!(store.value(text).await.unwrap(), Some(name.clone()));

        let detail = EventDetail::Login(Login { email: text.into(), result: text.into(), count: None });
        let actor = Actor { user: Some("u".into()), user_id: Some(text.into()), ..Actor::default() };
        let event = AuditEvent { detail, actor, ..denial(&format!("{number}")) };
        store.append([event.clone()].into()).await.unwrap();
        let query = EventQuery { user: Some(text.into()), limit: 10, ..EventQuery::default() };
        assert_eq!(store.events(&query).await.unwrap(), [event], "{text:?}");
    }
    let before = EventQuery { before: Some("1\0".into()), limit: 10, ..EventQuery::default() };
    assert_eq!(store.events(&before).await.unwrap().len(), 2, "events 0 and 1");
    for text in ["nul \0 missing", "nul "] {
        let (kind, llm) = (Some(text.to_owned()), Some(text.to_owned()));
        let query = EventQuery { kind, llm, limit: 10, ..EventQuery::default() };
        assert_eq!(store.events(&query).await.unwrap(), []);
        assert_eq!(store.value(text).await.unwrap(), None);
    }
}

/// A megabyte is nothing special.
pub async fn large_specs_are_kept(store: Arc<dyn Storage>) {
    // Text that does not compress, for databases that try to.
    let text: String = std::iter::repeat_with(|| Id::random().to_string()).take(40_000).collect();
    let large = Object::new(kinds::LLMS, "large", spec(json!({"text": text, "key": "x".repeat(1 << 20)})));
    let large = put(&*store, large).await;
    assert_eq!(store.get(kinds::LLMS, &large.id).await.unwrap(), Some(large));
    let start = |length| text.chars().take(length).collect::<String>();
    let (key, value) = (start(100_000), text.clone());
    committed(&*store, writes([Write::PutValue { key: key.clone(), value }])).await;
    assert_eq!(store.value(&key).await.unwrap().as_ref(), Some(&text));
    let detail = EventDetail::Login(Login { email: start(100_000), result: "refused".into(), count: None });
    let event = AuditEvent { detail, ..denial("1") };
    store.append([event.clone()].into()).await.unwrap();
    let query = EventQuery { user: Some(key), limit: 10, ..EventQuery::default() };
    assert_eq!(store.events(&query).await.unwrap(), [event]);
}

/// Numbers are neither rounded nor turned into others.
pub async fn numbers_are_kept(store: Arc<dyn Storage>) {
    let numbers = json!({
        "integers": [0, -1, i64::MIN, i64::MAX, u64::MAX],
        "floats": [0.0, -0.5, 0.1, 0.1 + 0.2, 1.0, 1e21, f64::MAX, f64::MIN_POSITIVE, 5e-324, 7.038_531e-26,
                   123_456_789.123_456_79, std::f64::consts::PI],
    });
    let object =
        put(&*store, Object { version: i64::MAX, ..Object::new(kinds::LLMS, "n", spec(numbers)) }).await;
    assert_eq!(store.get(kinds::LLMS, &object.id).await.unwrap(), Some(object));
}

/// Times are kept to the microsecond, also long ago and far ahead.
pub async fn times_are_kept_to_the_microsecond(store: Arc<dyn Storage>) {
    for (number, text) in [
        "2026-02-03T04:05:06.123456Z",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00.000001Z",
        "9999-12-30T22:00:00.999999Z",
    ]
    .into_iter()
    .enumerate()
    {
        let time: Timestamp = text.parse().unwrap();
        let object = Object { created_at: time, updated_at: time, ..llm(text) };
        let object = put(&*store, object).await;
        assert_eq!(store.get(kinds::LLMS, &object.id).await.unwrap(), Some(object));
        let session = Session { created_at: time, expires_at: time, ..session(&Id::random(), text) };
        committed(&*store, writes([Write::PutSession(session.clone())])).await;
        assert_eq!(store.session(session.token).await.unwrap(), Some(session));
        let event = AuditEvent { at: time, ..denial(&number.to_string()) };
        store.append([event.clone()].into()).await.unwrap();
        let query = EventQuery { since: Some(time), limit: 1, ..EventQuery::default() };
        assert_eq!(store.events(&query).await.unwrap(), [event]);
        let query = EventQuery { until: Some(time), since: Some(time), limit: 1, ..EventQuery::default() };
        assert_eq!(store.events(&query).await.unwrap(), []);
    }
}
