//! Groups, API tokens and acting for others, from outside.

use serde_json::{Value, json};
use tests::{Api, Provider, Server, server::ADMIN};

use crate::journey::{mcpctl, succeed, text};

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn on(role: &str, resource: &str) -> Value {
    json!({"role": role, "resource": resource})
}

async fn world() -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    admin.create_llm("claude", "anthropic", &provider).await;
    (server, admin, provider)
}

#[tokio::test]
async fn a_token_works_wherever_a_session_does_and_shows_nowhere() {
    let (server, admin, _provider) = world().await;
    let body = json!({"name": "ci", "roleBindings": [on("run", "llms"), on("view", "llms")], "ttl": "1h"});
    let (made, token) = admin.create_token(&body).await;
    assert!(made["token"].as_str().unwrap().starts_with("mcpctl_pat_"));
    assert_eq!((&made["owner"], &made["ttl"]), (&json!(ADMIN), &json!("1h")));
    token.infer("gpt", &ask("gpt")).await.expect(200);
    token.post("/v1/chat/completions", &ask("claude")).await.expect(200);
    let by_key = token.anonymous().request("POST", "/v1/messages");
    let by_key = by_key.header("x-api-key", token.token());
    let message = json!({"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    token.send(by_key.json(&message)).await.expect(200);
    assert_eq!(token.get("/api/v1/auth/whoami").await.expect(200)["token"], "ci");
    token.get("/api/v1/users").await.error(403);
    token.post("/api/v1/llms", &json!({})).await.error(403);

    let shown = admin.get("/api/v1/mcptokens/ci").await.expect(200);
    assert_ne!(shown["lastUsedAt"], "");
    assert_eq!(shown["tokenSha"].as_str().unwrap().len(), 64);
    assert!(shown.get("token").is_none() && shown.get("rbac").is_none());
    let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call").await.expect(200);
    for event in events["items"].as_array().unwrap() {
        assert_eq!((&event["user"], &event["token"]), (&json!(ADMIN), &json!("ci")), "{event}");
        assert_eq!(event["tokenSha"], shown["tokenSha"]);
    }
    // What was read can be written back, and what only the server sets cannot be set.
    admin.put("/api/v1/mcptokens/ci", &shown).await.expect(200);
    for (field, value) in [("tokenSha", "0".repeat(64)), ("expiresAt", "2099-01-01T00:00:00Z".to_owned())] {
        let refused = admin.patch("/api/v1/mcptokens/ci", &json!({field: value})).await.error(400);
        assert!(refused.contains(field), "{refused}");
    }
    admin.delete("/api/v1/mcptokens/ci").await;
    token.infer("gpt", &ask("gpt")).await.error(401);
    server.check_canary();
}

#[tokio::test]
async fn a_token_survives_a_restart_and_weakens_with_its_owner() {
    let (mut server, admin, _provider) = world().await;
    let owner = admin.create_user_with(&json!([on("run", "llms"), on("create", "mcptokens")])).await;
    let (_, token) = owner.create_token(&json!({"name": "clone", "rbac": "clone"})).await;
    token.infer("gpt", &ask("gpt")).await.expect(200);
    server.restart().await;
    let admin = server.login_admin().await;
    let token = admin.with_token(token.token());
    token.infer("gpt", &ask("gpt")).await.expect(200);
    let definitions = admin.get("/api/v1/rbac").await.expect(200);
    let theirs = definitions.as_array().unwrap().iter().find(|one| one["name"] != "admin").unwrap();
    let path = format!("/api/v1/rbac/{}", theirs["name"].as_str().unwrap());
    admin.patch(&path, &json!({"roleBindings": [on("create", "mcptokens")]})).await.expect(200);
    let refused = token.infer("gpt", &ask("gpt")).await.error(403);
    assert!(refused.contains("run:llms:gpt"), "{refused}");
    let answer = token.post("/api/v1/auth/can-i", &json!({"action": "run", "resource": "llms"})).await;
    let reason = answer.expect(200)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("its owner") && reason.contains("no more"), "{reason}");
    server.check_canary();
}

#[tokio::test]
async fn membership_counts_at_once_and_so_does_its_end() {
    let (_server, admin, _provider) = world().await;
    let user = admin.create_user_with(&json!([])).await;
    let email = user.get("/api/v1/auth/whoami").await.expect(200)["user"]["name"].clone();
    admin.create("groups", &json!({"name": "devs"})).await;
    let subjects = json!([{"kind": "Group", "name": "devs"}]);
    let bindings = json!([{"role": "run", "resource": "llms", "name": "gpt"}]);
    admin.create("rbac", &json!({"name": "devs", "subjects": subjects, "roleBindings": bindings})).await;
    user.infer("gpt", &ask("gpt")).await.error(403);
    admin.patch("/api/v1/groups/devs", &json!({"members": [email]})).await.expect(200);
    user.infer("gpt", &ask("gpt")).await.expect(200);
    user.infer("claude", &ask("claude")).await.error(403);
    let models = user.get("/v1/models").await.expect(200);
    assert_eq!(models["data"].as_array().unwrap().len(), 1);
    admin.patch("/api/v1/groups/devs", &json!({"members": []})).await.expect(200);
    user.infer("gpt", &ask("gpt")).await.error(403);
    // A group that is made anew under the name inherits nothing.
    admin.delete("/api/v1/groups/devs").await;
    admin.create("groups", &json!({"name": "devs", "members": [email]})).await;
    user.infer("gpt", &ask("gpt")).await.error(403);
}

#[tokio::test]
async fn acting_for_another_is_for_those_who_hold_as_much_and_leaves_both_names() {
    let (server, admin, _provider) = world().await;
    let user = admin.create_user_with(&json!([on("run", "llms")])).await;
    let email = user.get("/api/v1/auth/whoami").await.expect(200)["user"]["name"].clone();
    let email = email.as_str().unwrap();
    let acting =
        |api: &Api, method: &str, path: &str| api.request(method, path).header("Impersonate-User", email);
    let request = acting(&admin, "POST", "/api/v1/llms/gpt/infer").json(&ask("gpt"));
    admin.send(request).await.expect(200);
    admin.send(acting(&admin, "GET", "/api/v1/llms")).await.error(403);
    let whoami = admin.send(acting(&admin, "GET", "/api/v1/auth/whoami")).await.expect(200);
    assert_eq!((&whoami["user"]["name"], &whoami["impersonator"]), (&json!(email), &json!(ADMIN)));
    let events = admin.get("/api/v1/auditlogs").await.expect(200);
    let of = |kind: &str| {
        let mut events = events["items"].as_array().unwrap().iter();
        let event = events.find(|event| event["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        assert_eq!((&event["user"], &event["impersonator"]), (&json!(email), &json!(ADMIN)), "{event}");
        event.clone()
    };
    of("llm_inference_call");
    of("denied");
    assert_eq!(of("impersonation")["request"], "GET /api/v1/auth/whoami");

    let weak = admin.create_user_with(&json!([{"role": "run", "action": "impersonate"}])).await;
    let refused = weak.send(acting(&weak, "GET", "/api/v1/auth/whoami")).await.error(403);
    assert!(refused.contains("run:llms"), "{refused}");
    let refused = user.send(acting(&user, "GET", "/api/v1/auth/whoami")).await.error(403);
    assert!(refused.contains("impersonate"), "{refused}");
    let twice = acting(&admin, "GET", "/api/v1/llms").header("Impersonate-User", ADMIN);
    admin.send(twice).await.error(400);
    server.check_canary();
}

/// Whoever has everything but the right to edit one Secret tries each way to have its value sent elsewhere.
#[tokio::test]
async fn with_everything_but_one_secret_its_value_goes_nowhere_new() {
    let (server, admin, provider) = world().await;
    let elsewhere = Provider::start().await;
    let others = ["secretbackends", "llms", "users", "groups", "rbac", "mcptokens"];
    let mut bindings: Vec<Value> =
        others.iter().flat_map(|kind| [on("edit", kind), on("run", kind)]).collect();
    bindings.extend(["view", "create", "delete", "run", "expose"].map(|role| on(role, "secrets")));
    for operation in ["migrate-secrets", "backup", "restore", "audit", "impersonate"] {
        bindings.push(json!({"role": "run", "action": operation}));
    }
    let editor = admin.create_user_with(&bindings.into()).await;
    let email = editor.get("/api/v1/auth/whoami").await.expect(200)["user"]["name"].clone();
    let (url, reference) = (elsewhere.url(), json!({"name": "gpt-key", "key": "api-key"}));
    let (llm, root) = ("/api/v1/llms/gpt", format!("/api/v1/users/{ADMIN}"));
    for (method, path, body) in [
        ("PATCH", llm, json!({"url": url})),
        ("PUT", llm, json!({"url": url, "extraConfig": {}})),
        ("PATCH", llm, json!({"extraConfig": {"headers": {"x-a": "b"}}})),
        ("PATCH", llm, json!({"apiKeyRef": {"name": "gpt-key", "key": "other"}})),
        (
            "POST",
            "/api/v1/llms",
            json!({"name": "x", "type": "openai", "model": "m", "url": url, "apiKeyRef": reference}),
        ),
        (
            "POST",
            "/api/v1/llms",
            json!({"name": "x", "type": "vllm", "model": "m", "url": url, "apiKeyRef": reference}),
        ),
        ("PATCH", "/api/v1/secrets/gpt-key", json!({"data": {"api-key": "x"}})),
        ("GET", "/api/v1/secrets/gpt-key?showValues=true", json!(null)),
        (
            "POST",
            "/api/v1/rbac",
            json!({"name": "x", "subjects": [{"kind": "User", "name": email}],
                                        "roleBindings": [on("edit", "secrets")]}),
        ),
        ("PATCH", "/api/v1/rbac/admin", json!({"subjects": [{"kind": "User", "name": email}]})),
        ("POST", "/api/v1/mcptokens", json!({"name": "x", "roleBindings": [on("edit", "secrets")]})),
        ("POST", "/api/v1/mcptokens", json!({"name": "x", "owner": ADMIN, "rbac": "clone"})),
        ("PATCH", &root, json!({"password": "taken over!"})),
        ("DELETE", &root, json!(null)),
    ] {
        let reply = editor.send(editor.request(method, path).json(&body)).await;
        assert_eq!(reply.status, 403, "{method} {path} {body}: {}", reply.text());
    }
    let acting = editor.request("PATCH", llm).header("Impersonate-User", ADMIN).json(&json!({"url": url}));
    editor.send(acting).await.error(403);
    let mut group = json!({"name": "strong"});
    admin.create("groups", &group).await;
    let subjects = json!([{"kind": "Group", "name": "strong"}]);
    let strong = json!({"name": "strong", "subjects": subjects, "roleBindings": [on("edit", "secrets")]});
    admin.create("rbac", &strong).await;
    group["members"] = json!([email]);
    editor.put("/api/v1/groups/strong", &group).await.error(403);
    // What they may do: the Llm loses its key, and then goes anywhere.
    editor.patch(llm, &json!({"apiKeyRef": null})).await.expect(200);
    editor.patch(llm, &json!({"url": url})).await.expect(200);
    editor.infer("gpt", &ask("gpt")).await.expect(200);
    assert_eq!(elsewhere.last().header("authorization"), None);
    // Nor does the value come back with a Secret of the same name.
    editor.delete("/api/v1/secrets/gpt-key").await;
    assert_eq!(provider.received().len(), 0);
    server.check_canary();
}

#[tokio::test]
async fn the_command_line_makes_groups_and_tokens_and_tells_who_may() {
    let (server, _admin, _provider) = world().await;
    succeed(&server, &["login", "--email", ADMIN, "--password-stdin"], server.admin_password());
    succeed(&server, &["create", "user", "ann@example.com", "--password-stdin"], "correct horse battery");
    let made = succeed(&server, &["create", "group", "devs", "--member", "ann@example.com"], "");
    assert!(made.contains("group 'devs' created (id: c"), "{made}");
    succeed(&server, &["create", "rbac", "devs", "--subject", "Group:devs", "--binding", "run:llms:gpt"], "");
    let made = succeed(&server, &["create", "mcptoken", "ci", "--bind", "run:llms:gpt", "--ttl", "30d"], "");
    let token = made.lines().find_map(|line| line.strip_prefix("token: ")).unwrap();
    assert!(token.starts_with("mcpctl_pat_"), "{made}");
    let again = succeed(&server, &["create", "mcptoken", "ci", "--ttl", "60d", "--force"], "");
    assert!(again.contains("updated") && !again.contains("mcpctl_pat_"), "{again}");
    let table = succeed(&server, &["get", "mcptokens"], "");
    assert!(table.starts_with("NAME  OWNER"), "{table}");
    assert!(!table.contains("mcpctl_pat_"));
    let able = succeed(&server, &["auth", "who-can", "run", "llms", "gpt"], "");
    let lines: Vec<Vec<&str>> = able.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            vec!["KIND", "NAME", "BINDING", "GROUP"],
            vec!["User", ADMIN, "admin"],
            vec!["User", "ann@example.com", "devs", "devs"],
            vec!["Group", "devs", "devs"],
            vec!["McpToken", "ci", "mcptoken/ci"],
        ]
    );
    let asked = ["auth", "can-i", "run", "llms", "gpt", "--as", "ann@example.com"];
    let answer = text(&mcpctl(&server, &asked, ""));
    assert!(answer.starts_with("yes\n") && answer.contains("through the group `devs`"), "{answer}");
    let refused = mcpctl(&server, &["get", "llms", "--as", "ann@example.com"], "");
    assert_eq!(refused.status.code(), Some(1));
    succeed(&server, &["config", "impersonate", "ann@example.com"], "");
    let acting = text(&mcpctl(&server, &["whoami"], ""));
    assert!(acting.contains("ann@example.com") && acting.contains("Acting for"), "{acting}");
    succeed(&server, &["config", "impersonate", "--stop"], "");
    assert!(succeed(&server, &["get", "auditlogs"], "").contains(&format!("{ADMIN} as ann@example.com")));
    // An export of all of it comes back as it is.
    for kind in ["groups", "rbac", "mcptokens", "users"] {
        let exported = succeed(&server, &["get", kind, "-o", "yaml"], "");
        let applied = succeed(&server, &["apply", "-f", "-"], &exported);
        assert!(applied.lines().all(|line| line.starts_with("Unchanged ")), "{applied}");
    }
    let both = format!("{}\n{}", server.admin_password(), "another long one");
    let changed = succeed(&server, &["auth", "change-password", "--password-stdin"], &both);
    assert!(changed.contains(&format!("Password of {ADMIN} changed")), "{changed}");
    assert!(succeed(&server, &["whoami"], "").contains(ADMIN), "the new session is in use");
}
