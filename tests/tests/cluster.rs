//! PostgreSQL underneath: several servers on one database, and a database that goes away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Api, Provider, Server, ServerOptions, eventually, eventually_within,
    postgres::Postgres,
    server::{ADMIN, unique},
};

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

fn options(url: &str, password: &str) -> ServerOptions {
    let env = [("MCPCTL_MASTER_KEY", "5c".repeat(32)), ("MCPCTL_ADMIN_PASSWORD", password.to_owned())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).into();
    ServerOptions { database_url: Some(url.to_owned()), env, ..ServerOptions::default() }
}

const A_SECOND: Duration = Duration::from_secs(1);

async fn status_within_a_second(what: &str, api: &Api, status: u16) {
    let probe = async || (api.infer("gpt", &ask()).await.status == status).then_some(());
    eventually_within(A_SECOND, what, probe).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_database_are_one() {
    let Some(postgres) = Postgres::shared() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let start = async || Server::start_with(options(&url, &password)).await;
    let (a, b) = tokio::join!(start(), start());
    let provider = Provider::start().await;
    let admin = a.client().login(ADMIN, &password).await;
    let users = admin.get("/api/v1/users").await.expect(200);
    assert_eq!(users.as_array().unwrap().len(), 1, "both started on an empty database: {users}");
    assert_eq!(admin.get("/api/v1/secretbackends").await.expect(200).as_array().unwrap().len(), 1);

    let key = admin.create_llm("gpt", "openai", &provider).await;
    let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
    let at_b = b.client().with_token(user.token());
    status_within_a_second("a user and an Llm made at the other server", &at_b, 200).await;
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {key}").as_str()));

    let rotated = unique("sk-rotated");
    a.canary.keep_secret("the rotated key", &rotated);
    admin.put("/api/v1/secrets/gpt-key", &json!({"data": {"api-key": rotated}})).await.expect(200);
    let used = async || {
        at_b.infer("gpt", &ask()).await.expect(200);
        (provider.last().header("authorization") == Some(format!("Bearer {rotated}").as_str())).then_some(())
    };
    eventually_within(A_SECOND, "the other server uses the rotated key", used).await;

    let bindings = admin.get("/api/v1/rbac").await.expect(200);
    let given = bindings.as_array().unwrap().iter().find(|item| item["name"] != "admin").unwrap();
    admin.delete(&format!("/api/v1/rbac/{}", given["name"].as_str().unwrap())).await;
    status_within_a_second("a permission revoked at the other server", &at_b, 403).await;
    user.post("/api/v1/auth/logout", &json!({})).await;
    status_within_a_second("a session ended at the other server", &at_b, 401).await;
    for server in [&a, &b] {
        server.check_canary_in_postgres(postgres, &url);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_two_servers_lose_nothing() {
    let Some(postgres) = Postgres::shared() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let a = Server::start_with(options(&url, &password)).await;
    let b = Server::start_with(options(&url, &password)).await;
    let (at_a, at_b) = (a.client().login(ADMIN, &password).await, b.client().login(ADMIN, &password).await);
    at_a.create("llms", &json!({"name": "gpt", "type": "openai", "model": "m"})).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let api = [&at_a, &at_b][number % 2].clone();
        writers.spawn(async move {
            let patch = json!({"extraConfig": {format!("w{number}"): number}});
            let reply = api.patch("/api/v1/llms/gpt", &patch).await;
            (number, reply.status)
        });
    }
    let done = writers.join_all().await;
    let stored = eventually("both servers show the same", async || {
        let [one, two] = [at_a.get("/api/v1/llms/gpt").await, at_b.get("/api/v1/llms/gpt").await];
        (one.json() == two.json()).then(|| one.json())
    })
    .await;
    for (number, status) in &done {
        assert!([200, 409].contains(status), "{status}");
        let there = stored["extraConfig"].get(format!("w{number}")).is_some();
        assert_eq!(there, *status == 200, "writer {number}: {status}, {stored}");
    }
    let written = done.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(stored["version"], 1 + written);
    a.check_canary_in_postgres(postgres, &url);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_inference_goes_on() {
    let Some(postgres) = Postgres::start() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let (server, provider) = (Server::start_with(options(&url, &password)).await, Provider::start().await);
    let admin = server.client().login(ADMIN, &password).await;
    admin.create_llm("gpt", "openai", &provider).await;
    admin.infer("gpt", &ask()).await.expect(200);

    postgres.stop();
    let during = admin.request("POST", "/api/v1/llms/gpt/infer").header("x-request-id", "during-the-outage");
    admin.send(during.json(&ask())).await.expect(200);
    let began = Instant::now();
    let refused = admin.patch("/api/v1/llms/gpt", &json!({"description": "x"})).await;
    assert!(refused.error(503).contains("database"), "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert!(began.elapsed() < Duration::from_secs(15), "refused after {:?}", began.elapsed());
    let login = json!({"email": ADMIN, "password": password});
    assert_eq!(server.client().post("/api/v1/auth/login", &login).await.status, 503);
    assert_eq!(admin.get("/api/v1/auditlogs").await.status, 503);
    assert_eq!(server.client().get("/healthz").await.status, 200);
    let unready = async || (server.client().get("/readyz").await.status == 503).then_some(());
    eventually("/readyz says so", unready).await;
    admin.infer("gpt", &ask()).await.expect(200);

    postgres.start_again();
    server.ready().await;
    let healed = async || {
        let reply = admin.patch("/api/v1/llms/gpt", &json!({"description": "healed"})).await;
        (reply.status == 200).then_some(())
    };
    eventually_within(Duration::from_secs(20), "writes work again", healed).await;
    let audited = async || {
        let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call&limit=100").await;
        let items = events.json()["items"].as_array()?.clone();
        (items.len() == 3 && items.iter().any(|event| event["requestId"] == "during-the-outage"))
            .then_some(())
    };
    eventually_within(Duration::from_secs(20), "every call is in the audit log", audited).await;
    server.check_canary_in_postgres(&postgres, &url);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_trusted_for_so_long_and_no_longer() {
    let Some(postgres) = Postgres::start() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let mut options = options(&url, &password);
    options.args = vec!["--max-staleness".into(), "3s".into()];
    let (server, provider) = (Server::start_with(options).await, Provider::start().await);
    let admin = server.client().login(ADMIN, &password).await;
    admin.create_llm("gpt", "openai", &provider).await;
    postgres.stop();
    admin.infer("gpt", &ask()).await.expect(200);
    let stale = async || {
        let reply = admin.infer("gpt", &ask()).await;
        assert!([200, 503].contains(&reply.status), "{}", reply.text());
        (reply.status == 503).then_some(reply)
    };
    let refused = eventually_within(Duration::from_secs(15), "memory is too old to be trusted", stale).await;
    assert!(!refused.header("retry-after").is_empty());
    let seen = provider.received().len();
    admin.infer("gpt", &ask()).await;
    assert_eq!(provider.received().len(), seen, "nothing is sent any more");
    postgres.start_again();
    let healed = async || (admin.infer("gpt", &ask()).await.status == 200).then_some(());
    eventually_within(Duration::from_secs(20), "inference works again", healed).await;
    server.check_canary_in_postgres(&postgres, &url);
}
