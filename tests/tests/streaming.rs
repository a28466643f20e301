//! Streamed calls: good ones in every shape they can arrive in, and broken ones.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Api, Fault, Provider, Server, eventually,
    provider::{answer, refusing_url},
    sse::{Chat, events},
    within,
};

const TYPES: [&str; 2] = ["openai", "anthropic"];

fn ask(model: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hello"}]})
}

async fn with_llms() -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for ty in TYPES {
        admin.create_llm(ty, ty, &provider).await;
    }
    (server, admin, provider)
}

#[tokio::test]
async fn a_stream_is_a_stream_of_chunks() {
    let (_server, admin, provider) = with_llms().await;
    for ty in TYPES {
        for path in [format!("/api/v1/llms/{ty}/infer"), "/v1/chat/completions".to_owned()] {
            let reply = admin.post(&path, &ask(ty)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!(reply.header("content-type").starts_with("text/event-stream"));
            assert_eq!(
                (reply.header("cache-control"), reply.header("x-accel-buffering")),
                ("no-cache", "no")
            );
            let chat = Chat::read(&reply.text());
            chat.assert_finished();
            assert_eq!((chat.text(), chat.finish_reasons()), (answer::text(), vec!["stop"]), "{ty}");
            let first = &chat.frames[0];
            assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
            for frame in &chat.frames {
                assert_eq!(frame["object"], "chat.completion.chunk");
                for name in ["id", "created", "model"] {
                    assert!(!frame[name].is_null() && frame[name] == first[name], "{name} in {frame}");
                }
            }
            assert_eq!(provider.last().json()["stream"], true);
        }
    }
}

#[tokio::test]
async fn usage_comes_when_it_is_asked_for() {
    let (_server, admin, _provider) = with_llms().await;
    for ty in TYPES {
        let mut body = ask(ty);
        assert!(
            Chat::read(&admin.infer(ty, &body).await.text())
                .frames
                .iter()
                .all(|frame| frame["usage"].is_null())
        );
        body["stream_options"] = json!({"include_usage": true});
        let chat = Chat::read(&admin.infer(ty, &body).await.text());
        chat.assert_finished();
        let last = chat.frames.last().unwrap();
        assert_eq!(last["choices"], json!([]), "{ty}");
        assert_eq!(last["usage"]["prompt_tokens"], 9, "{ty}: {last}");
        assert_eq!(
            (&last["usage"]["completion_tokens"], &last["usage"]["total_tokens"]),
            (&json!(5), &json!(14))
        );
    }
}

#[tokio::test]
async fn any_way_of_writing_the_same_stream_is_the_same_stream() {
    let (_server, admin, provider) = with_llms().await;
    let same = [Fault::CrLf, Fault::Cr, Fault::MixedLines, Fault::HalfCodePoints, Fault::ByteByByte];
    for ty in TYPES {
        for fault in same {
            provider.misbehave(fault);
            let reply = admin.infer(ty, &ask(ty)).await;
            // A passthrough may keep the provider's line ends and comments: read it as any client would.
            let unified = reply.text().replace("\r\n", "\n").replace('\r', "\n");
            let plain: String = unified.split_inclusive('\n').filter(|line| !line.starts_with(':')).collect();
            let chat = Chat::read(&plain);
            chat.assert_finished();
            assert_eq!(chat.text(), answer::text(), "{ty} {fault}");
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_mark_gets_one() {
    let (_server, admin, provider) = with_llms().await;
    provider.misbehave(Fault::NoDone);
    let chat = Chat::read(&admin.infer("openai", &ask("openai")).await.text());
    chat.assert_finished();
    assert_eq!(chat.text(), answer::text());
    // Anthropic says when it is done: without that, the answer was cut off.
    let reply = admin.infer("anthropic", &ask("anthropic")).await.text();
    let chat = Chat::read(&reply);
    assert_eq!(chat.errors().len(), 1, "{reply}");
}

#[tokio::test]
async fn nothing_comes_after_the_end() {
    let (_server, admin, provider) = with_llms().await;
    provider.misbehave(Fault::AfterDone);
    for ty in TYPES {
        let reply = admin.infer(ty, &ask(ty)).await.text();
        assert!(!reply.contains("LATE"), "{ty}: {reply}");
        Chat::read(&reply).assert_finished();
    }
}

#[tokio::test]
async fn a_broken_stream_is_one_error_and_one_end() {
    let (_server, admin, provider) = with_llms().await;
    for ty in TYPES {
        for fault in [Fault::NoFinish, Fault::Truncated, Fault::Reset, Fault::ErrorFrame] {
            provider.misbehave(fault);
            for path in [format!("/api/v1/llms/{ty}/infer"), "/v1/chat/completions".to_owned()] {
                let reply = admin.post(&path, &ask(ty)).await;
                assert_eq!(reply.status, 200, "{ty} {fault}: it had begun");
                let chat = Chat::read(&reply.text());
                chat.assert_broken();
                assert_eq!(chat.text(), answer::text(), "{ty} {fault}: what came before the break is there");
            }
        }
    }
}

#[tokio::test]
async fn before_the_first_byte_it_is_an_http_error() {
    let (_server, admin, provider) = with_llms().await;
    admin.create_llm_at("refusing", "openai", &refusing_url(), json!({})).await;
    let refused = admin.infer("refusing", &ask("refusing")).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert!(refused.text().contains("refusing"), "it names the Llm: {}", refused.text());
    for ty in TYPES {
        for (fault, status) in [
            (Fault::Status(400), 400),
            (Fault::Status(401), 502),
            (Fault::Status(429), 429),
            (Fault::Status(500), 500),
            (Fault::Html, 502),
            (Fault::NotJson, 502),
            (Fault::Empty, 502),
            (Fault::Redirect, 502),
            (Fault::Compressed, 502),
        ] {
            provider.misbehave(fault);
            let reply = admin.infer(ty, &ask(ty)).await;
            assert_eq!(reply.status, status, "{ty} {fault}: {}", reply.text());
            assert!(reply.header("content-type").starts_with("application/json"), "{ty} {fault}");
            assert!(!reply.json()["error"].is_null(), "{ty} {fault}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_line_of_ten_mebibytes_harms_nobody() {
    let (server, admin, provider) = with_llms().await;
    provider.misbehave(Fault::LongLine);
    for ty in TYPES {
        let reply = admin.infer(ty, &ask(ty)).await;
        let chat = Chat::read(&reply.text());
        if chat.errors().is_empty() {
            chat.assert_finished();
            assert!(chat.text().len() > 10 << 20);
        } else {
            chat.assert_broken();
        }
    }
    assert!(server.is_running());
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let (server, admin, provider) = with_llms().await;
    provider.misbehave(Fault::EndlessLine);
    for ty in TYPES {
        let reply = admin.infer(ty, &ask(ty)).await;
        let body = reply.text();
        assert!(body.ends_with("data: [DONE]\n\n"), "{ty}: it ends, with its mark");
        assert_eq!(body.matches("\"error\":").count(), 1, "{ty}: with one error frame");
        assert!(body.len() < 128 << 20, "{ty}: after {} bytes", body.len());
    }
    assert!(provider.flooded() < 512 << 20, "{} bytes were taken", provider.flooded());
    assert!(server.is_running());
}

#[tokio::test]
async fn chunks_arrive_as_they_are_made() {
    let (_server, admin, provider) = with_llms().await;
    provider.misbehave(Fault::Endless);
    for ty in TYPES {
        let mut stream = admin.stream(&format!("/api/v1/llms/{ty}/infer"), &ask(ty)).await;
        within(Duration::from_secs(5), "the first text of an endless answer", stream.until("from the stub"))
            .await;
    }
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_provider_along() {
    for ty in TYPES {
        let (server, provider) = (Server::start().await, Provider::start().await);
        let admin = server.login_admin().await;
        admin.create_llm(ty, ty, &provider).await;
        provider.misbehave(Fault::Endless);
        let mut stream = admin.stream(&format!("/api/v1/llms/{ty}/infer"), &ask(ty)).await;
        stream.until("from the stub").await;
        let left = Instant::now();
        drop(stream);
        let closed = provider.hung_up().await;
        let late = closed.saturating_duration_since(left);
        // The stub writes every 20 ms and sees the end of its connection at once; the rest is the server's time.
        assert!(late < Duration::from_millis(250), "{ty}: the provider's connection closed after {late:?}");
        let event = eventually("the audit event of the call", async || call(&admin).await).await;
        assert_eq!((&event["status"], &event["streaming"]), (&json!(499), &json!(true)), "{ty}: {event}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_first_byte_takes_the_provider_along() {
    for stream in [true, false] {
        let (server, provider) = (Server::start().await, Provider::start().await);
        let admin = server.login_admin().await;
        admin.create_llm("gpt", "openai", &provider).await;
        provider.misbehave(Fault::Silent);
        let mut body = ask("gpt");
        body["stream"] = stream.into();
        let asking = tokio::spawn({
            let admin = admin.clone();
            async move { admin.infer("gpt", &body).await }
        });
        provider.next_after(0).await;
        let left = Instant::now();
        asking.abort();
        let late = provider.hung_up().await.saturating_duration_since(left);
        assert!(late < Duration::from_millis(250), "stream: {stream}: closed after {late:?}");
        let event = eventually("the audit event of the call", async || call(&admin).await).await;
        assert_eq!(event["status"], 499, "{event}");
    }
}

/// The newest audit event of a call.
async fn call(admin: &Api) -> Option<Value> {
    let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call&limit=1").await.expect(200);
    events["items"].get(0).cloned()
}

#[tokio::test]
async fn a_stream_that_stalls_ends_at_its_deadline() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for ty in TYPES {
        admin.create_llm_at(ty, ty, &provider.url(), json!({"timeoutMs": 700})).await;
        provider.misbehave(Fault::Stall);
        let began = Instant::now();
        let reply = admin.infer(ty, &ask(ty)).await;
        assert!(began.elapsed() < Duration::from_secs(8), "{ty}: {:?}", began.elapsed());
        Chat::read(&reply.text()).assert_broken();
    }
}

/// How many bytes the provider got rid of, once it gets rid of no more.
async fn settled(provider: &Provider) -> usize {
    let mut before = 0;
    eventually("a reader who stops stops the provider", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = provider.flooded();
        let stopped = now > 0 && now == before;
        before = now;
        stopped.then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_reader_who_stops_stops_the_provider_and_nobody_else() {
    for ty in TYPES {
        let (_server, admin, provider) = with_llms().await;
        provider.misbehave(Fault::Flood);
        let mut idle = admin.stream(&format!("/api/v1/llms/{ty}/infer"), &ask(ty)).await;
        idle.until("from the stub").await;
        // What the sockets on both sides hold, and no more: without an end to it, this would be the whole memory.
        let held = settled(&provider).await;
        assert!(held < 64 << 20, "{ty}: {held} bytes taken for a reader who does not read");
        provider.misbehave(None);
        let reply = admin.infer(ty, &ask(ty)).await;
        assert_eq!(events(&reply.text()).last().map(String::as_str), Some("[DONE]"));
        for _ in 0..10_000 {
            if provider.flooded() > held {
                break;
            }
            idle.next().await;
        }
        assert!(provider.flooded() > held, "{ty}: reading on lets the provider go on");
        let left = Instant::now();
        drop(idle);
        let late = provider.hung_up().await.saturating_duration_since(left);
        assert!(late < Duration::from_millis(500), "{ty}: closed after {late:?}");
    }
}
