//! Projects: what their reference to an Llm leads to, and calls through them.

use serde_json::{Value, json};
use tests::{Api, Provider, Server, server::ADMIN};

use crate::journey::{mcpctl, succeed, text};

const P: &str = "/api/v1/projects/p";

fn ask(model: Option<&str>) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().unwrap().extend(model.map(|model| ("model".to_owned(), model.into())));
    body
}

async fn world() -> (Server, Api, Provider) {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for name in ["b-fast", "a-heavy"] {
        admin.create_llm(name, "openai", &provider).await;
    }
    admin.patch("/api/v1/llms/a-heavy", &json!({"tier": "heavy"})).await.expect(200);
    admin.create("projects", &json!({"name": "p", "llmProvider": "a-heavy"})).await;
    (server, admin, provider)
}

async fn refer(admin: &Api, llm: &str, model: &str) {
    admin.put(P, &json!({"llmProvider": llm, "llmModel": model})).await.expect(200);
}

async fn resolved(api: &Api) -> Value {
    api.get("/api/v1/projects/p/llm").await.expect(200)
}

fn on(role: &str, resource: &str, name: &str) -> Value {
    json!({"role": role, "resource": resource, "name": name})
}

#[tokio::test]
async fn a_project_is_kept_as_it_is_written() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let made = admin.create("projects", &json!({"name": "p"})).await;
    for (field, value) in [
        ("description", json!("")),
        ("prompt", json!("")),
        ("proxyModel", json!("")),
        ("gated", json!(false)),
        ("llmProvider", json!("")),
        ("llmModel", json!("")),
        ("servers", json!([])),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let long = "\u{e9}".repeat(10_000);
    let changes = json!({"prompt": long, "servers": ["files"], "gated": true, "llmProvider": "Not a/Name"});
    let kept = admin.put(P, &changes).await.expect(200);
    assert_eq!((&kept["prompt"], &kept["llmProvider"]), (&json!(long), &json!("Not a/Name")));
    let message = admin.put(P, &json!({"prompt": format!("{long}x"), "servers": [1]})).await.error(400);
    assert!(message.contains("prompt") && message.contains("servers"), "{message}");
    // A token may name a project, and outlives it.
    let (token, _) = admin.create_token(&json!({"name": "t", "project": "p"})).await;
    assert_eq!(token["project"], "p");
    admin.post("/api/v1/mcptokens", &json!({"name": "u", "project": "gone"})).await.error(400);
    assert_eq!(admin.delete(P).await.status, 204);
    assert_eq!(admin.get("/api/v1/mcptokens/t").await.expect(200)["project"], Value::Null);
}

#[tokio::test]
async fn the_reference_leads_to_an_llm_nowhere_or_to_the_default() {
    let (_server, admin, _provider) = world().await;
    let model = "a-heavy-model";
    assert_eq!(resolved(&admin).await, json!({"status": "registered", "llm": "a-heavy", "model": model}));
    refer(&admin, "a-heavy", "other").await;
    assert_eq!(resolved(&admin).await, json!({"status": "registered", "llm": "a-heavy", "model": "other"}));
    refer(&admin, "none", "other").await;
    assert_eq!(resolved(&admin).await, json!({"status": "disabled"}));
    for unknown in ["", "gone", "Not a/Name"] {
        refer(&admin, unknown, "").await;
        let expected = json!({"status": "unregistered", "llm": "b-fast", "model": "b-fast-model"});
        assert_eq!(resolved(&admin).await, expected, "{unknown:?}");
    }
    assert_eq!(admin.delete("/api/v1/llms/b-fast").await.status, 204);
    assert_eq!(resolved(&admin).await, json!({"status": "unregistered"}));
    admin.get("/api/v1/projects/q/llm").await.error(404);
}

#[tokio::test]
async fn who_may_neither_view_nor_run_an_llm_learns_nothing_of_it() {
    let (_server, admin, _provider) = world().await;
    let blind = admin.create_user_with(&json!([on("view", "projects", "p")])).await;
    for name in ["a-heavy", "gone"] {
        refer(&admin, name, "").await;
        assert_eq!(resolved(&blind).await, json!({"status": "unreachable"}), "{name}");
        assert!(blind.post(&format!("{P}/infer"), &ask(None)).await.error(403).contains("run:llms:"));
    }
    refer(&admin, "a-heavy", "").await;
    let viewer =
        admin.create_user_with(&json!([on("view", "projects", "p"), on("view", "llms", "a-heavy")])).await;
    assert_eq!(resolved(&viewer).await["llm"], "a-heavy");
    assert!(viewer.post(&format!("{P}/infer"), &ask(None)).await.error(403).contains("run:llms:a-heavy"));
    // The right to run the Llm is all it takes; without it, a project looks the same whether it exists or not.
    let runner = admin.create_user_with(&json!([on("run", "llms", "a-heavy")])).await;
    runner.post(&format!("{P}/infer"), &ask(None)).await.expect(200);
    runner.get("/api/v1/projects/p/llm").await.error(403);
    let other = admin.create_user_with(&json!([on("run", "llms", "b-fast")])).await;
    let refusals = ["p", "q"].map(|name| format!("/api/v1/projects/{name}/infer"));
    for path in &refusals {
        assert!(other.post(path, &ask(None)).await.error(403).contains("view:projects:"));
    }
    refer(&admin, "none", "").await;
    assert!(other.post(&refusals[0], &ask(None)).await.error(403).contains("view:projects:p"));
    assert!(admin.post(&refusals[0], &ask(None)).await.error(409).contains("off"));
    refer(&admin, "", "").await;
    other.post(&refusals[0], &ask(None)).await.expect(200);
    admin.post(&refusals[1], &ask(None)).await.error(404);
}

#[tokio::test]
async fn a_call_through_a_project_asks_for_its_model() {
    let (_server, admin, provider) = world().await;
    let path = format!("{P}/infer");
    for (own, asked, sent) in [
        ("", None, "a-heavy-model"),
        ("", Some("mine"), "mine"),
        ("theirs", None, "theirs"),
        ("theirs", Some(""), "theirs"),
        ("theirs", Some("a-heavy"), "theirs"),
        ("theirs", Some("mine"), "mine"),
    ] {
        refer(&admin, "a-heavy", own).await;
        admin.post(&path, &ask(asked)).await.expect(200);
        assert_eq!(provider.last().json()["model"], sent, "{own:?} {asked:?}");
    }
    assert!(admin.post(&path, &json!({})).await.error(400).contains("messages is required"));
    let mut streamed = ask(None);
    streamed["stream"] = true.into();
    let answer = admin.post(&path, &streamed).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call&llm=a-heavy").await.expect(200);
    assert!(!events["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_command_line_describes_where_a_project_leads() {
    let (server, _admin, _provider) = world().await;
    succeed(&server, &["login", "--email", ADMIN, "--password-stdin"], server.admin_password());
    let create =
        ["create", "project", "docs", "--llm", "gone", "--llm-model", "m", "--server", "files", "--gated"];
    let made = mcpctl(&server, &create, "");
    assert!(text(&made).contains("project 'docs' created (id: c"), "{}", text(&made));
    assert!(String::from_utf8_lossy(&made.stderr).contains("--gated is deprecated"));
    let shown = succeed(&server, &["describe", "project", "docs"], "");
    assert!(shown.starts_with("=== Project: docs ==="), "{shown}");
    for part in [
        "Plugin Config:\n  Plugin:     default\n",
        "gone  [warning: no Llm registered with this name \u{2014} will fall back to registry default]\n",
        "  LLM Model:  m  (override)\n",
        "Servers:\n  files\n",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    for llm in ["none", "b-fast"] {
        succeed(&server, &["create", "proj", "docs", "--llm", llm, "--force"], "");
        let shown = succeed(&server, &["describe", "project", "docs"], "");
        assert!(shown.contains(&format!("LLM:        {llm}\n")), "{shown}");
    }
    let made = succeed(&server, &["create", "mcptoken", "t", "--project", "docs"], "");
    assert!(made.contains("created"), "{made}");
    let exported = succeed(&server, &["get", "projects", "-o", "yaml"], "");
    let applied = succeed(&server, &["apply", "-f", "-"], &exported);
    assert!(applied.lines().all(|line| line.starts_with("Unchanged project: ")), "{applied}");
}
