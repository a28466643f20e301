//! Providers that fail plain calls: the contract's status, a message that names the Llm, never a hang.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Api, Fault, Provider, Reply, Server, provider::refusing_url, within};

const TYPES: [&str; 2] = ["openai", "anthropic"];

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

async fn with_llms(extra: Value) -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for ty in TYPES {
        admin.create_llm_at(ty, ty, &provider.url(), extra.clone()).await;
    }
    (server, admin, provider)
}

/// Asks over both routes; both must say `status`, in OpenAI's form.
async fn both(admin: &Api, llm: &str, status: u16) -> [Reply; 2] {
    let replies = [admin.infer(llm, &ask(llm)).await, admin.post("/v1/chat/completions", &ask(llm)).await];
    for reply in &replies {
        assert_eq!(reply.status, status, "{llm} at {}: {}", reply.asked, reply.text());
        assert!(!reply.json()["error"].is_null(), "{}: {}", reply.asked, reply.text());
    }
    replies
}

#[tokio::test]
async fn the_providers_status_comes_back_without_its_secrets() {
    let (_server, admin, provider) = with_llms(json!({})).await;
    // The key that the stub reflects is a canary: were it in any answer, log or row, this test would fail.
    for ty in TYPES {
        for (fault, status) in [
            (400, 400),
            (404, 404),
            (413, 413),
            (422, 422),
            (401, 502),
            (403, 502),
            (429, 429),
            (500, 500),
            (502, 502),
            (503, 503),
            (504, 504),
            (529, 503),
        ] {
            provider.misbehave(Fault::Status(fault));
            for reply in both(&admin, ty, status).await {
                if [401, 403].contains(&fault) {
                    assert!(
                        reply.text().contains("provider refused the server's credentials"),
                        "{}",
                        reply.text()
                    );
                }
                if fault == 429 {
                    assert_eq!(reply.header("retry-after"), "7");
                }
                assert!(!reply.text().contains("sk-provider-key"), "{}", reply.text());
            }
        }
    }
}

#[tokio::test]
async fn a_providers_error_keeps_its_meaning() {
    let (_server, admin, provider) = with_llms(json!({})).await;
    provider.misbehave(Fault::Status(404));
    let reply = admin.post("/v1/chat/completions", &ask("openai")).await;
    assert_eq!(reply.json()["error"]["code"], "stub_404");
    for ty in TYPES {
        let reply = admin.post("/v1/chat/completions", &ask(ty)).await;
        assert!(reply.openai_error(404).contains("stub refuses"), "{}", reply.text());
        assert_eq!(reply.json()["error"]["type"], "stub_error");
    }
}

#[tokio::test]
async fn rubbish_is_a_502_that_names_the_llm() {
    let (_server, admin, provider) = with_llms(json!({})).await;
    for ty in TYPES {
        for fault in
            [Fault::Html, Fault::NotJson, Fault::Empty, Fault::Truncated, Fault::Reset, Fault::Compressed]
        {
            provider.misbehave(fault);
            for reply in both(&admin, ty, 502).await {
                assert!(reply.text().contains(ty), "{ty} {fault}: it names the Llm: {}", reply.text());
                assert!(!reply.text().contains("doctype"), "{fault}: {}", reply.text());
            }
        }
    }
}

#[tokio::test]
async fn nobody_there_is_a_502() {
    let (_server, admin, _provider) = with_llms(json!({})).await;
    for ty in TYPES {
        let name = format!("nobody-{ty}");
        admin.create_llm_at(&name, ty, &refusing_url(), json!({})).await;
        for reply in both(&admin, &name, 502).await {
            assert!(reply.text().contains(&name), "{}", reply.text());
        }
        let name = format!("nameless-{ty}");
        admin.create_llm_at(&name, ty, "http://no-such-host.invalid:9", json!({})).await;
        both(&admin, &name, 502).await;
        let name = format!("no-tls-{ty}");
        admin.create_llm_at(&name, ty, &refusing_url().replace("http:", "https:"), json!({})).await;
        both(&admin, &name, 502).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (_server, admin, provider) = with_llms(json!({})).await;
    let target = Provider::start().await;
    provider.redirect_to(format!("{}/v1/chat/completions", target.url()));
    provider.misbehave(Fault::Redirect);
    for ty in TYPES {
        for reply in both(&admin, ty, 502).await {
            assert_eq!(reply.header("location"), "");
            assert!(!reply.text().contains(&target.url()), "{}", reply.text());
        }
    }
    assert!(target.received().is_empty(), "the redirect's target was asked");
}

#[tokio::test]
async fn silence_is_a_504_at_the_deadline() {
    let (_server, admin, provider) = with_llms(json!({"timeoutMs": 500})).await;
    for ty in TYPES {
        for fault in [Fault::Silent, Fault::Stall] {
            provider.misbehave(fault);
            let began = Instant::now();
            let reply = admin.infer(ty, &ask(ty)).await;
            assert_eq!(reply.status, 504, "{ty} {fault}: {}", reply.text());
            assert!(reply.text().contains(ty), "{}", reply.text());
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(400) && took < Duration::from_secs(8),
                "{ty} {fault}: {took:?}"
            );
        }
    }
    within(Duration::from_secs(10), "the provider's connection closes", provider.hung_up()).await;
}

#[tokio::test]
async fn a_slow_writer_is_no_fault() {
    let (_server, admin, provider) = with_llms(json!({})).await;
    for ty in TYPES {
        provider.misbehave(Fault::ByteByByte);
        admin.infer(ty, &ask(ty)).await.expect(200);
    }
}

#[tokio::test]
async fn after_every_fault_the_next_call_is_fine() {
    let (_server, admin, provider) = with_llms(json!({"timeoutMs": 300})).await;
    let faults =
        [Fault::Reset, Fault::Truncated, Fault::Silent, Fault::Empty, Fault::Status(500), Fault::Html];
    for fault in faults {
        provider.misbehave(fault);
        assert!(admin.infer("openai", &ask("openai")).await.status >= 400);
        provider.misbehave(None);
        admin.infer("openai", &ask("openai")).await.expect(200);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let (server, admin, provider) = with_llms(json!({})).await;
    provider.misbehave(Fault::Flood);
    for ty in TYPES {
        let reply = admin.infer(ty, &ask(ty)).await;
        assert_eq!(reply.status, 502, "{ty}: {}", reply.text());
        assert!(reply.text().contains(ty), "{}", reply.text());
    }
    assert!(provider.flooded() < 256 << 20, "{} bytes were taken", provider.flooded());
    provider.hung_up().await;
    assert!(server.is_running());
}
