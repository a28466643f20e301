//! A local provider at work, against sockets.

use mcpctl_core::{
    ErrorKind,
    adapter::Api,
    failover::{LocalAnswer, LocalLlm, ProviderSettings},
};
use serde_json::{Value, json};
use tests::{Fault, Provider, provider::answer::text, sse::Chat, within};

use super::{
    providers,
    stub::{Conduct, StubServer},
};

fn local(ty: &str, url: &str) -> LocalLlm {
    let entry =
        json!({"name": "local", "type": ty, "model": "local-1", "url": url, "apiKey": "sk-of-the-local-one"});
    LocalLlm::new(ProviderSettings::read(&entry).unwrap()).unwrap()
}

fn asking(stream: bool) -> bytes::Bytes {
    json!({"model": "gpt", "messages": [{"role": "user", "content": "hello"}], "stream": stream, "max_tokens": 9})
        .to_string()
        .into()
}

async fn whole(mut answer: LocalAnswer) -> String {
    let mut whole = Vec::new();
    while let Some(bytes) = answer.body.next().await {
        whole.extend_from_slice(&bytes.unwrap());
    }
    String::from_utf8(whole).unwrap()
}

#[tokio::test]
async fn every_type_is_spoken_to_in_its_own_way() {
    for (ty, path, header) in [
        ("vllm", "/v1/chat/completions", "authorization"),
        ("ollama", "/v1/chat/completions", "authorization"),
        ("anthropic", "/v1/messages", "x-api-key"),
    ] {
        let provider = Provider::start().await;
        let local = local(ty, &provider.url());
        let answer = local.call(Api::ChatCompletions, asking(false)).await.unwrap();
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        let answer: Value = serde_json::from_str(&whole(answer).await).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], text(), "{ty}");
        let answer = local.call(Api::ChatCompletions, asking(true)).await.unwrap();
        assert_eq!((answer.status, answer.content_type), (200, "text/event-stream"));
        let chat = Chat::read(&whole(answer).await);
        chat.assert_finished();
        assert_eq!(chat.text(), text(), "{ty}");
        for request in provider.received() {
            assert_eq!((request.path.as_str(), &request.json()["model"]), (path, &json!("local-1")));
            assert!(request.header(header).unwrap().ends_with("sk-of-the-local-one"), "{ty}");
        }
    }
}

#[tokio::test]
async fn other_apis_are_translated_or_refused() {
    let provider = Provider::start().await;
    let local = local("vllm", &provider.url());
    let body = json!({"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]});
    let answer = local.call(Api::Messages, body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_str(&whole(answer).await).unwrap();
    assert_eq!(answer["content"][0]["text"], text());
    let error = local.call(Api::CountTokens, body.to_string().into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
    let error = local.call(Api::ChatCompletions, "{}".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "messages is required"));
}

#[tokio::test]
async fn a_failure_before_the_first_piece_is_an_error_and_after_it_an_event() {
    let provider = Provider::start().await;
    let local = local("vllm", &provider.url());
    for fault in [Fault::Status(500), Fault::Status(401), Fault::Html, Fault::Empty, Fault::Redirect] {
        provider.misbehave(fault);
        for stream in [false, true] {
            let error = local.call(Api::ChatCompletions, asking(stream)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider, "{fault:?}: {error}");
            let message = error.message();
            assert!(message.starts_with("local provider `local`: "), "{message}");
            assert!(!message.contains("sk-of-the-local-one"), "{message}");
        }
    }
    for fault in [Fault::Reset, Fault::Truncated, Fault::NoFinish] {
        provider.misbehave(fault);
        let answer = local.call(Api::ChatCompletions, asking(true)).await.unwrap();
        // Fails unless it ends in one `[DONE]`.
        let chat = Chat::read(&whole(answer).await);
        assert_eq!(chat.errors().len(), 1, "{fault:?}");
    }
    for fault in [Fault::NoDone, Fault::AfterDone, Fault::ByteByByte] {
        provider.misbehave(fault);
        let answer = local.call(Api::ChatCompletions, asking(true)).await.unwrap();
        Chat::read(&whole(answer).await).assert_finished();
    }
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_provider_s_work() {
    let provider = Provider::start().await;
    provider.misbehave(Fault::Endless);
    let mut answer = local("vllm", &provider.url()).call(Api::ChatCompletions, asking(true)).await.unwrap();
    assert!(answer.body.next().await.unwrap().is_ok());
    drop(answer);
    provider.hung_up().await;
}

#[tokio::test]
async fn silence_has_an_end() {
    let provider = Provider::start().await;
    let local = local("vllm", &provider.url()).with_silence(std::time::Duration::from_millis(50));
    provider.misbehave(Fault::Silent);
    let call = local.call(Api::ChatCompletions, asking(true));
    let error = within(tests::wait::SOON, "the end of a silent call", call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProviderTimeout);
    provider.misbehave(Fault::Stall);
    let answer = local.call(Api::ChatCompletions, asking(true)).await.unwrap();
    let chat = Chat::read(&within(tests::wait::SOON, "the end of a stalled stream", whole(answer)).await);
    assert_eq!(chat.errors().len(), 1);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_named() {
    let nobody = StubServer::start(Conduct::Refuses).await;
    let error = local("vllm", &nobody.url()).call(Api::ChatCompletions, asking(false)).await.unwrap_err();
    let expected = format!(
        "local provider `local`: cannot reach {}/v1/chat/completions: connection refused",
        nobody.url()
    );
    assert_eq!(error.message(), expected);
}

#[test]
fn two_stand_ins_for_one_llm_are_one_too_many() {
    let entry = |name: &str| json!({"name": name, "type": "vllm", "model": "m", "url": "http://127.0.0.1:1", "failoverFor": ["gpt", "b"]});
    let registry = providers(&json!([entry("a")]));
    assert_eq!(registry.mappings(), [("gpt".into(), "a".into()), ("b".into(), "a".into())]);
    let settings = ProviderSettings::list(&json!([entry("a"), entry("b")])).unwrap();
    let error = mcpctl_core::failover::registry_of(settings).unwrap_err();
    assert_eq!(error.message(), "failoverFor: both `a` and `b` would stand in for llm `gpt`");
}
