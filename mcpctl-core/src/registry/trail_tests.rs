use std::sync::Arc;

use super::*;
use crate::{
    resource::{Actor, EventDetail, Login},
    store::{EventStore as _, MemoryStore},
};

const YEARS: i64 = 3 * 365;

/// Events of calls and logins over so many days, ever fewer as one goes back, by two users.
async fn world(days: i64) -> (Registry, Vec<AuditEvent>) {
    let store = Arc::new(MemoryStore::new());
    let registry = Registry::builder(store.clone()).open().await.unwrap();
    let now = Timestamp::now();
    let mut age = SignedDuration::ZERO;
    let mut events = Vec::new();
    while age < SignedDuration::from_hours(days * 24) {
        let at = now.checked_sub(age).unwrap();
        let user = if events.len() % 3 == 0 { "rare" } else { "often" };
        let actor = Actor { user: Some(user.into()), ..Actor::default() };
        let detail = match events.len() % 2 {
            0 => EventDetail::LlmInferenceCall(InferenceCall {
                llm_name: "gpt".into(),
                ..InferenceCall::default()
            }),
            _ => EventDetail::Login(Login { email: user.into(), ..Login::default() }),
        };
        let event = AuditEvent::new(actor, detail);
        let id = format!("{}{}", &first_id_at(at)[..14], &event.id[14..]);
        events.push(AuditEvent { id, at, ..event });
        age = age * 21 / 20 + SignedDuration::from_secs(7);
    }
    store.append(events.clone().into()).await.unwrap();
    (registry, events)
}

fn queries(events: &[AuditEvent]) -> Vec<EventQuery> {
    let text = |text: &str| Some(text.to_owned());
    let middle = events[events.len() / 2].at;
    let mut queries = Vec::new();
    for user in [None, text("rare"), text("nobody")] {
        for llm in [None, text("gpt"), text("none")] {
            for kind in [None, text("login"), text(InferenceCall::KIND)] {
                for (since, until) in [(None, None), (Some(middle), None), (None, Some(middle))] {
                    let (user, llm, kind) = (user.clone(), llm.clone(), kind.clone());
                    queries.push(EventQuery {
                        user,
                        llm,
                        kind,
                        since,
                        until,
                        limit: 5,
                        ..EventQuery::default()
                    });
                }
            }
        }
    }
    queries
}

#[tokio::test]
async fn pages_lead_to_every_event_that_fits_once() {
    let (registry, events) = world(YEARS).await;
    let root = registry.root("test");
    for query in queries(&events) {
        let expected: Vec<_> = events.iter().filter(|event| query.matches(event)).cloned().collect();
        let (mut read, mut query) = (Vec::new(), query);
        loop {
            let page = registry.audit_events(&root, query.clone()).await.unwrap();
            assert!(page.items.len() == 5 || page.next.is_none(), "a full page, or the last: {query:?}");
            read.extend(page.items);
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        assert_eq!(read, expected, "{query:?}");
    }
}

#[tokio::test]
async fn a_search_that_is_given_up_goes_on_where_it_was() {
    // Each look is given up after its first small step, so that the way must not be long.
    let (registry, events) = world(2).await;
    for mut query in queries(&events) {
        query.since = query.since.or(events.last().map(|event| event.at));
        let expected: Vec<_> = events.iter().filter(|event| query.matches(event)).cloned().collect();
        let (mut read, mut looks, mut query) = (Vec::new(), 0, EventQuery { limit: usize::MAX, ..query });
        narrow(&mut query);
        loop {
            assert!(looks < 1000, "it ends: {query:?}");
            let (found, searched_to) = registry.search(query.clone(), Duration::ZERO).await.unwrap();
            read.extend(found);
            looks += 1;
            match searched_to {
                Some(id) => query.before = Some(id),
                None => break,
            }
        }
        assert_eq!(read, expected, "{query:?}");
        let is_search = query.user.is_some() || query.llm.is_some();
        assert!(is_search || looks == 1, "{looks} looks for {query:?}");
    }
}

#[tokio::test]
async fn one_event_is_found_by_its_id_and_bad_ids_are_refused() {
    let (registry, events) = world(YEARS).await;
    let root = registry.root("test");
    for event in [&events[0], &events[77], events.last().unwrap()] {
        assert_eq!(&registry.audit_event(&root, &event.id).await.unwrap(), event);
    }
    for id in ["", "x", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
        let error = registry.audit_event(&root, id).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NotFound, "{id}");
    }
    let query = EventQuery { before: Some("rubbish".into()), ..EventQuery::default() };
    assert!(registry.audit_events(&root, query).await.unwrap_err().message().starts_with("continue:"));
}
