//! Audit events.

use std::sync::Arc;

use jiff::{Span, Timestamp};

use super::{Storage, Txn, committed, refused};
use crate::{
    resource::{
        Actor, AuditEvent, Change, Denial, EventDetail, Id, InferenceCall, Login, Reveal, TokenHash, kinds,
        now,
    },
    store::{Condition, EventQuery},
};

/// An event with this id.
pub(super) fn denial(id: &str) -> AuditEvent {
    let detail = EventDetail::Denied(Denial { permission: "edit llms".into() });
    AuditEvent { id: id.into(), at: now(), detail, actor: Actor::default() }
}

fn id(number: usize) -> String {
    format!("01920000-0000-7000-8000-{number:012x}")
}

fn ids(events: &[AuditEvent]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

fn all() -> EventQuery {
    EventQuery { limit: usize::MAX, ..EventQuery::default() }
}

/// Events of every kind are read as they were written, the greatest id first, whenever they were written.
pub async fn come_back_newest_first(store: Arc<dyn Storage>) {
    let actor = Actor {
        user_id: Some(Id::random().shared()),
        user: Some("a@b.example".into()),
        token: Some("ci".into()),
        impersonator: Some("root@b.example".into()),
        token_sha: Some(TokenHash::of("token")),
        request_id: Some("request".into()),
    };
    let call = InferenceCall {
        llm_name: "gpt".into(),
        llm_id: Id::random().shared(),
        streaming: true,
        status: 499,
        duration_ms: u64::MAX,
        ttft_ms: Some(0),
        error: Some("the client went away".into()),
        ..InferenceCall::default()
    };
    let change = Change {
        action: "edit".into(),
        resource: "llms".into(),
        name: "gpt".into(),
        resource_id: Id::random().to_string(),
        version: 2,
        fields: vec!["url".into(), "model".into()],
    };
    let reveal = Reveal { name: "keys".into(), resource_id: Id::random().to_string() };
    let details = [
        EventDetail::LlmInferenceCall(call),
        EventDetail::ResourceChange(change),
        EventDetail::Login(Login { email: "x@y.example".into(), result: "refused".into(), count: Some(7) }),
        EventDetail::Denied(Denial { permission: "reveal secrets".into() }),
        EventDetail::SecretReveal(reveal),
    ];
    let mut events: Vec<_> = details
        .into_iter()
        .enumerate()
        .map(|(number, detail)| AuditEvent { id: id(number), at: now(), detail, actor: actor.clone() })
        .collect();
    // The newest first into the store: the order of writing is no order.
    events.reverse();
    let (newer, older) = events.split_at(2);
    store.append(newer.into()).await.unwrap();
    store.append(older.into()).await.unwrap();
    store.append([].into()).await.unwrap();
    assert_eq!(store.events(&all()).await.unwrap(), events);
    assert_eq!(store.revision().await.unwrap(), 0, "events alone are no change");
}

/// What a query finds is exactly what `EventQuery::matches` says, in order.
pub async fn are_found_by_every_filter(store: Arc<dyn Storage>) {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let later = |micros: i64| start.checked_add(Span::new().microseconds(micros)).unwrap();
    let users = [None, Some("u0"), Some("u1@x.example")];
    let mut events = Vec::new();
    for number in 0..60 {
        let name = ["gpt", "claude", "user"].into_iter().cycle().nth(number).unwrap_or_default().to_owned();
        let detail = match number % 5 {
            0 => EventDetail::LlmInferenceCall(InferenceCall {
                llm_name: name.into(),
                ..InferenceCall::default()
            }),
            1 | 2 => EventDetail::ResourceChange(Change {
                action: "create".into(),
                resource: if number % 5 == 1 { "llms" } else { "secrets" }.into(),
                name,
                resource_id: String::new(),
                version: 1,
                fields: vec![],
            }),
            3 => EventDetail::Login(Login { email: "u1@x.example".into(), result: "ok".into(), count: None }),
            _ => EventDetail::Denied(Denial { permission: "p".into() }),
        };
        let user_at =
            |step: usize| users.iter().cycle().nth(number / step).copied().flatten().map(Into::into);
        let actor = Actor { user_id: user_at(1), user: user_at(7), ..Actor::default() };
        // Times that do not grow with the ids: clocks are set back.
        let at = later(i64::try_from(number).unwrap() * 37 % 60);
        events.push(AuditEvent { id: id(number), at, detail, actor });
    }
    store.append(events.clone().into()).await.unwrap();

    let texts =
        |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).chain([None]).collect::<Vec<_>>();
    let half = later(30).checked_add(Span::new().nanoseconds(500)).unwrap();
    let mut found = 0;
    for kind in texts(&["llm_inference_call", "login", "nonsense"]) {
        for llm in texts(&["gpt", "user", ""]) {
            for user in texts(&["u0", "u1@x.example", "U0"]) {
                for (since, until) in
                    [(None, None), (Some(later(10)), Some(half)), (Some(half), Some(later(50)))]
                {
                    for (before, after) in [
                        (None, None),
                        (Some(id(41)), None),
                        (None, Some(id(39))),
                        (Some(id(50)), Some(id(9))),
                    ] {
                        let (kind, llm, user) = (kind.clone(), llm.clone(), user.clone());
                        let query = EventQuery { kind, llm, user, since, until, before, after, limit: 7 };
                        let expected =
                            events.iter().rev().filter(|event| query.matches(event)).take(query.limit);
                        let expected: Vec<_> = expected.cloned().collect();
                        found += expected.len();
                        assert_eq!(store.events(&query).await.unwrap(), expected, "{query:?}");
                    }
                }
            }
        }
    }
    assert!(found > 100, "the queries found something");
}

/// `before` goes on where the last page ended, with no event twice or left out.
pub async fn are_read_in_pages(store: Arc<dyn Storage>) {
    let events: Vec<_> = (0..1000).map(|number| denial(&id(number))).collect();
    store.append(events.clone().into()).await.unwrap();
    let mut read = Vec::new();
    let mut query = EventQuery { limit: 300, ..EventQuery::default() };
    loop {
        let page = store.events(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        assert_eq!(page.len(), 300.min(1000 - read.len()));
        query.before = Some(last.id.clone());
        read.extend(page);
    }
    read.reverse();
    assert_eq!(read, events);
    assert_eq!(store.events(&EventQuery::default()).await.unwrap(), [], "a limit of none");
}

/// An event that is there already is left as it is, and does not keep others out.
pub async fn are_appended_once(store: Arc<dyn Storage>) {
    let first = denial(&id(1));
    let other = |id: &str| {
        let detail = EventDetail::Login(Login { email: "x".into(), result: "ok".into(), count: None });
        AuditEvent { detail, ..denial(id) }
    };
    store.append([first.clone()].into()).await.unwrap();
    let second = other(&id(2));
    store.append([other(&id(1)), second.clone(), denial(&id(2))].into()).await.unwrap();
    store.append([first.clone(), second.clone()].into()).await.unwrap();
    let txn = Txn { events: vec![other(&id(1))], ..Txn::default() };
    committed(&*store, txn).await;
    assert_eq!(store.events(&all()).await.unwrap(), [second, first]);
}

/// Events of a transaction are kept when it commits, and only then.
pub async fn of_a_transaction_share_its_fate(store: Arc<dyn Storage>) {
    let there = super::put(&*store, super::llm("there")).await;
    let absent = Condition::NameAbsent { kind: kinds::LLMS, name: "there".into() };
    let version = Condition::Version { kind: kinds::LLMS, id: there.id, version: 1 };
    let txn = |condition, event: &AuditEvent| Txn {
        conditions: vec![condition],
        events: vec![event.clone()],
        ..Txn::default()
    };
    let (kept, lost) = (denial(&id(1)), denial(&id(2)));
    refused(&*store, txn(absent, &lost)).await;
    committed(&*store, txn(version, &kept)).await;
    assert_eq!(ids(&store.events(&all()).await.unwrap()), [kept.id]);
}

/// Only events before the given one go, the oldest first, and no more than asked for.
pub async fn are_forgotten_oldest_first(store: Arc<dyn Storage>) {
    let events: Vec<_> = (0..100).map(|number| denial(&id(number))).collect();
    let (older, newer) = events.split_at(50);
    // The order of writing is no age.
    store.append(newer.into()).await.unwrap();
    store.append(older.into()).await.unwrap();
    let left = async || {
        let mut left = ids(&store.events(&all()).await.unwrap());
        left.reverse();
        left
    };
    let from = |first: usize| ids(events.split_at(first).1);
    assert_eq!(store.forget(&id(0), 10).await.unwrap(), 0, "nothing is before the oldest");
    assert_eq!(store.forget(&id(60), 0).await.unwrap(), 0, "none were asked for");
    assert_eq!(store.forget(&id(60), 25).await.unwrap(), 25);
    assert_eq!(left().await, from(25));
    assert_eq!(store.forget(&id(60), 35).await.unwrap(), 35);
    assert_eq!(store.forget(&id(60), 35).await.unwrap(), 0);
    assert_eq!(left().await, from(60));
    // Bounds that are no ids, and one that no database could hold.
    assert_eq!(store.forget("", 10).await.unwrap(), 0);
    assert_eq!(store.forget(&format!("{}\0x", id(61)), 1000).await.unwrap(), 2);
    assert_eq!(left().await, from(62));
    assert_eq!(store.forget("~", usize::MAX).await.unwrap(), 38);
    assert_eq!(store.revision().await.unwrap(), 0, "events alone are no change");
}

/// Those who forget at the same time, while others write, do each other no harm.
pub async fn are_forgotten_by_several_at_once(store: Arc<dyn Storage>) {
    let events = |numbers: std::ops::Range<usize>| numbers.map(|number| denial(&id(number))).collect();
    store.append(events(0..1000)).await.unwrap();
    let forget = async |store: Arc<dyn Storage>| {
        let mut gone = 0;
        loop {
            gone += store.forget(&id(900), 50).await.unwrap();
            let old = EventQuery { before: Some(id(900)), limit: 1, ..EventQuery::default() };
            if store.events(&old).await.unwrap().is_empty() {
                return gone;
            }
            tokio::task::yield_now().await;
        }
    };
    let write = async {
        for number in 1000..1020 {
            store.append(events(number..number + 1)).await.unwrap();
        }
    };
    let (one, other, ()) = tokio::join!(forget(store.clone()), forget(store.clone()), write);
    assert_eq!(one + other, 900, "each event goes once");
    assert_eq!(store.events(&all()).await.unwrap().len(), 120);
}
