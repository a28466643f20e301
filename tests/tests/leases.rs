//! Leases, from outside: who gets one, what it says, and that only the server can have made it.

use std::{process::Command, time::Duration};

use mcpctl_core::{
    lease::{Claims, HEADER, PublicKeys, token_fingerprint},
    secret::Keyring,
    store::{SqlStore, ValueStore as _},
};
use reqwest::header::CACHE_CONTROL;
use serde_json::{Value, json};
use tests::{
    Api, Provider, Reply, Server, ServerOptions, eventually,
    postgres::Postgres,
    server::{ADMIN, binary, unique},
};

const SECONDS: i64 = 600;

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn on(role: &str, resource: &str) -> Value {
    json!({"role": role, "resource": resource})
}

fn lasting(seconds: i64) -> Value {
    json!({"failoverLeaseSeconds": seconds})
}

async fn world() -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm_at("gpt", "openai", &provider.url(), lasting(SECONDS)).await;
    admin.create_llm_at("claude", "anthropic", &provider.url(), lasting(SECONDS)).await;
    admin.create_llm("plain", "openai", &provider).await;
    (server, admin, provider)
}

async fn keys(api: &Api) -> PublicKeys {
    PublicKeys::from_jwks(&api.anonymous().get("/api/v1/auth/keys").await.expect(200)).unwrap()
}

async fn user_id(api: &Api) -> String {
    let whoami = api.get("/api/v1/auth/whoami").await.expect(200);
    whoami["user"]["id"].as_str().unwrap().to_owned()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What the lease of an answer says, which `keys` must verify and which must be for this token.
fn lease_of(reply: &Reply, keys: &PublicKeys, api: &Api) -> Claims {
    assert_eq!(reply.status, 200, "{}: {}", reply.asked, reply.text());
    assert_eq!(reply.headers.get_all(HEADER).iter().count(), 1, "{}: one lease", reply.asked);
    let claims = keys.verify(reply.header(HEADER)).unwrap_or_else(|fault| panic!("{}: {fault}", reply.asked));
    assert_eq!(claims.cnf, token_fingerprint(api.token()), "{}", reply.asked);
    assert!(claims.iat <= now() && now() < claims.exp, "{}: {claims:?}", reply.asked);
    claims
}

fn without(reply: &Reply) {
    assert!(!reply.headers.contains_key(HEADER), "{}: {} has a lease", reply.asked, reply.status);
}

#[tokio::test]
async fn every_success_brings_one_that_the_keys_verify() {
    let (_server, admin, _provider) = world().await;
    let (keys, user) = (keys(&admin).await, user_id(&admin).await);
    let id = admin.get("/api/v1/llms/gpt").await.expect(200)["id"].as_str().unwrap().to_owned();
    admin.create("projects", &json!({"name": "p", "llmProvider": "gpt"})).await;
    let check = |reply: Reply, llm: &str| {
        let claims = lease_of(&reply, &keys, &admin);
        assert_eq!((claims.sub.as_str(), claims.llm.as_str()), (user.as_str(), llm), "{}", reply.asked);
        assert_eq!(claims.exp - claims.iat, SECONDS, "{}", reply.asked);
    };
    for path in ["/api/v1/llms/gpt".to_owned(), format!("/api/v1/llms/{id}")] {
        for method in ["GET", "HEAD"] {
            check(admin.send(admin.request(method, &path)).await, "gpt");
        }
    }
    let chat = |llm: &str, stream: bool| {
        let mut body = ask(llm);
        body["stream"] = stream.into();
        body["max_tokens"] = 50.into();
        body
    };
    for llm in ["gpt", "claude"] {
        for stream in [false, true] {
            let body = chat(llm, stream);
            for path in ["/v1/chat/completions", "/v1/messages"] {
                check(admin.post(path, &body).await, llm);
                check(admin.post(&format!("/api/v1/llms/{llm}{path}"), &body).await, llm);
            }
            check(admin.infer(llm, &body).await, llm);
            let responses = json!({"model": llm, "input": "hi", "stream": stream});
            check(admin.post("/v1/responses", &responses).await, llm);
        }
    }
    for stream in [false, true] {
        check(admin.post("/api/v1/projects/p/infer", &chat("gpt", stream)).await, "gpt");
        let body = json!({"model": "gpt", "prompt": "hi", "stream": stream});
        check(admin.post("/v1/completions", &body).await, "gpt");
    }
    check(admin.post("/v1/embeddings", &json!({"model": "gpt", "input": "hi"})).await, "gpt");
    check(admin.post("/v1/messages/count_tokens", &chat("claude", false)).await, "claude");
}

#[tokio::test]
async fn nobody_else_gets_one() {
    let (_server, admin, _provider) = world().await;
    // An Llm that hands out none.
    without(&admin.get("/api/v1/llms/plain").await);
    without(&admin.infer("plain", &ask("plain")).await);
    let mut stream = ask("plain");
    stream["stream"] = true.into();
    without(&admin.infer("plain", &stream).await);
    // What is no success, whoever says so.
    for fault in ["status-401", "status-500", "reset", "not-json"] {
        for stream in [false, true] {
            let mut body = ask(&format!("fault-{fault}"));
            body["stream"] = stream.into();
            let reply = admin.infer("gpt", &body).await;
            // A stream that is reset had begun well.
            if reply.status != 200 {
                without(&reply);
            }
        }
    }
    without(&admin.infer("gpt", &json!({"messages": []})).await);
    without(&admin.get("/api/v1/llms/nowhere").await);
    // Other answers about an Llm, and other kinds.
    without(&admin.get("/api/v1/llms").await);
    without(&admin.get("/v1/models/gpt").await);
    without(&admin.patch("/api/v1/llms/gpt", &json!({"description": "x"})).await);
    without(&admin.get("/api/v1/secrets/gpt-key").await);
    // Who may not view it, and who does not act for themselves.
    let runner = admin.create_user_with(&json!([on("run", "llms")])).await;
    let reply = runner.infer("gpt", &ask("gpt")).await;
    reply.expect(200);
    without(&reply);
    without(&runner.get("/api/v1/llms/gpt").await);
    let near = json!([on("run", "llms"), {"role": "view", "resource": "llms", "name": "plain"}]);
    let near = admin.create_user_with(&near).await;
    let reply = near.infer("gpt", &ask("gpt")).await;
    reply.expect(200);
    without(&reply);
    let both = admin.create_user_with(&json!([on("run", "llms"), on("view", "llms")])).await;
    let whoami = both.get("/api/v1/auth/whoami").await.expect(200);
    let acting = |method: &str, path: &str| {
        admin.request(method, path).header("Impersonate-User", whoami["user"]["name"].as_str().unwrap())
    };
    let reply = admin.send(acting("GET", "/api/v1/llms/gpt")).await;
    reply.expect(200);
    without(&reply);
    let reply = admin.send(acting("POST", "/api/v1/llms/gpt/infer").json(&ask("gpt"))).await;
    reply.expect(200);
    without(&reply);
    // The same user, in person.
    assert!(both.infer("gpt", &ask("gpt")).await.headers.contains_key(HEADER));
}

#[tokio::test]
async fn it_is_one_tokens_and_ends_no_later() {
    let (_server, admin, _provider) = world().await;
    let keys = keys(&admin).await;
    let session = lease_of(&admin.get("/api/v1/llms/gpt").await, &keys, &admin);
    let bindings = [on("run", "llms"), on("view", "llms")];
    let (made, brief) =
        admin.create_token(&json!({"name": "brief", "roleBindings": bindings, "ttl": "1m"})).await;
    let (_, lasting) = admin.create_token(&json!({"name": "lasting", "roleBindings": bindings})).await;
    let expires: jiff::Timestamp = made["expiresAt"].as_str().unwrap().parse().unwrap();
    let lease = lease_of(&brief.infer("gpt", &ask("gpt")).await, &keys, &brief);
    assert_eq!(lease.sub, made["id"].as_str().unwrap());
    assert!(lease.exp <= expires.as_second() && lease.exp > now(), "{lease:?} {expires}");
    assert_ne!((&lease.sub, &lease.cnf), (&session.sub, &session.cnf));
    let lease = lease_of(&lasting.infer("gpt", &ask("gpt")).await, &keys, &lasting);
    assert_eq!(lease.exp - lease.iat, SECONDS);
    // A second session of the same user is another token.
    let again = admin.create_user_with(&json!(bindings)).await;
    let one = lease_of(&again.get("/api/v1/llms/gpt").await, &keys, &again);
    assert_ne!(one.cnf, session.cnf);
    // A token whose owner may not view the Llm any more, or never could.
    let (_, blind) = admin.create_token(&json!({"name": "blind", "roleBindings": [on("run", "llms")]})).await;
    let reply = blind.infer("gpt", &ask("gpt")).await;
    reply.expect(200);
    without(&reply);
}

#[tokio::test]
async fn it_is_handed_out_again_while_it_is_young() {
    let (_server, admin, _provider) = world().await;
    let keys = keys(&admin).await;
    let path = "/api/v1/llms/gpt";
    let first = admin.get(path).await;
    for _ in 0..3 {
        assert_eq!(admin.infer("gpt", &ask("gpt")).await.header(HEADER), first.header(HEADER));
    }
    let other = admin.create_user_with(&json!([on("view", "llms")])).await;
    assert_ne!(other.get(path).await.header(HEADER), first.header(HEADER));
    assert_eq!(admin.get(path).await.header(HEADER), first.header(HEADER));
    // A short one is renewed, and never handed out past half of its life.
    admin.patch(path, &json!({"extraConfig": lasting(2)})).await.expect(200);
    let first = admin.get(path).await;
    let claims = lease_of(&first, &keys, &admin);
    assert_eq!(claims.exp - claims.iat, 2, "the new setting counts at once");
    let renewed = async || {
        let reply = admin.get(path).await;
        lease_of(&reply, &keys, &admin);
        (reply.header(HEADER) != first.header(HEADER)).then_some(())
    };
    eventually("another lease", renewed).await;
}

#[tokio::test]
async fn no_answer_after_a_change_brings_one() {
    let (_server, admin, _provider) = world().await;
    let path = "/api/v1/llms/gpt";
    let user = admin.create_user_with(&json!([on("view", "llms"), on("run", "llms")])).await;
    let gets_one = async |api: &Api| {
        let replies = [api.get(path).await, api.infer("gpt", &ask("gpt")).await];
        let has = replies.map(|reply| reply.headers.contains_key(HEADER));
        assert_eq!(has[0], has[1]);
        has[0]
    };
    assert!(gets_one(&user).await && gets_one(&admin).await);
    let whoami = user.get("/api/v1/auth/whoami").await.expect(200);
    let bindings = admin.get("/api/v1/rbac").await.expect(200);
    let mut bindings = bindings.as_array().unwrap().iter();
    let theirs = bindings.find(|item| item["subjects"][0]["name"] == whoami["user"]["name"]).unwrap();
    let theirs = format!("/api/v1/rbac/{}", theirs["name"].as_str().unwrap());
    admin.patch(&theirs, &json!({"roleBindings": [on("run", "llms")]})).await.expect(200);
    without(&user.get(path).await);
    let reply = user.infer("gpt", &ask("gpt")).await;
    reply.expect(200);
    without(&reply);
    // Without the setting, nobody gets one.
    admin.patch(path, &json!({"extraConfig": {"failoverLeaseSeconds": null}})).await.expect(200);
    assert!(!gets_one(&admin).await);
    admin.patch(path, &json!({"extraConfig": lasting(5)})).await.expect(200);
    assert!(gets_one(&admin).await);
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_is_refused_by_name() {
    let (_server, admin, provider) = world().await;
    for wrong in [json!(0), json!(-1), json!(86_401), json!(1.5), json!("600"), json!(true), json!([600])] {
        let extra = json!({"failoverLeaseSeconds": wrong});
        let llm = json!({"name": "new", "type": "openai", "model": "m", "url": provider.url(), "extraConfig": extra});
        for reply in [
            admin.post("/api/v1/llms", &llm).await,
            admin.patch("/api/v1/llms/gpt", &json!({"extraConfig": extra})).await,
            admin.put("/api/v1/llms/gpt", &json!({"extraConfig": extra})).await,
        ] {
            let message = reply.error(400);
            assert!(message.contains("extraConfig.failoverLeaseSeconds: must be"), "{message}");
        }
    }
    for fine in [1, 86_400] {
        admin.patch("/api/v1/llms/gpt", &json!({"extraConfig": lasting(fine)})).await.expect(200);
    }
}

/// The private part of the key, as whoever holds the database and the master key can read it.
async fn private_key(server: &Server) -> Vec<u8> {
    let url = format!("sqlite://{}", server.data_dir().join("mcpctl.db").display());
    let store = SqlStore::open(&url).await.unwrap();
    let sealed = store.value("lease-signing-key").await.unwrap().expect("a key is kept");
    let keyring = Keyring::load_or_create(&server.data_dir().join("master.key")).unwrap();
    let opened = keyring.open("lease-signing-key", 1, &sealed).unwrap();
    // PKCS #8 of an Ed25519 key, as RFC 8410 has it: the seed has a fixed place.
    assert_eq!(&opened[12..16], [0x04, 0x22, 0x04, 0x20]);
    opened[16..48].to_vec()
}

#[tokio::test]
async fn the_key_is_everybodys_to_read_and_stays_and_its_private_part_shows_nowhere() {
    let (mut server, admin, _provider) = world().await;
    let reply = server.client().get("/api/v1/auth/keys").await;
    let shown = reply.expect(200);
    assert_eq!(reply.headers[CACHE_CONTROL], "public, max-age=300");
    let key = &shown["keys"][0];
    let fields: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["kty", "crv", "x", "kid", "alg", "use"], "{shown}");
    assert_eq!(shown["keys"].as_array().unwrap().len(), 1);
    let lease = admin.infer("gpt", &ask("gpt")).await.header(HEADER).to_owned();
    server.sigterm();
    server.exit_status();
    let private = private_key(&server).await;
    server.canary.keep_secret("the key that signs leases", &private);
    assert!(server.canary.found([("itself", private.as_slice())]).len() == 1);
    // Under another master key it is the same, and the old one is not needed.
    let old = std::fs::read_to_string(server.data_dir().join("master.key")).unwrap();
    let mut rekey = Command::new(binary("mcpctl-server"));
    let rekey = rekey.arg("rekey").arg("--data-dir").arg(server.data_dir()).env_clear().output().unwrap();
    assert!(rekey.status.success(), "{}", String::from_utf8_lossy(&rekey.stderr));
    let new = std::fs::read_to_string(server.data_dir().join("master.key")).unwrap();
    assert!(new.lines().count() == 1 && new != old);
    assert_eq!(private_key(&server).await, private);
    server.restart().await;
    let admin = server.login_admin().await;
    let keys = keys(&admin).await;
    assert_eq!(keys.to_jwks(), shown);
    keys.verify(&lease).unwrap();
    lease_of(&admin.infer("gpt", &ask("gpt")).await, &keys, &admin);
    // A sealed server gives out neither leases nor keys.
    server.sigterm();
    server.exit_status();
    std::fs::write(server.data_dir().join("master.key"), old).unwrap();
    server.relaunch();
    server.logged("sealed: the master key does not fit").await;
    let sealed = server.client().get("/api/v1/auth/keys").await;
    assert!(sealed.error(503).contains("sealed"));
    without(&admin.infer("gpt", &ask("gpt")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_database_sign_with_one_key() {
    let Some(postgres) = Postgres::shared() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let env = [("MCPCTL_MASTER_KEY", "7e".repeat(32)), ("MCPCTL_ADMIN_PASSWORD", password.clone())];
    let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).into();
    let options = ServerOptions { database_url: Some(url.clone()), env, ..ServerOptions::default() };
    let (a, b) = tokio::join!(Server::start_with(options.clone()), Server::start_with(options));
    let (keys_a, keys_b) = (keys(&a.client()).await, keys(&b.client()).await);
    assert_eq!(keys_a, keys_b);
    let provider = Provider::start().await;
    let at_a = a.client().login(ADMIN, &password).await;
    at_a.create_llm_at("gpt", "openai", &provider.url(), lasting(SECONDS)).await;
    let at_b = b.client().with_token(at_a.token());
    let there = async || (at_b.get("/api/v1/llms/gpt").await.status == 200).then_some(());
    eventually("the Llm at the other server", there).await;
    lease_of(&at_a.get("/api/v1/llms/gpt").await, &keys_b, &at_a);
    lease_of(&at_b.infer("gpt", &ask("gpt")).await, &keys_a, &at_b);
    for server in [&a, &b] {
        server.check_canary_in_postgres(postgres, &url);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_none_is_signed() {
    let Some(postgres) = Postgres::start() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let env = [("MCPCTL_MASTER_KEY", "7e".repeat(32)), ("MCPCTL_ADMIN_PASSWORD", password.clone())];
    let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).into();
    let options = ServerOptions { database_url: Some(url.clone()), env, ..ServerOptions::default() };
    let (server, provider) = (Server::start_with(options).await, Provider::start().await);
    let admin = server.client().login(ADMIN, &password).await;
    admin.create_llm_at("gpt", "openai", &provider.url(), lasting(4)).await;
    assert!(admin.infer("gpt", &ask("gpt")).await.headers.contains_key(HEADER));
    postgres.stop();
    // It is served from memory, and what could have been revoked meanwhile is not promised anew.
    let none = async || {
        let reply = admin.infer("gpt", &ask("gpt")).await;
        reply.expect(200);
        (!reply.headers.contains_key(HEADER)).then_some(())
    };
    tests::eventually_within(Duration::from_secs(20), "no lease", none).await;
    postgres.start_again();
    server.ready().await;
    let one = async || admin.infer("gpt", &ask("gpt")).await.headers.contains_key(HEADER).then_some(());
    tests::eventually_within(Duration::from_secs(20), "leases again", one).await;
    server.check_canary_in_postgres(&postgres, &url);
}
