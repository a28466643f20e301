//! What no request can show: clocks that step, keys that are damaged, servers that start at once.

use serde_json::json;

use super::*;
use crate::{registry::Origin, resource::kinds, secret::MasterKey, secret::SecretValue, store::MemoryStore};

async fn open(store: &Arc<MemoryStore>, key: &MasterKey) -> Registry {
    Registry::builder(store.clone()).master_key(key.clone()).open().await.unwrap()
}

fn kept(token: TokenHash, iat: i64, exp: i64) -> Leases {
    let leases = Leases { lifetime: 100, recent: OnceLock::new() };
    let recent = Recent { token, iat, exp, text: HeaderValue::from_static("kept") };
    leases.place(token).unwrap().store(Some(Arc::new(recent)));
    leases
}

#[test]
fn a_remembered_lease_is_young_and_its_tokens_own() {
    let token = TokenHash::of("a");
    let leases = kept(token, 1000, 1100);
    for (now, ends, is_given) in [
        (1000, i64::MAX, true),
        (1049, i64::MAX, true),
        (1049, 1100, true),
        // Half of its life is over, or all of it.
        (1050, i64::MAX, false),
        (1100, i64::MAX, false),
        (i64::MAX, i64::MAX, false),
        // The clock has stepped back: as of now, nobody has signed it yet.
        (999, i64::MAX, false),
        (0, i64::MAX, false),
        // The token has been given an earlier end.
        (1000, 1099, false),
    ] {
        assert_eq!(leases.recent(token, now, ends).is_some(), is_given, "{now} {ends}");
    }
    // Another token in the same place.
    let place = |token: TokenHash| leases.place(token).unwrap() as *const _;
    let mut others = (0..).map(|number| TokenHash::of(&format!("other-{number}")));
    let other = others.find(|other| place(*other) == place(token)).unwrap();
    assert!(leases.recent(other, 1000, i64::MAX).is_none());
}

#[tokio::test]
async fn registries_that_open_at_once_have_one_key_and_it_stays() {
    let (store, master) = (Arc::new(MemoryStore::new()), MasterKey::generate());
    let (one, two) = tokio::join!(open(&store, &master), open(&store, &master));
    let keys = one.lease_keys().unwrap();
    assert_ne!(keys, PublicKeys::default());
    assert_eq!(two.lease_keys().unwrap(), keys);
    assert_eq!(open(&store, &master).await.lease_keys().unwrap(), keys);
    let sealed = open(&store, &MasterKey::generate()).await;
    assert_eq!(sealed.lease_keys().unwrap_err().kind(), ErrorKind::Sealed);
}

#[tokio::test]
async fn another_master_key_is_enough_after_rekey() {
    let (store, old, new) = (Arc::new(MemoryStore::new()), MasterKey::generate(), MasterKey::generate());
    let before = open(&store, &old).await;
    let both = Keyring::new(new.clone()).also_reading(old);
    let done = Registry::builder(store.clone()).keyring(both).open().await.unwrap();
    let done = done.rekey(crate::resource::Actor::default(), |_, _| {}).await.unwrap();
    assert_eq!((done.renewed, done.left.len()), (0, 0));
    assert_eq!(open(&store, &new).await.lease_keys().unwrap(), before.lease_keys().unwrap());
}

#[tokio::test]
async fn a_damaged_key_ends_leases_and_nothing_else() {
    let (store, master) = (Arc::new(MemoryStore::new()), MasterKey::generate());
    let registry = open(&store, &master).await;
    let sealed = registry.inner.store.value(SIGNING_KEY).await.unwrap().unwrap();
    let mut value = sealed.clone();
    let at = value.len() - 10;
    value.replace_range(at..=at, if &sealed[at..=at] == "A" { "B" } else { "A" });
    let writes = vec![Write::PutValue { key: SIGNING_KEY.to_owned(), value: value.clone() }];
    registry.inner.store.commit(Txn { writes, ..Txn::default() }).await.unwrap();
    let damaged = open(&store, &master).await;
    assert!(!damaged.is_sealed());
    assert_eq!(damaged.lease_keys().unwrap_err().kind(), ErrorKind::SecretUnavailable);
    assert_eq!(damaged.inner.store.value(SIGNING_KEY).await.unwrap(), Some(value), "nothing replaces it");
    // The old master key stays while something is under it that could not be encrypted anew.
    let both = Keyring::new(MasterKey::generate()).also_reading(master);
    let renewing = Registry::builder(store.clone()).keyring(both).open().await.unwrap();
    let done = renewing.rekey(crate::resource::Actor::default(), |_, _| {}).await.unwrap();
    assert_eq!(done.left.values().sum::<usize>(), 1);
}

#[tokio::test]
async fn only_a_token_that_is_still_good_gets_one() {
    let (store, master) = (Arc::new(MemoryStore::new()), MasterKey::generate());
    let registry = open(&store, &master).await;
    let root = registry.root("test");
    let llm =
        json!({"name": "a", "type": "openai", "model": "m", "extraConfig": {"failoverLeaseSeconds": 60}});
    registry.create(&root, kinds::LLMS, llm.as_object().cloned().unwrap()).await.unwrap();
    let password = || SecretValue::new("a-long-enough-password".to_owned());
    registry.bootstrap("a@example.com", Some(password())).await.unwrap();
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let login = registry.login("a@example.com", password(), origin).await.unwrap();
    let who = registry.authenticate(login.token.expose(), None).unwrap();
    let llm = registry.snapshot().llm("a").cloned().unwrap();
    assert!(registry.lease(&root, &llm).is_none(), "nothing that it could be bound to");
    let lease = registry.lease(&who, &llm).unwrap();
    assert!(lease.is_sensitive());
    assert_eq!(registry.lease(&who, &llm).unwrap(), lease);
    let claims = registry.lease_keys().unwrap().verify(lease.to_str().unwrap()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.llm.as_str()), (login.user.id.as_str(), "a"));
    let acting = Principal { impersonator: Some("b@example.com".into()), ..who.clone() };
    assert!(registry.lease(&acting, &llm).is_none());
    // The session ends while a call is under way: its answer brings no lease, not even the one from before.
    registry.logout(&who).await.unwrap();
    assert!(registry.lease(&who, &llm).is_none());
}
