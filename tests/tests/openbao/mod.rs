//! Secrets in a real OpenBao.

mod backend;
mod cache;
mod failures;
mod migration;

use serde_json::{Value, json};
use tests::{Api, OpenBao, Server, server::unique};

/// A server, and a backend `bao` at the shared OpenBao, below a prefix of its own.
async fn with_bao() -> Option<(Server, Api, &'static OpenBao, String)> {
    let bao = OpenBao::shared().await?;
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let prefix = unique("prefix");
    bao.backend(&admin, "bao", &prefix, &bao.root).await;
    Some((server, admin, bao, prefix))
}

/// Makes a Secret in a backend; its values must show nowhere from now on.
async fn secret_in(server: &Server, admin: &Api, backend: &str, name: &str, data: &Value) -> Value {
    keep_secret(server, data);
    admin.create("secrets", &json!({"name": name, "backend": backend, "data": data})).await
}

fn keep_secret(server: &Server, data: &Value) {
    for (key, value) in data.as_object().unwrap() {
        server.canary.keep_secret(&format!("value {key}"), value.as_str().unwrap());
    }
}

/// A Secret's values, as the API shows them to who may see them. The answer is not noted: it holds them, as it must.
async fn values(admin: &Api, name: &str) -> Value {
    let request = admin.request("GET", &format!("/api/v1/secrets/{name}?showValues=true"));
    let response = request.send().await.unwrap();
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{name}: {}", answer["error"]);
    answer["data"].clone()
}
