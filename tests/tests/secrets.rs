//! Secret values: kept encrypted, shown only to who may edit them.

use serde_json::{Value, json};
use tests::{Canary, Server, eventually, server::unique};

#[tokio::test]
async fn values_are_never_in_an_answer_unless_asked_for() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let data = json!({"b": unique("value"), "a": format!("{}\n\"quoted\" ü", unique("value"))});
    let made = admin.create_secret("s", &data).await;
    assert_eq!((&made["keys"], &made["backend"]), (&json!(["a", "b"]), &json!("default")));
    for shown in [made, admin.get("/api/v1/secrets/s").await.expect(200)] {
        assert!(shown.get("data").is_none(), "{shown}");
    }
    let listed = admin.get("/api/v1/secrets?showValues=true").await;
    assert!(!listed.text().contains("canary"), "lists never show values: {}", listed.text());
    let shown = admin.get("/api/v1/secrets/s?showValues=true").await.expect(200);
    assert_eq!(shown["data"], data);
    let reveals = async || {
        let events = admin.get("/api/v1/auditlogs?kind=secret_reveal").await.expect(200);
        events["items"].as_array().unwrap().first().cloned()
    };
    assert_eq!(eventually("the reveal in the audit log", reveals).await["name"], "s");
}

#[tokio::test]
async fn showing_values_takes_the_right_to_edit() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create_secret("s", &json!({"k": unique("value")})).await;
    let viewer = admin.create_user_with(&json!([{"role": "view", "resource": "secrets"}])).await;
    assert_eq!(viewer.get("/api/v1/secrets/s").await.status, 200);
    let refused = viewer.get("/api/v1/secrets/s?showValues=true").await.error(403);
    assert!(refused.contains("edit:secrets:s"), "{refused}");
    let editor = json!([{"role": "edit", "resource": "secrets", "name": "s"}]);
    let editor = admin.create_user_with(&editor).await;
    assert!(editor.get("/api/v1/secrets/s?showValues=true").await.expect(200)["data"]["k"].is_string());
}

#[tokio::test]
async fn values_change_as_put_and_patch_say() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let [one, two, three] = [unique("one"), unique("two"), unique("three")];
    admin.create_secret("s", &json!({"a": one, "b": two})).await;
    let path = "/api/v1/secrets/s";
    let values = async || admin.get(&format!("{path}?showValues=true")).await.expect(200)["data"].clone();

    admin.put(path, &json!({"description": "d"})).await.expect(200);
    assert_eq!(values().await, json!({"a": one, "b": two}), "absent data leaves the values");
    let patched = admin.patch(path, &json!({"data": {"a": null, "c": three}})).await.expect(200);
    assert_eq!(patched["keys"], json!(["b", "c"]));
    assert_eq!(values().await, json!({"b": two, "c": three}));
    admin.put(path, &json!({"data": {"a": one}})).await.expect(200);
    assert_eq!(values().await, json!({"a": one}), "PUT replaces the map");
    for bad in [json!({"": "x"}), json!({"a": 1}), json!({"a": null}), json!("x"), json!(["x"])] {
        assert!(admin.put(path, &json!({"data": bad})).await.error(400).contains("data"), "{bad}");
    }
    assert_eq!(values().await, json!({"a": one}));
}

#[tokio::test]
async fn a_wrong_value_is_not_echoed() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let secret = unique("echoed");
    server.canary.keep_secret("a value in a bad request", &secret);
    for body in [
        json!({"name": "Bad Name", "data": {"k": secret}}),
        json!({"name": "s", "data": {"k": secret}, "unknown": 1}),
        json!({"name": "s", "data": {"k": [secret]}}),
        json!({"name": "s", "backend": "nowhere", "data": {"k": secret}}),
        json!({"name": "s", "data": secret}),
    ] {
        admin.post("/api/v1/secrets", &body).await.error(400);
    }
    let cut = format!("{{\"name\": \"s\", \"data\": {{\"k\": \"{secret}\"");
    let request = admin.request("POST", "/api/v1/secrets").header("content-type", "application/json");
    admin.send(request.body(cut)).await.error(400);
    let user = json!({"name": "no address", "password": secret});
    admin.post("/api/v1/users", &user).await.error(400);
    server
        .client()
        .post("/api/v1/auth/login", &json!({"email": "a@b.example", "password": secret}))
        .await
        .error(401);
}

#[tokio::test]
async fn credentials_in_a_backends_config_are_masked() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let secret = unique("client-secret");
    admin.create_secret("bao", &json!({"token": unique("bao-token")})).await;
    let config = json!({"url": "http://127.0.0.1:1", "tokenRef": {"name": "bao", "key": "token"}, "clientSecret": secret});
    let made =
        admin.create("secretbackends", &json!({"name": "b", "type": "openbao", "config": config})).await;
    let shown = &made["config"];
    assert_eq!(shown["tokenRef"], json!({"name": "bao", "key": "token"}), "a reference is no credential");
    assert_ne!(shown["clientSecret"], json!(secret));
    let mut again = shown.clone();
    again["url"] = "http://127.0.0.1:2".into();
    let put = admin.put("/api/v1/secretbackends/b", &json!({"config": again})).await.expect(200);
    assert_eq!(put["config"]["clientSecret"], shown["clientSecret"]);
    for path in ["/api/v1/secretbackends", "/api/v1/secretbackends/b"] {
        assert!(!admin.get(path).await.text().contains(&secret), "{path}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_resolved_is_a_500_that_says_so() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create_secret("s", &json!({"k": unique("value")})).await;
    let reference = json!({"name": "s", "key": "missing"});
    let llm = json!({"name": "a", "type": "openai", "model": "m", "url": "http://127.0.0.1:1", "apiKeyRef": reference});
    admin.create("llms", &llm).await;
    let ask = json!({"messages": [{"role": "user", "content": "x"}]});
    let reply = admin.infer("a", &ask).await;
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert!(reply.text().contains("Failed to resolve API key: "), "{}", reply.text());
    let stream = admin.infer("a", &json!({"stream": true, "messages": ask["messages"]})).await;
    assert_eq!(stream.status, 500, "before the first byte it is an HTTP error: {}", stream.text());
    assert_ne!(reply.json(), Value::Null);
}

/// Were the search blind, every other test of this sort would prove nothing.
#[tokio::test]
async fn the_search_for_secrets_finds_what_is_there() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let public = unique("a-description");
    admin.create("secrets", &json!({"name": "s", "description": public, "data": {}})).await;
    let control = Canary::default();
    control.keep_secret("a description", &public);
    let database = server.database_bytes();
    assert_eq!(control.found([("the database", database.as_slice())]).len(), 1);
    control.saw("the list", admin.get("/api/v1/secrets").await.text());
    assert_eq!(control.found([]).len(), 1);
    // The log is at its most talkative, so that what is not in it is really kept out.
    let log = server.log();
    assert!(log.contains("DEBUG") && log.contains("listening"), "{log:.400}");
    let keys = server.key_files();
    assert_eq!(keys.len(), 1, "{keys:?}");
}
