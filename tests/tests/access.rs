//! Who may do what.

use serde_json::{Value, json};
use tests::{Api, Provider, Server, eventually, eventually_within, server::unique};

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

fn ask_of(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

async fn with_llms(names: &[&str]) -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for name in names {
        admin.create_llm(name, "openai", &provider).await;
    }
    (server, admin, provider)
}

async fn listed(api: &Api, kind: &str) -> Vec<String> {
    let list = api.get(&format!("/api/v1/{kind}")).await.expect(200);
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn editing_the_catalogue_does_not_give_the_right_to_spend() {
    let (_server, admin, provider) = with_llms(&["gpt"]).await;
    let editor = admin.create_user_with(&json!([{"role": "edit", "resource": "llms"}])).await;
    editor.patch("/api/v1/llms/gpt", &json!({"description": "mine"})).await.expect(200);
    let refused = editor.infer("gpt", &ask()).await.error(403);
    assert!(refused.contains("run:llms:gpt"), "{refused}");
    let refused = editor.post("/v1/chat/completions", &ask_of("gpt")).await.openai_error(403);
    assert!(refused.contains("run:llms:gpt"), "{refused}");
    assert!(provider.received().is_empty(), "nothing was sent");

    let runner = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
    runner.infer("gpt", &ask()).await.expect(200);
    for path in ["/api/v1/llms/gpt", "/api/v1/llms", "/api/v1/secrets/gpt-key"] {
        assert_eq!(runner.get(path).await.status, 403, "{path}: run is not view");
    }
    assert_eq!(runner.patch("/api/v1/llms/gpt", &json!({"model": "x"})).await.status, 403);
}

#[tokio::test]
async fn a_role_gives_its_actions_and_no_other() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let table: [(&str, &[&str]); 6] = [
        ("view", &["view"]),
        ("create", &["create"]),
        ("delete", &["delete"]),
        ("run", &["run"]),
        ("edit", &["view", "create", "edit", "delete"]),
        ("expose", &["view"]),
    ];
    for (role, gives) in table {
        let user = admin.create_user_with(&json!([{"role": role, "resource": "llms"}])).await;
        let new = json!({"name": format!("new-{role}"), "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"});
        let answers = [
            ("view", user.get("/api/v1/llms/a").await.status),
            ("view", user.get("/api/v1/llms").await.status),
            ("create", user.post("/api/v1/llms", &new).await.status),
            ("edit", user.patch("/api/v1/llms/a", &json!({"description": role})).await.status),
            ("run", user.infer("a", &ask()).await.status),
            ("delete", user.delete(&format!("/api/v1/llms/no-such-{role}")).await.status),
        ];
        for (action, status) in answers {
            assert_eq!(status != 403, gives.contains(&action), "{role} on {action}: {status}");
        }
        for kind in ["secrets", "users", "rbac", "secretbackends"] {
            assert_eq!(user.get(&format!("/api/v1/{kind}")).await.status, 403, "{role} on {kind}");
        }
    }
}

#[tokio::test]
async fn a_list_holds_what_may_be_viewed() {
    let (_server, admin, _provider) = with_llms(&["a", "b", "team-x", "team-y"]).await;
    let cases = [
        (json!([{"role": "view", "resource": "llms", "name": "b"}]), vec!["b"]),
        (json!([{"role": "edit", "resource": "llms", "name": "team-*"}]), vec!["team-x", "team-y"]),
        (json!([{"role": "view", "resource": "llm"}]), vec!["a", "b", "team-x", "team-y"]),
        (json!([{"role": "view", "resource": "*"}]), vec!["a", "b", "team-x", "team-y"]),
    ];
    for (bindings, expected) in cases {
        let user = admin.create_user_with(&bindings).await;
        assert_eq!(listed(&user, "llms").await, expected, "{bindings}");
        for name in ["a", "b", "team-x", "team-y"] {
            let status = user.get(&format!("/api/v1/llms/{name}")).await.status;
            assert_eq!(status == 200, expected.contains(&name), "{bindings}: get agrees with list on {name}");
        }
        let paged = user.get("/api/v1/llms?limit=1").await.expect(200);
        assert_eq!(paged["items"][0]["name"], expected[0]);
        assert_eq!(paged["continue"].is_string(), expected.len() > 1, "{paged}");
    }
    let nobody = admin.create_user_with(&json!([])).await;
    assert!(nobody.get("/api/v1/llms").await.error(403).contains("view:llms"));
}

#[tokio::test]
async fn models_lists_what_may_be_run() {
    let (_server, admin, _provider) = with_llms(&["a", "b"]).await;
    let models = async |api: &Api| {
        let list = api.get("/v1/models").await.expect(200);
        assert_eq!(list["object"], "list");
        let entries = list["data"].as_array().unwrap().iter();
        entries.map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(models(&admin).await, ["a", "b"]);
    let runner = json!([{"role": "run", "resource": "llms", "name": "b"}]);
    assert_eq!(models(&admin.create_user_with(&runner).await).await, ["b"]);
    let viewer = admin.create_user_with(&json!([{"role": "view", "resource": "llms"}])).await;
    let reply = viewer.get("/v1/models").await;
    assert!(reply.status == 403 || reply.json()["data"] == json!([]), "{}", reply.text());
}

#[tokio::test]
async fn near_names_are_other_names() {
    let (_server, admin, provider) = with_llms(&["gpt-4", "gpt-4o", "gpt"]).await;
    let bindings = json!([{"role": "run", "resource": "llms", "name": "gpt-4"},
                          {"role": "view", "resource": "llms", "name": "gpt-4"}]);
    let user = admin.create_user_with(&bindings).await;
    user.infer("gpt-4", &ask()).await.expect(200);
    let seen = provider.received().len();
    let near = [
        "gpt-4o",
        "gpt",
        "GPT-4",
        "gpt-4%20",
        "%20gpt-4",
        "gpt-4%00",
        "gpt-4%2f",
        "gpt-4%2F..%2Fgpt-4o",
        "*",
        "gpt*",
        "gpt-4%2A",
        "gpt-4o%00gpt-4",
        "gpt-4;gpt-4o",
        "gpt-4,gpt-4o",
        "gpt-4?name=gpt-4o",
        "%67pt-4o",
        "gpt-4%0a",
        "gpt%E2%80%904",
    ];
    for name in near {
        let head =
            format!("GET /api/v1/llms/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {{token}}\r\n\r\n");
        if !name.contains('?') {
            let reply = user.raw(&head, b"").await.unwrap();
            assert!((400..500).contains(&reply.status), "{name}: {} {}", reply.status, reply.text());
        }
        let body = ask().to_string();
        let head = format!(
            "POST /api/v1/llms/{name}/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {{token}}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = user.raw(&head, body.as_bytes()).await.unwrap();
        assert!((400..500).contains(&reply.status), "{name}: {} {}", reply.status, reply.text());
    }
    for model in ["gpt-4o", "gpt", "GPT-4", " gpt-4", "gpt-4 ", "gpt-4\0", "*", "gpt-4*", "gpt-4/../gpt-4o"] {
        let reply = user.post("/v1/chat/completions", &ask_of(model)).await;
        assert!([400, 403, 404].contains(&reply.status), "{model:?}: {} {}", reply.status, reply.text());
    }
    assert_eq!(provider.received().len(), seen, "nothing was sent");
}

#[tokio::test]
async fn odd_spellings_of_a_path_open_nothing() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let nobody = admin.create_user_with(&json!([])).await;
    let spellings = [
        "//api/v1/llms",
        "/api//v1/llms",
        "/api/v1/./llms",
        "/api/v1/x/../llms",
        "/healthz/../api/v1/llms",
        "/api/v1/%6cl%6ds",
        "/api/v1/llms/",
        "/api/v1/llms/.",
        "/%2e/api/v1/llms",
        "/healthz/%2e%2e/api/v1/llms",
        "/API/V1/LLMS",
        "/api/v1/llms;x",
        "/api/v1/llms%2fa",
        "http://127.0.0.1/api/v1/llms",
        "/api/v1/llms#x",
        "/api\\v1\\llms",
        "/api/v1/llms%00",
    ];
    for token in ["", nobody.token()] {
        for spelling in spellings {
            for extra in ["", "X-HTTP-Method-Override: GET\r\n", "X-Original-URL: /healthz\r\n"] {
                let authorization = if token.is_empty() {
                    String::new()
                } else {
                    format!("Authorization: Bearer {token}\r\n")
                };
                let head =
                    format!("GET {spelling} HTTP/1.1\r\nHost: evil.example\r\n{authorization}{extra}\r\n");
                if let Some(reply) = nobody.raw(&head, b"").await {
                    assert!((300..500).contains(&reply.status), "{head}: {} {}", reply.status, reply.text());
                    assert!(!reply.text().contains("a-model"), "{head}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_does_not_tell_whether_something_is_there() {
    let (_server, admin, _provider) = with_llms(&["there"]).await;
    let nobody = admin.create_user_with(&json!([])).await;
    for (method, suffix) in [("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/infer")] {
        let ask = async |name: &str| {
            let path = format!("/api/v1/llms/{name}{suffix}");
            let reply = nobody.send(nobody.request(method, &path).json(&ask())).await;
            reply.error(403).replace(name, "NAME")
        };
        assert_eq!(ask("there").await, ask("not-there").await, "{method}");
    }
    let id = admin.get("/api/v1/llms/there").await.expect(200)["id"].as_str().unwrap().to_owned();
    let refused = nobody.get(&format!("/api/v1/llms/{id}")).await.error(403);
    assert!(!refused.contains("there"), "an id does not tell the name: {refused}");
}

#[tokio::test]
async fn a_key_goes_only_where_its_readers_send_it() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let evil = Provider::start().await;
    let editor = json!([{"role": "edit", "resource": "llms"}, {"role": "run", "resource": "llms"}]);
    let editor = admin.create_user_with(&editor).await;
    let reference = json!({"name": "a-key", "key": "api-key"});
    let new = json!({"name": "b", "type": "openai", "model": "m", "url": evil.url(), "apiKeyRef": reference});
    for reply in [
        editor.patch("/api/v1/llms/a", &json!({"url": evil.url()})).await,
        editor.put("/api/v1/llms/a", &json!({"url": evil.url()})).await,
        editor.patch("/api/v1/llms/a", &json!({"extraConfig": {"headers": {"x-a": "b"}}})).await,
        editor.patch("/api/v1/llms/a", &json!({"apiKeyRef": {"name": "a-key", "key": "other"}})).await,
        editor.post("/api/v1/llms", &new).await,
    ] {
        assert!(reply.error(403).contains("edit:secrets:a-key"), "{}", reply.text());
    }
    editor.infer("a", &ask()).await.expect(200);
    assert!(evil.received().is_empty());
    editor.patch("/api/v1/llms/a", &json!({"description": "fine", "model": "other"})).await.expect(200);
    editor.patch("/api/v1/llms/a", &json!({"apiKeyRef": null})).await.expect(200);
    editor.patch("/api/v1/llms/a", &json!({"url": evil.url()})).await.expect(200);
    editor.infer("a", &ask()).await.expect(200);
    let sent = evil.last();
    assert!(sent.header("authorization").is_none(), "no reference, no credential: {}", sent.text());
    editor.patch("/api/v1/llms/a", &json!({"apiKeyRef": reference})).await.error(403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let delegate = json!([{"role": "edit", "resource": "rbac"}, {"role": "create", "resource": "users"},
                          {"role": "view", "resource": "llms", "name": "a"}]);
    let delegate = admin.create_user_with(&delegate).await;
    let (friend, password) = ("friend@example.com", unique("friend"));
    admin.create_user(friend, &password).await;
    let give = |name: &str, bindings: Value| json!({"name": name, "subjects": [{"kind": "User", "name": friend}], "roleBindings": bindings});
    let too_much = [
        json!([{"role": "run", "resource": "llms"}]),
        json!([{"role": "view", "resource": "llms"}]),
        json!([{"role": "view", "resource": "llms", "name": "a*"}]),
        json!([{"role": "view", "resource": "*"}]),
        json!([{"role": "run", "action": "audit"}]),
        json!([{"role": "view", "resource": "llms", "name": "a"}, {"role": "edit", "resource": "secrets"}]),
    ];
    for bindings in &too_much {
        delegate.post("/api/v1/rbac", &give("x", bindings.clone())).await.error(403);
        assert_eq!(delegate.get("/api/v1/rbac/x").await.status, 404, "nothing was stored");
    }
    delegate.create("rbac", &give("x", json!([{"role": "view", "resource": "llms", "name": "a"}]))).await;
    for bindings in &too_much {
        delegate.patch("/api/v1/rbac/x", &json!({"roleBindings": bindings})).await.error(403);
    }
    let me = delegate.get("/api/v1/auth/whoami").await.expect(200);
    let email =
        me.pointer("/user/name").or_else(|| me.get("name")).and_then(Value::as_str).unwrap().to_owned();
    let join = json!({"subjects": [{"kind": "User", "name": email}]});
    delegate.patch("/api/v1/rbac/admin", &join).await.error(403);
}

#[tokio::test]
async fn a_revocation_counts_at_once() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
    user.infer("a", &ask()).await.expect(200);
    let definitions = admin.get("/api/v1/rbac").await.expect(200);
    let mine = definitions.as_array().unwrap().iter().find(|item| item["name"] != "admin").unwrap();
    admin.delete(&format!("/api/v1/rbac/{}", mine["name"].as_str().unwrap())).await;
    let limit = std::time::Duration::from_secs(1);
    let refused = async || (user.infer("a", &ask()).await.status == 403).then_some(());
    eventually_within(limit, "the revocation counts", refused).await;
}

#[tokio::test]
async fn refusals_are_audited_and_the_log_is_not_for_everyone() {
    let (_server, admin, _provider) = with_llms(&["a"]).await;
    let nobody = admin.create_user_with(&json!([{"role": "edit", "resource": "*"}])).await;
    assert!(nobody.get("/api/v1/auditlogs").await.error(403).contains("audit"));
    nobody.infer("a", &ask()).await.error(403);
    let denied = async || {
        let events = admin.get("/api/v1/auditlogs?kind=denied").await.expect(200);
        let items = events["items"].as_array().unwrap().clone();
        items.iter().any(|event| event["permission"] == "run:llms:a").then_some(())
    };
    eventually("the refusal in the audit log", denied).await;
    let auditor = admin.create_user_with(&json!([{"role": "run", "action": "audit"}])).await;
    let events = auditor.get("/api/v1/auditlogs?limit=1").await.expect(200);
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
}
