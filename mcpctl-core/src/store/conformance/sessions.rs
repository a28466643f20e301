//! Sessions, and when things were last used.

use std::sync::Arc;

use jiff::{Span, Timestamp};

use super::{Storage, Write, committed, llm, put, session, writes};
use crate::resource::{Id, Session, TokenHash, kinds, now};

async fn current(store: &dyn Storage, at: Timestamp) -> Vec<TokenHash> {
    let mut tokens: Vec<_> =
        store.sessions(at).await.unwrap().into_iter().map(|session| session.token).collect();
    tokens.sort_unstable();
    tokens
}

/// A session is there until its last microsecond, and listed no more after that or once it is revoked.
pub async fn last_until_they_expire_or_are_revoked(store: Arc<dyn Storage>) {
    let now = now();
    let user = Id::random();
    let later = |micros: i64| now.checked_add(Span::new().microseconds(micros)).unwrap();
    let old = Session { expires_at: later(-1), ..session(&user, "old") };
    let short = Session { expires_at: later(1), ..session(&user, "short") };
    let long = session(&user, "long");
    let all = [&old, &short, &long].map(|session| Write::PutSession(session.clone()));
    committed(&*store, writes(all)).await;

    for session in [&old, &short, &long] {
        assert_eq!(store.session(session.token).await.unwrap().as_ref(), Some(session));
    }
    assert_eq!(store.session(TokenHash::of("unknown")).await.unwrap(), None);
    let sorted = |mut tokens: Vec<TokenHash>| {
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(current(&*store, later(-2)).await, sorted(vec![old.token, short.token, long.token]));
    assert_eq!(current(&*store, now).await, sorted(vec![short.token, long.token]));
    assert_eq!(current(&*store, later(1)).await, [long.token], "the end itself is no part of a session");
    let almost = later(0).checked_add(Span::new().nanoseconds(999)).unwrap();
    assert_eq!(current(&*store, almost).await, sorted(vec![short.token, long.token]));

    let unknown = Write::RevokeSession(TokenHash::of("unknown"));
    committed(&*store, writes([Write::RevokeSession(long.token), unknown])).await;
    assert_eq!(store.session(long.token).await.unwrap(), None);
    assert_eq!(current(&*store, now).await, [short.token]);
}

/// `Write::RevokeSessionsOf` ends all sessions of the user and no other's.
pub async fn of_a_user_are_revoked_together(store: Arc<dyn Storage>) {
    let (one, other) = (Id::random(), Id::random());
    let theirs = [session(&one, "a"), session(&one, "b")];
    let kept = session(&other, "c");
    let all = theirs.iter().chain([&kept]).map(|session| Write::PutSession(session.clone()));
    committed(&*store, writes(all)).await;
    committed(&*store, writes([Write::RevokeSessionsOf(one), Write::RevokeSessionsOf(Id::random())])).await;
    for session in &theirs {
        assert_eq!(store.session(session.token).await.unwrap(), None);
    }
    assert_eq!(store.sessions(now()).await.unwrap(), std::slice::from_ref(&kept));
    // A session that began after that is not ended by it.
    let again = session(&kept.user_id, "d");
    let txn = writes([Write::RevokeSessionsOf(kept.user_id), Write::PutSession(again.clone())]);
    committed(&*store, txn).await;
    assert_eq!(store.sessions(now()).await.unwrap(), [again]);
}

/// Forgetting touches no session that has not ended, and is no change.
pub async fn that_ended_long_ago_may_be_forgotten(store: Arc<dyn Storage>) {
    let (now, user) = (now(), Id::random());
    let ended = now.checked_sub(Span::new().hours(48)).unwrap();
    let old = Session { expires_at: ended, ..session(&user, "old") };
    let new = session(&user, "new");
    committed(&*store, writes([&old, &new].map(|session| Write::PutSession(session.clone())))).await;
    let revision = store.revision().await.unwrap();
    store.forget_sessions(ended).await.unwrap();
    assert_eq!(store.session(old.token).await.unwrap(), Some(old.clone()), "it ended then, not before");
    store.forget_sessions(now).await.unwrap();
    assert_eq!(store.session(new.token).await.unwrap(), Some(new));
    assert_eq!(store.revision().await.unwrap(), revision);
}

/// The latest use is the one that counts; it is no change, and goes with its object. A store may also note nothing.
pub async fn and_the_last_use_of_things_is_noted(store: Arc<dyn Storage>) {
    let object = put(&*store, llm("a")).await;
    let revision = store.revision().await.unwrap();
    let (now, other) = (now(), Id::random());
    let earlier = now.checked_sub(Span::new().seconds(60)).unwrap();
    for at in [earlier, now, earlier] {
        store.used([(object.id.clone(), at), (other.clone(), earlier)].into()).await.unwrap();
    }
    assert_eq!(store.revision().await.unwrap(), revision);
    let mut uses = store.last_uses().await.unwrap();
    if uses.is_empty() {
        return;
    }
    uses.sort_by_key(|(_, at)| *at);
    assert_eq!(uses, [(other.clone(), earlier), (object.id.clone(), now)]);
    assert_eq!(store.last_use(&object.id).await.unwrap(), Some(now));
    assert_eq!(store.last_use(&Id::random()).await.unwrap(), None);
    let gone = Write::Delete { kind: kinds::LLMS, id: object.id.clone() };
    committed(&*store, writes([gone])).await;
    assert_eq!(store.last_uses().await.unwrap(), [(other, earlier)]);
}
