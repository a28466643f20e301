//! Failover with the real server, and through the command line.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use mcpctl_core::{
    ErrorKind,
    client::{Client, Token},
    failover::{Decision, FailoverClient, FileLeases, LeaseBook, MemoryLeases},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Api, Fault, Provider, Server,
    provider::answer::text,
    server::binary,
    wait::{SOON, eventually_within},
};

use super::{providers, question};

/// Long enough for a call on a busy machine, short enough to wait for its end; and longer than any test.
const SHORT: u64 = 5;
const LONG: u64 = 600;

struct World {
    server: Server,
    admin: Api,
    /// The provider of the server's Llms, and the local one.
    remote: Provider,
    local: Provider,
}

impl World {
    /// `gpt` gives leases for so many seconds, `plain` gives none.
    async fn make(lease: u64) -> Self {
        let (server, remote, local) =
            (Server::start().await, Provider::start().await, Provider::start().await);
        let admin = server.login_admin().await;
        let leases = json!({"failoverLeaseSeconds": lease});
        admin.create_llm_at("gpt", "openai", &remote.url(), leases).await;
        admin.create_llm_at("plain", "openai", &remote.url(), json!({})).await;
        Self { server, admin, remote, local }
    }

    fn client(&self, who: &Api, leases: Option<LeaseBook>) -> FailoverClient {
        let entry = self.entry();
        FailoverClient::new(&self.plain_client(who), providers(&json!([entry])), leases)
    }

    fn plain_client(&self, who: &Api) -> Client {
        Client::new(&self.server.url(), Some(Token::new(who.token()))).unwrap()
    }

    fn entry(&self) -> Value {
        json!({"name": "local", "type": "vllm", "model": "local-1", "url": self.local.url(),
               "failoverFor": ["gpt", "plain"]})
    }

    fn book(&self, who: &Api) -> LeaseBook {
        LeaseBook::open(&self.plain_client(who), Arc::new(MemoryLeases::default()))
    }
}

fn chat(home: &Path, token: &str, llm: &str) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(binary("mcpctl")).args(["chat", llm, "hi"]);
    command.env("MCPCTL_HOME", home).env("MCPCTL_TOKEN", token).stdin(Stdio::null()).output().unwrap()
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn a_provider_that_is_down_is_stood_in_for_while_the_server_consents() {
    let world = World::make(LONG).await;
    let client = world.client(&world.admin, None);
    assert!(!client.infer("plain", &question("hi")).await.unwrap().failover);
    world.remote.misbehave(Fault::Status(503));
    let routed = client.infer("plain", &question("hi")).await.unwrap();
    assert_eq!((routed.failover, routed.via.as_deref()), (true, Some("local")));
    assert_eq!((routed.decision, content(&routed.value)), (Decision::FailedOver, text().as_str()));
    let mut routed = client.infer_stream("plain", &question("hi")).await.unwrap();
    let mut streamed = String::new();
    while let Some(chunk) = routed.value.next().await {
        streamed.push_str(chunk.unwrap()["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!((routed.failover, streamed), (true, text()));
    for request in world.local.received() {
        assert_eq!(request.json()["model"], "local-1");
        assert!(!request.text().contains(world.admin.token()), "the token went to the local provider");
    }
    assert_eq!(world.local.received().len(), 2);
    // A refusal of the provider is an answer.
    world.remote.misbehave(Fault::Status(429));
    let not = client.infer("plain", &question("hi")).await.unwrap_err();
    assert_eq!((not.error.kind(), not.decision), (ErrorKind::RateLimited, Decision::Refused));
    assert_eq!(world.local.received().len(), 2);
}

#[tokio::test]
async fn a_binding_that_is_gone_ends_failover_and_its_lease() {
    let mut world = World::make(LONG).await;
    let (email, password) = ("ann@example.com", "a password of ann's");
    world.admin.create_user(email, password).await;
    for action in ["run", "view"] {
        let binding = json!({"name": format!("ann-{action}"), "subjects": [{"kind": "User", "name": email}],
                             "roleBindings": [{"role": action, "resource": "llms"}]});
        world.admin.create("rbac", &binding).await;
    }
    let ann = world.server.client().login(email, password).await;
    let book = world.book(&ann);
    let client = world.client(&ann, Some(book.clone()));
    world.remote.misbehave(Fault::Status(500));
    let routed = client.infer("gpt", &question("hi")).await.unwrap();
    assert_eq!(routed.decision, Decision::FailedOver);
    // The server's consent brought a lease.
    book.settle(SOON).await;
    let fingerprint = mcpctl_core::lease::token_fingerprint(ann.token());
    assert_eq!(book.judge("gpt", &fingerprint), Ok(()));
    world.admin.delete("/api/v1/rbac/ann-view").await.expect(204);
    let not = client.infer("gpt", &question("hi")).await.unwrap_err();
    assert_eq!(not.decision, Decision::Forbidden);
    world.server.kill9();
    let not = client.infer("gpt", &question("hi")).await.unwrap_err();
    assert_eq!(not.error.kind(), ErrorKind::Unavailable);
    let Decision::Unreachable(why) = not.decision else { panic!("{:?}", not.decision) };
    assert!(why.ends_with("no lease is held for this llm"), "{why}");
    assert_eq!(world.local.received().len(), 1);
}

#[tokio::test]
async fn a_server_that_dies_is_stood_in_for_while_a_lease_lasts() {
    let mut world = World::make(SHORT).await;
    let folder = TempDir::new().unwrap();
    let open = |world: &World| {
        let store = Arc::new(FileLeases::at(folder.path().join("leases.json")));
        LeaseBook::open(&world.plain_client(&world.admin), store)
    };
    let book = open(&world);
    let client = world.client(&world.admin, Some(book.clone()));
    for llm in ["gpt", "plain"] {
        assert!(!client.infer(llm, &question("hi")).await.unwrap().failover);
    }
    book.settle(SOON).await;
    world.server.kill9();
    let routed = client.infer("gpt", &question("hi")).await.unwrap();
    assert_eq!((routed.decision, content(&routed.value)), (Decision::Leased, text().as_str()));
    // Without one it fails closed, with the error that the server's absence is by itself.
    let own = world.plain_client(&world.admin).infer("plain", &question("hi")).await.unwrap_err();
    let not = client.infer("plain", &question("hi")).await.unwrap_err();
    assert_eq!((not.error.kind(), not.error.message()), (own.kind(), own.message()));
    assert!(matches!(not.decision, Decision::Unreachable(_)), "{:?}", not.decision);
    // Another run of the program finds it in the file; another token is not helped by it.
    let again = world.client(&world.admin, Some(open(&world)));
    assert_eq!(again.infer("gpt", &question("hi")).await.unwrap().decision, Decision::Leased);
    let other = world.plain_client(&world.admin).with_token(Some(Token::new("mcpctl_pat_other"))).unwrap();
    let other = FailoverClient::new(&other, client.router().providers().clone(), Some(open(&world)));
    assert!(other.infer("gpt", &question("hi")).await.is_err());
    // Nor does a lease help who acts for somebody else.
    let acting = world.plain_client(&world.admin).acting_for("ann@example.com").unwrap();
    let acting = FailoverClient::new(&acting, client.router().providers().clone(), Some(open(&world)));
    assert!(acting.infer("gpt", &question("hi")).await.is_err());
    let before = world.local.received().len();
    assert_eq!(before, 2);
    let ended = async || client.infer("gpt", &question("hi")).await.err();
    let not = eventually_within(SOON * 2, "the lease ends", ended).await;
    let Decision::Unreachable(why) = not.decision else { panic!("{:?}", not.decision) };
    assert!(why.ends_with("its lease has expired"), "{why}");
    assert!(again.infer("gpt", &question("hi")).await.is_err());
}

// The programs are waited for, and the providers must answer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_who_answered() {
    let mut world = World::make(LONG).await;
    let home = TempDir::new().unwrap();
    let config = json!({"contexts": {"default": {"url": world.server.url()}}, "providers": [world.entry()]});
    fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let token = world.admin.token().to_owned();
    let chat = |llm: &str| chat(home.path(), &token, llm);
    let said = |output: &Output| {
        let [out, err] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
        (output.status.success(), out, err)
    };
    assert_eq!(said(&chat("gpt")), (true, text(), String::new()));
    world.remote.misbehave(Fault::Status(500));
    let told = "failover: answered by local provider local (with the server's consent)".to_owned();
    assert_eq!(said(&chat("plain")), (true, text(), told));
    assert_eq!(said(&chat("gpt")).0, true);
    world.server.kill9();
    let told =
        "failover: answered by local provider local (under a lease of the server, which does not answer)";
    assert_eq!(said(&chat("gpt")), (true, text(), told.to_owned()));
    let (good, out, err) = said(&chat("plain"));
    assert!(!good && out.is_empty(), "{out}");
    assert!(
        err.starts_with("warning: no failover: the server could not be asked for its consent: "),
        "{err}"
    );
    assert!(err.contains("error: asking `plain`: cannot reach mcpctl-server at "), "{err}");
    let kept = fs::read_to_string(home.path().join("leases.json")).unwrap();
    assert!(!kept.contains(&token) && !err.contains(&token), "the token shows");
    for request in world.local.received() {
        assert!(!request.text().contains(&token), "the token went to the local provider");
    }
    fs::write(home.path().join("config.json"), json!({"providers": [{"name": "x"}]}).to_string()).unwrap();
    let (good, _, err) = said(&chat("gpt"));
    assert!(!good && err.contains("providers: `x`: missing field `type`"), "{err}");
}
