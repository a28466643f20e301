//! What a lease is worth, and when.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use super::*;
use crate::{
    client::Token,
    failover::{FileLeases, MemoryLeases},
    lease::{SigningKey, token_fingerprint},
};

const START: i64 = 1_800_000_000;
const SOON: Duration = Duration::from_secs(5);

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Hands(Arc<(AtomicI64, AtomicU64)>);

impl Hands {
    fn at(wall: i64) -> Self {
        let hands = Self::default();
        hands.0.0.store(wall, SeqCst);
        hands
    }

    /// Time goes by.
    fn pass(&self, seconds: u32) {
        self.0.0.fetch_add(seconds.into(), SeqCst);
        self.0.1.fetch_add(seconds.into(), SeqCst);
    }

    /// Somebody sets the clock.
    fn set(&self, by: i64) {
        self.0.0.fetch_add(by, SeqCst);
    }
}

impl Clock for Hands {
    fn wall(&self) -> i64 {
        self.0.0.load(SeqCst)
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(self.0.1.load(SeqCst))
    }
}

fn client() -> Client {
    // Nobody listens there: what is not known is never learnt.
    Client::new("http://127.0.0.1:1", Some(Token::new("t0p"))).unwrap()
}

fn claims(llm: &str, token: &str, seconds: i64) -> Claims {
    let (llm, cnf) = (llm.to_owned(), token_fingerprint(token));
    Claims { sub: "u1".into(), llm, iat: START, exp: START + seconds, cnf }
}

fn store(key: &SigningKey, leases: &[(&str, String)]) -> Arc<MemoryLeases> {
    let store = MemoryLeases::default();
    let kept = |kept: &mut Kept| {
        kept.keys = key.public().to_jwks();
        kept.leases = leases.iter().map(|(llm, text)| ((*llm).to_owned(), text.clone())).collect();
    };
    store.update("http://127.0.0.1:1", &mut { kept }).unwrap();
    Arc::new(store)
}

fn book(store: &Arc<MemoryLeases>, hands: &Hands) -> LeaseBook {
    LeaseBook::with_clock(&client(), store.clone(), Box::new(hands.clone()))
}

fn judge(book: &LeaseBook) -> Result<(), &'static str> {
    book.judge("gpt", &token_fingerprint("t0p"))
}

#[tokio::test]
async fn a_lease_counts_for_its_token_its_llm_and_its_time() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let store = store(&key, &[("gpt", key.sign(&claims("gpt", "t0p", 100)))]);
    let book = book(&store, &hands);
    assert_eq!(judge(&book), Ok(()));
    assert_eq!(book.judge("gpt", &token_fingerprint("other")), Err("its lease is for another token"));
    assert_eq!(book.judge("gpt-4", &token_fingerprint("t0p")), Err("no lease is held for this llm"));
    hands.pass(99);
    assert_eq!(judge(&book), Ok(()));
    hands.pass(1);
    assert_eq!(judge(&book), Err("its lease has expired"));
}

#[tokio::test]
async fn what_another_key_signed_or_says_something_else_is_refused() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let other = SigningKey::generate().unwrap();
    let good = key.sign(&claims("gpt", "t0p", 100));
    for (text, expected) in [
        (other.sign(&claims("gpt", "t0p", 100)), "its lease is signed by a key that is not known"),
        (good.replace('.', "x."), "its lease is not the server's"),
        (key.sign(&claims("gpt-4", "t0p", 100)), "its lease is for another llm"),
        (
            key.sign(&Claims { iat: START + 61, ..claims("gpt", "t0p", 100) }),
            "its lease begins in the future",
        ),
    ] {
        let book = book(&store(&key, &[("gpt", text)]), &hands);
        assert_eq!(judge(&book), Err(expected));
    }
}

#[tokio::test]
async fn setting_the_clock_back_prolongs_nothing() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let store = store(&key, &[("gpt", key.sign(&claims("gpt", "t0p", 100)))]);
    let first = book(&store, &hands);
    hands.pass(70);
    assert_eq!(judge(&first), Ok(()));
    // A little, as a clock that is corrected: it is as late as it was.
    hands.set(-50);
    hands.pass(29);
    assert_eq!(judge(&first), Ok(()));
    hands.pass(1);
    assert_eq!(judge(&first), Err("its lease has expired"));
    first.settle(SOON).await;
    // The next run of the program knows how late it was.
    hands.set(-61);
    let second = book(&store, &hands);
    assert_eq!(judge(&second), Err("this machine's clock was set back"));
    let third = book(&store, &Hands::at(START + 69));
    assert_eq!(judge(&third), Ok(()), "70 seconds had gone by when it was last known");
    let fourth = book(&store, &Hands::at(START + 100));
    assert_eq!(judge(&fourth), Err("its lease has expired"));
    fourth.settle(SOON).await;
    let fifth = book(&store, &Hands::at(START + 41));
    assert_eq!(judge(&fifth), Err("its lease has expired"), "a minute back is as late as it was");
    assert_eq!(judge(&fifth), judge(&fourth));
}

#[tokio::test]
async fn leases_are_taken_from_answers_and_kept() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let store = store(&key, &[]);
    let book = book(&store, &hands);
    let mut headers = HeaderMap::new();
    let text = key.sign(&claims("gpt", "t0p", 100));
    headers.insert(lease::HEADER, text.parse().unwrap());
    book.observer().answered(&headers);
    book.settle(SOON).await;
    assert_eq!(judge(&book), Ok(()));
    assert_eq!(store.load("http://127.0.0.1:1").unwrap().leases["gpt"], text);
    // One that gains next to nothing is not worth a write, one that does is.
    for (seconds, expected) in [(105, &text), (200, &key.sign(&claims("gpt", "t0p", 200)))] {
        headers.insert(lease::HEADER, key.sign(&claims("gpt", "t0p", seconds)).parse().unwrap());
        book.observer().answered(&headers);
        book.settle(SOON).await;
        assert_eq!(&store.load("http://127.0.0.1:1").unwrap().leases["gpt"], expected, "{seconds}");
    }
    book.forget("gpt");
    book.settle(SOON).await;
    assert_eq!(judge(&book), Err("no lease is held for this llm"));
    assert!(store.load("http://127.0.0.1:1").unwrap().leases.is_empty());
}

#[tokio::test]
async fn an_unknown_key_that_cannot_be_had_leaves_nothing() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let book = book(&Arc::new(MemoryLeases::default()), &hands);
    book.take(&key.sign(&claims("gpt", "t0p", 100)));
    book.settle(SOON).await;
    assert_eq!(judge(&book), Err("no lease is held for this llm"));
}

#[tokio::test]
async fn what_was_taken_before_the_server_said_no_is_not_filed_after() {
    let (key, hands) = (SigningKey::generate().unwrap(), Hands::at(START));
    let book = book(&store(&key, &[]), &hands);
    let text = key.sign(&claims("gpt", "t0p", 100));
    book.take(&text);
    book.forget("gpt");
    book.settle(SOON).await;
    // Nor is what the background had taken up already.
    book.0.file(vec![text.clone()], 0);
    assert_eq!(judge(&book), Err("no lease is held for this llm"));
    book.0.file(vec![text], 1);
    assert_eq!(judge(&book), Ok(()));
}

#[test]
fn the_file_is_private_replaced_as_a_whole_and_survives_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inner").join("leases.json");
    let store = FileLeases::at(&path);
    assert!(store.load("a").unwrap() == Kept::default());
    store.update("a", &mut |kept| kept.latest = 1).unwrap();
    store.update("b", &mut |kept| drop(kept.leases.insert("gpt".into(), "x".into()))).unwrap();
    assert_eq!((store.load("a").unwrap().latest, store.load("b").unwrap().latest), (1, 0));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(&path, "{").unwrap();
    assert!(store.load("a").is_err());
    store.update("a", &mut |kept| kept.latest = 2).unwrap();
    assert_eq!((store.load("a").unwrap().latest, store.load("b").unwrap().latest), (2, 0));
}
