//! Keys in memory: used for as long as they may be, renewed before that ends, and forgotten at once when they must be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tests::{Api, OpenBao, Provider, Server, eventually, eventually_within, server::unique};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

use super::secret_in;

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "x"}]})
}

/// An Llm `a` whose key is `k` of Secret `s`, in a backend `bao` that values may be kept of for so long.
async fn with_llm(bao: &OpenBao, seconds: u64) -> (Server, Api, Provider, String) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let prefix = unique("prefix");
    bao.backend(&admin, "bao", &prefix, &bao.root).await;
    let settings = json!({"config": {"cacheSeconds": seconds, "timeoutMs": 1000}});
    admin.patch("/api/v1/secretbackends/bao", &settings).await.expect(200);
    secret_in(&server, &admin, "bao", "s", &json!({"k": unique("sk-first")})).await;
    let llm = json!({"name": "a", "type": "openai", "model": "m", "url": provider.url(), "apiKeyRef": {"name": "s", "key": "k"}});
    admin.create("llms", &llm).await;
    admin.infer("a", &ask()).await.expect(200);
    (server, admin, provider, prefix)
}

async fn calls_with(admin: &Api, provider: &Provider, key: &str) {
    let expected = format!("Bearer {key}");
    let used = async || {
        admin.infer("a", &ask()).await.expect(200);
        (provider.last().header("authorization") == Some(expected.as_str())).then_some(())
    };
    eventually("the new key is used", used).await;
}

#[tokio::test]
async fn a_key_that_is_rotated_in_openbao_counts_within_its_lifetime() {
    let Some(bao) = OpenBao::shared().await else { return };
    let (server, admin, provider, prefix) = with_llm(bao, 1).await;
    for _ in 0..3 {
        let key = unique("sk-rotated");
        server.canary.keep_secret("a rotated key", &key);
        bao.write("secret", &format!("{prefix}/s"), &json!({"k": key})).await;
        let began = Instant::now();
        calls_with(&admin, &provider, &key).await;
        // Twice the lifetime: this machine may be busy.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_key_that_is_changed_through_us_counts_at_once() {
    let Some(bao) = OpenBao::shared().await else { return };
    let (server, admin, provider, _) = with_llm(bao, 86_400).await;
    let key = unique("sk-changed");
    server.canary.keep_secret("a changed key", &key);
    admin.put("/api/v1/secrets/s", &json!({"data": {"k": key}})).await.expect(200);
    admin.infer("a", &ask()).await.expect(200);
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {key}").as_str()));
}

#[tokio::test]
async fn a_key_that_may_not_be_read_any_more_is_forgotten() {
    let Some(bao) = OpenBao::shared().await else { return };
    let (_server, admin, _provider, prefix) = with_llm(bao, 2).await;
    bao.expect("DELETE", &format!("secret/data/{prefix}/s"), &Value::Null).await;
    let refused = async || {
        let reply = admin.infer("a", &ask()).await;
        (reply.status == 500).then(|| reply.text())
    };
    let refused = eventually("the key is forgotten", refused).await;
    assert!(refused.contains("Failed to resolve API key: ") && refused.contains("404"), "{refused}");
    bao.write("secret", &format!("{prefix}/s"), &json!({"k": "sk-back-again"})).await;
    let works = async || (admin.infer("a", &ask()).await.status == 200).then_some(());
    eventually("it is found again", works).await;
}

#[tokio::test]
async fn calls_go_on_without_openbao_for_as_long_as_keys_may_be_used() {
    let Some(bao) = OpenBao::start_durable().await else { return };
    let (_server, admin, _provider, _) = with_llm(&bao, 4).await;
    bao.stop();
    let stopped = Instant::now();
    let mut fine = 0;
    let refused = loop {
        let reply = admin.infer("a", &ask()).await;
        if reply.status != 200 {
            assert_eq!(reply.status, 500, "{}", reply.text());
            break reply.text();
        }
        fine += 1;
        assert!(stopped.elapsed() < Duration::from_secs(8), "used beyond its lifetime");
        sleep(Duration::from_millis(5)).await;
    };
    // It was renewed when half of its lifetime had passed at the latest.
    assert!(
        stopped.elapsed() > Duration::from_millis(1500) && fine > 10,
        "{fine} in {:?}",
        stopped.elapsed()
    );
    assert!(refused.contains("Failed to resolve API key: ") && refused.contains("`bao`"), "{refused}");
    assert!(refused.contains("cannot be reached"), "{refused}");
    bao.start_again().await;
    let works = async || (admin.infer("a", &ask()).await.status == 200).then_some(());
    eventually_within(Duration::from_secs(10), "it works again without a restart", works).await;
}

/// Answers as OpenBao does, but slowly, and counts.
async fn slow_stub(delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                let length = stream.read(&mut buffer).await.unwrap();
                if buffer[..length].starts_with(b"GET") {
                    count.fetch_add(1, Ordering::Relaxed);
                    sleep(delay).await;
                }
                let body = r#"{"data": {"version": 1, "data": {"k": "sk-of-the-stub"}, "metadata": {"version": 1}}}"#;
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            });
        }
    });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_read_once_for_all_who_want_it_and_ahead_of_them() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let (url, asked) = slow_stub(Duration::from_millis(300)).await;
    admin.create_secret("t", &json!({"token": unique("token")})).await;
    let config = json!({"url": url, "cacheSeconds": 2, "tokenRef": {"name": "t", "key": "token"}});
    admin.create("secretbackends", &json!({"name": "bao", "type": "openbao", "config": config})).await;
    admin.create("secrets", &json!({"name": "s", "backend": "bao", "data": {"k": "sk-of-the-stub"}})).await;
    for number in 0..20 {
        let llm = json!({"name": format!("a{number}"), "type": "openai", "model": "m", "url": provider.url(),
                         "apiKeyRef": {"name": "s", "key": "k"}});
        admin.create("llms", &llm).await;
    }
    let (before, began) = (asked.load(Ordering::Relaxed), Instant::now());
    let mut slowest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(5) {
        let sent = Instant::now();
        let calls = (0..20).map(|number| {
            let admin = admin.clone();
            tokio::spawn(async move { admin.infer(&format!("a{number}"), &ask()).await.status })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap(), 200);
        }
        slowest = slowest.max(sent.elapsed());
    }
    let reads = asked.load(Ordering::Relaxed) - before;
    // Every second or so, for all twenty.
    assert!((2..=8).contains(&reads), "{reads} reads in 5 s");
    println!("the slowest of the rounds took {slowest:?}");
}
