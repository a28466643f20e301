//! Who reads the audit trail, by the API and the command line, and misses nothing.

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tests::{
    Api, Provider, Server, ServerOptions, eventually, eventually_within,
    postgres::Postgres,
    server::{ADMIN, Process, unique},
};

use super::audit_trail::{ask, events, ids, mcpctl, printed, run};

#[tokio::test]
async fn the_api_of_a_call_is_told_and_each_event_has_an_address() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    for (path, api) in [
        ("/v1/chat/completions", "chat"),
        ("/v1/messages", "messages"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "embeddings"),
    ] {
        let mut body = ask("gpt");
        body["max_tokens"] = 10.into();
        body["input"] = "hello".into();
        admin.post(path, &body).await;
        let newest = events(&admin, "kind=llm_inference_call").await[0].clone();
        assert_eq!(newest["api"], api, "{newest}");
        let id = newest["id"].as_str().unwrap();
        assert_eq!(admin.get(&format!("/api/v1/auditlogs/{id}")).await.expect(200), newest);
        for args in [
            ["get", "auditlog", id, "-o", "json"].as_slice(),
            &["get", &format!("auditlog/{id}"), "-o", "json"],
        ] {
            assert_eq!(serde_json::from_str::<Value>(&printed(&server, &admin, args)).unwrap(), newest);
        }
    }
    let newest = events(&admin, "").await[0].clone();
    let id = newest["id"].as_str().unwrap();
    let described = printed(&server, &admin, &["describe", "auditlog", id]);
    assert!(described.starts_with(&format!("=== AuditLog: {id} ===\nId:")), "{described}");
    assert!(described.contains("\nLlm Name:") && described.contains("  gpt\n"), "{described}");
    for bad in ["none", "01920000-0000-7000-8000-000000000000"] {
        admin.get(&format!("/api/v1/auditlogs/{bad}")).await.error(404);
    }
    assert!(admin.get("/api/v1/auditlogs?continue=rubbish").await.error(400).starts_with("continue:"));
    assert!(admin.get("/api/v1/auditlogs/none?limit=1").await.error(400).contains("limit"));

    // Who may not read the trail may read no part of it.
    let nobody = admin.create_user_with(&json!([{"role": "edit", "resource": "*"}])).await;
    let auditor = admin.create_user_with(&json!([{"role": "run", "action": "audit"}])).await;
    let id = events(&admin, "").await[0]["id"].as_str().unwrap().to_owned();
    let one = format!("/api/v1/auditlogs/{id}");
    for (api, may) in [(&nobody, false), (&auditor, true)] {
        assert_eq!(api.get(&one).await.status, if may { 200 } else { 403 });
        for args in [["get", "auditlogs"].as_slice(), &["get", "auditlog", &id]] {
            let output = run(&server, api, args);
            assert_eq!(output.status.code(), Some(if may { 0 } else { 1 }), "{args:?}");
            assert!(may || String::from_utf8_lossy(&output.stderr).contains("missing permission `audit`"));
        }
    }
    assert_eq!(run(&server, &nobody, &["get", "auditlogs", "--follow"]).status.code(), Some(1));
}

#[tokio::test]
async fn the_command_line_filters_as_the_api_does() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("a", "openai", &provider).await;
    admin.create_llm("b", "openai", &provider).await;
    for _ in 0..7 {
        admin.infer("a", &ask("a")).await.expect(200);
    }
    admin.infer("b", &ask("b")).await.expect(200);
    let count = |args: &[&str]| {
        let args = [&["get", "auditlogs", "-o", "name"], args].concat();
        printed(&server, &admin, &args).lines().count()
    };
    let all = events(&admin, "").await.len();
    assert_eq!(count(&[]), all);
    assert_eq!(count(&["--limit", "3"]), 3);
    assert_eq!(count(&["--llm", "a", "--kind", "llm_inference_call"]), 7);
    assert_eq!(count(&["--llm", "nobody"]), 0);
    assert_eq!(count(&["--user", ADMIN, "--kind", "login"]), 1);
    assert_eq!((count(&["--since", "1h"]), count(&["--until", "1h"])), (all, 0));
    assert_eq!(count(&["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z"]), 0);
    let yaml = printed(&server, &admin, &["get", "auditlogs", "--limit", "2", "-o", "yaml"]);
    assert_eq!(yaml.matches("\nkind: ").count() + usize::from(yaml.starts_with("kind: ")), 2, "{yaml}");
    for wrong in
        [&["--since", "yesterday"][..], &["--follow", "--limit", "3"], &["--follow", "--until", "1h"]]
    {
        let args = [&["get", "auditlogs"], wrong].concat();
        assert_eq!(run(&server, &admin, &args).status.code(), Some(2), "{args:?}");
    }
}

/// A `get auditlogs --follow` that runs, and what it has printed.
struct Following {
    process: Process,
    folder: tempfile::TempDir,
}

impl Following {
    fn start(server: &Server, api: &Api, args: &[&str]) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let mut command = mcpctl(server, api, &["get", "auditlogs", "--follow"]);
        command.args(args).stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Self { process: Process::spawn(&mut command), folder }
    }

    fn text(&self, name: &str) -> String {
        assert!(self.process.is_running(), "{}", fs::read_to_string(self.folder.path().join("err")).unwrap());
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        // The last line may be on its way.
        let text = self.text("out");
        let whole = text.rsplit_once('\n').map(|(whole, _)| whole).unwrap_or_default();
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_misses_nothing_and_sees_nothing_twice() {
    let Some(postgres) = Postgres::shared() else { return };
    let (url, password) = (postgres.create_database(), unique("admin-password"));
    let env = [("MCPCTL_MASTER_KEY", "5c".repeat(32)), ("MCPCTL_ADMIN_PASSWORD", password.clone())];
    let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).into();
    let start = async || {
        let (database_url, env) = (Some(url.clone()), env.clone());
        Server::start_with(ServerOptions { database_url, env, ..ServerOptions::default() }).await
    };
    let (mut a, b) = tokio::join!(start(), start());
    let provider = Provider::start().await;
    let admin = a.client().login(ADMIN, &password).await;
    admin.create_llm("gpt", "openai", &provider).await;
    let at_b = b.client().with_token(admin.token());
    let known = async || (at_b.infer("gpt", &ask("gpt")).await.status == 200).then_some(());
    eventually("the other server knows the Llm", known).await;

    let earlier = ids(&events(&admin, "").await);
    let everything = Following::start(&a, &admin, &["--since", "1h", "-o", "json"]);
    let logins = Following::start(&a, &admin, &["--kind", "login", "-o", "json"]);
    let seen = async || (everything.events().len() >= earlier.len()).then_some(());
    eventually("what there was before", seen).await;
    // Its beginning cannot be seen from outside: a login that it prints shows that it has begun.
    let begun = async || {
        b.client().login(ADMIN, &password).await;
        (!logins.events().is_empty()).then_some(())
    };
    eventually_within(Duration::from_secs(20), "the first login", begun).await;

    for round in 0..3 {
        for step in 0..20 {
            // Batches of one server, and changes and batches of the other, in between each other.
            let body = ask("gpt");
            let (one, other) = tokio::join!(admin.infer("gpt", &body), at_b.infer("gpt", &body));
            assert_eq!((one.status, other.status), (200, 200));
            let change = json!({"description": format!("{round}-{step}")});
            admin.patch("/api/v1/llms/gpt", &change).await.expect(200);
        }
        b.client().login(ADMIN, &password).await;
        if round == 0 {
            a.sigterm();
            assert!(a.exit_status().success());
            at_b.infer("gpt", &ask("gpt")).await.expect(200);
            let noticed = async || everything.text("err").contains("trying again").then_some(());
            eventually("the follower notices", noticed).await;
            a.restart().await;
        }
    }
    let all = events(&admin, "").await;
    let complete = async || (everything.events().len() >= all.len()).then_some(everything.events());
    let shown = eventually_within(Duration::from_secs(60), "every event is shown", complete).await;
    assert_eq!(ids(&shown), ids(&all));
    assert!(everything.text("err").contains("answers again"));
    let expected = events(&admin, "kind=login")
        .await
        .iter()
        .filter(|event| !earlier.contains(event["id"].as_str().unwrap()))
        .count();
    let complete = async || (logins.events().len() >= expected - 1).then_some(logins.events());
    let shown = eventually("every login since it began", complete).await;
    assert!(ids(&shown).is_disjoint(&earlier) && shown.iter().all(|event| event["kind"] == "login"));
}
