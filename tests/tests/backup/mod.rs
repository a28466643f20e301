//! Backups: from the real server through the real command line into a file, and back.

mod conflicts;
mod damage;
mod rights;
mod round_trip;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};
use tests::{
    Api, Server,
    server::{ADMIN, unique},
};

use crate::journey::{mcpctl, succeed, text};

const PASSPHRASE: &str = "correct horse battery staple";

/// A server with a home that is logged in to it, and the admin.
async fn logged_in() -> (Server, Api) {
    let server = Server::start().await;
    log_in(&server);
    let admin = server.login_admin().await;
    (server, admin)
}

fn log_in(server: &Server) {
    succeed(server, &["login", "--email", ADMIN, "--password-stdin"], server.admin_password());
}

/// Makes something of every kind. The secret values, the password of `eve@example.com`, and two tokens of hers: one
/// that lives and one that has been revoked.
async fn stock(server: &Server, admin: &Api) -> (Value, String, [Api; 2]) {
    let data = json!({"api-key": unique("sk-backup"), "other": unique("other-backup")});
    admin.create_secret("keys", &data).await;
    let at = json!({"name": "keys", "key": "api-key"});
    admin
        .create("secretbackends", &json!({"name": "second", "type": "plaintext", "description": "2nd"}))
        .await;
    admin.create("secrets", &json!({"name": "elsewhere", "backend": "second", "data": {}})).await;
    let extra = json!({"headers": {"x-team": "blue"}, "maxTokens": 7});
    admin
        .create(
            "llms",
            &json!({"name": "gpt", "type": "openai", "model": "gpt-4o", "tier": "heavy",
                                "apiKeyRef": at, "extraConfig": extra}),
        )
        .await;
    admin
        .create(
            "llms",
            &json!({"name": "small", "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"}),
        )
        .await;
    admin.patch("/api/v1/llms/small", &json!({"description": "changed once"})).await.expect(200);
    let password = unique("eves-password");
    admin.create_user("eve@example.com", &password).await;
    admin.create_user("bob@example.com", &unique("bobs-password")).await;
    admin.create("groups", &json!({"name": "team", "members": ["eve@example.com", "bob@example.com"]})).await;
    admin.create("projects", &json!({"name": "web", "llmProvider": "gpt", "prompt": "be brief"})).await;
    let bindings = json!([{"role": "view", "resource": "llms"}, {"role": "run", "resource": "llms", "name": "gpt"},
                          {"role": "create", "resource": "mcptokens"}, {"role": "run", "action": "audit"}]);
    let subjects = json!([{"kind": "Group", "name": "team"}]);
    admin.create("rbac", &json!({"name": "of-team", "subjects": subjects, "roleBindings": bindings})).await;
    let eve = server.client().login("eve@example.com", &password).await;
    let token = |name: &str, ttl: &str| json!({"name": name, "project": "web", "ttl": ttl, "roleBindings": [{"role": "view", "resource": "llms"}]});
    let (_, live) = eve.create_token(&token("live", "30d")).await;
    let (_, revoked) = eve.create_token(&token("revoked", "")).await;
    let subjects = json!([{"kind": "McpToken", "name": "live"}]);
    let bindings = json!([{"role": "run", "resource": "llms", "name": "gpt"}]);
    admin.create("rbac", &json!({"name": "of-token", "subjects": subjects, "roleBindings": bindings})).await;
    (data, password, [live, revoked])
}

/// Where a backup of this server goes.
fn file_of(server: &Server) -> PathBuf {
    server.folder().join("all.backup")
}

fn create(server: &Server, more: &[&str]) -> PathBuf {
    let file = file_of(server);
    let mut args = vec!["backup", "create", "--passphrase-stdin", "--force", "-f"];
    args.push(file.to_str().unwrap());
    args.extend(more);
    succeed(server, &args, PASSPHRASE);
    file
}

fn try_restore(server: &Server, file: &Path, more: &[&str]) -> Output {
    let mut args = vec!["backup", "restore", file.to_str().unwrap(), "--passphrase-stdin"];
    args.extend(more);
    mcpctl(server, &args, PASSPHRASE)
}

fn restore(server: &Server, file: &Path, more: &[&str]) -> String {
    let output = try_restore(server, file, more);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// Everything, as `apply` takes it.
fn everything(server: &Server) -> String {
    succeed(server, &["get", "all", "-o", "yaml"], "")
}

/// A Secret's values. The answer is not noted: it holds them, as it must.
async fn values(admin: &Api, name: &str) -> Value {
    let request = admin.request("GET", &format!("/api/v1/secrets/{name}?showValues=true"));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["data"].clone()
}

/// The backup of a server, as the server gives it out. Not noted, as it holds hashes.
async fn exported(admin: &Api) -> Vec<Value> {
    let request = admin.request("POST", "/api/v1/backup").json(&json!({"withValues": true}));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["resources"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

async fn status_with_token(server: &Server, api: &Api) -> u16 {
    server.client().with_token(api.token()).get("/api/v1/auth/whoami").await.status
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600
}
