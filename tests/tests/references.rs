//! What refers to what, and what becomes of it when things are deleted.

use serde_json::{Value, json};
use tests::{Api, Server, server::unique};

async fn with_key() -> (Server, Api) {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    for name in ["one", "two"] {
        admin.create_secret(name, &json!({"key": unique("sk-key"), "other": unique("sk-other")})).await;
    }
    let reference = json!({"name": "one", "key": "key"});
    let llm = json!({"name": "a", "type": "openai", "model": "m", "apiKeyRef": reference});
    admin.create("llms", &llm).await;
    (server, admin)
}

#[tokio::test]
async fn a_reference_to_nothing_is_refused_by_name() {
    let (_server, admin) = with_key().await;
    let reference = json!({"name": "nowhere", "key": "key"});
    let body = json!({"name": "b", "type": "openai", "model": "m", "apiKeyRef": reference});
    for reply in [
        admin.post("/api/v1/llms", &body).await,
        admin.patch("/api/v1/llms/a", &json!({"apiKeyRef": {"name": "nowhere"}})).await,
        admin.put("/api/v1/llms/a", &json!({"apiKeyRef": reference})).await,
    ] {
        assert!(reply.error(400).contains("apiKeyRef"), "{}", reply.text());
        assert!(reply.text().contains("nowhere"), "{}", reply.text());
    }
    for bad in [
        json!("one/key"),
        json!({"name": "one"}),
        json!({"name": "one", "key": ""}),
        json!([]),
        json!({"name": "one", "key": "key", "extra": 1}),
    ] {
        let message = admin.put("/api/v1/llms/a", &json!({"apiKeyRef": bad})).await.error(400);
        assert!(message.contains("apiKeyRef"), "{message}");
    }
    let backend = json!({"name": "s", "data": {}, "backend": "nowhere"});
    assert!(admin.post("/api/v1/secrets", &backend).await.error(400).contains("backend"));
    let nobody =
        json!({"name": "r", "subjects": [{"kind": "User", "name": "no@example.com"}], "roleBindings": []});
    assert!(admin.post("/api/v1/rbac", &nobody).await.error(400).contains("no@example.com"));
    assert_eq!(admin.get("/api/v1/llms/a").await.expect(200)["version"], 1);
}

#[tokio::test]
async fn a_key_reference_is_left_unlinked_or_replaced() {
    let (_server, admin) = with_key().await;
    let path = "/api/v1/llms/a";
    let kept = admin.put(path, &json!({"model": "new"})).await.expect(200);
    assert_eq!(kept["apiKeyRef"], json!({"name": "one", "key": "key"}), "absent leaves it");
    let replaced = admin.put(path, &json!({"apiKeyRef": {"name": "two", "key": "other"}})).await.expect(200);
    assert_eq!(replaced["apiKeyRef"], json!({"name": "two", "key": "other"}));
    for method in ["PUT", "PATCH"] {
        admin.put(path, &json!({"apiKeyRef": {"name": "two", "key": "other"}})).await.expect(200);
        let unlinked = admin.send(admin.request(method, path).json(&json!({"apiKeyRef": null}))).await;
        assert_eq!(unlinked.expect(200)["apiKeyRef"], Value::Null, "{method}");
    }
}

#[tokio::test]
async fn deleting_a_secret_unlinks_it_and_nothing_else() {
    let (_server, admin) = with_key().await;
    for (name, secret) in [("b", "one"), ("c", "two")] {
        let reference = json!({"name": secret, "key": "key"});
        let llm = json!({"name": name, "type": "openai", "model": "m", "apiKeyRef": reference});
        admin.create("llms", &llm).await;
    }
    let untouched = admin.get("/api/v1/llms/c").await.expect(200);
    assert_eq!(admin.delete("/api/v1/secrets/one").await.status, 204);
    for name in ["a", "b"] {
        let llm = admin.get(&format!("/api/v1/llms/{name}")).await.expect(200);
        assert_eq!((&llm["apiKeyRef"], &llm["version"]), (&Value::Null, &json!(2)));
        assert_eq!(llm["model"], "m");
    }
    assert_eq!(admin.get("/api/v1/llms/c").await.expect(200), untouched);
    assert_eq!(admin.delete("/api/v1/llms/c").await.status, 204);
    assert_eq!(admin.get("/api/v1/secrets/two").await.status, 200, "its secret stays");
    admin.create_secret("one", &json!({"key": unique("sk-again")})).await;
    let unlinked = admin.get("/api/v1/llms/a").await.expect(200);
    assert_eq!(unlinked["apiKeyRef"], Value::Null, "a new secret of that name inherits nothing");
}

#[tokio::test]
async fn a_backend_in_use_and_the_default_stay() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let backends = admin.get("/api/v1/secretbackends").await.expect(200);
    assert_eq!(backends.as_array().unwrap().len(), 1);
    assert_eq!((&backends[0]["name"], &backends[0]["type"]), (&json!("default"), &json!("plaintext")));
    assert_eq!(backends[0]["isDefault"], true);
    assert!(admin.delete("/api/v1/secretbackends/default").await.error(409).contains("default"));

    admin.create("secretbackends", &json!({"name": "other", "type": "plaintext"})).await;
    let secret = json!({"name": "s", "backend": "other", "data": {"k": "value-in-other"}});
    assert_eq!(admin.create("secrets", &secret).await["backend"], "other");
    let message = admin.delete("/api/v1/secretbackends/other").await.error(409);
    assert!(message.contains("other") || message.contains('s'), "{message}");
    assert_eq!(admin.delete("/api/v1/secrets/s").await.status, 204);
    assert_eq!(admin.delete("/api/v1/secretbackends/other").await.status, 204);
}

#[tokio::test]
async fn exactly_one_backend_is_the_default() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let defaults = async || {
        let list = admin.get("/api/v1/secretbackends").await.expect(200);
        let chosen = list.as_array().unwrap().iter().filter(|backend| backend["isDefault"] == true);
        chosen.map(|backend| backend["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    admin.create("secretbackends", &json!({"name": "second", "type": "plaintext", "isDefault": true})).await;
    assert_eq!(defaults().await, ["second"]);
    assert_eq!(admin.create("secrets", &json!({"name": "s", "data": {}})).await["backend"], "second");
    admin.put("/api/v1/secretbackends/default", &json!({"isDefault": true})).await.expect(200);
    assert_eq!(defaults().await, ["default"]);
    admin.put("/api/v1/secretbackends/default", &json!({"isDefault": false})).await.error(409);
    assert_eq!(defaults().await, ["default"]);

    let mut writers = tokio::task::JoinSet::new();
    for round in 0..10 {
        let (admin, name) = (admin.clone(), ["default", "second"][round % 2]);
        let body = json!({"isDefault": true});
        writers
            .spawn(async move { admin.put(&format!("/api/v1/secretbackends/{name}"), &body).await.status });
    }
    let statuses = writers.join_all().await;
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert_eq!(defaults().await.len(), 1);
}

#[tokio::test]
async fn whoever_is_made_again_inherits_nothing() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let (email, password) = ("again@example.com", unique("password"));
    let llm = json!({"name": "a", "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"});
    admin.create("llms", &llm).await;
    admin.create_user(email, &password).await;
    let bindings = json!([{"role": "view", "resource": "llms", "name": "a"}]);
    let subjects = json!([{"kind": "User", "name": email}]);
    let body = json!({"name": "r", "subjects": subjects, "roleBindings": bindings});
    admin.create("rbac", &body).await;
    let user = server.client().login(email, &password).await;
    assert_eq!(user.get("/api/v1/llms/a").await.status, 200);

    assert_eq!(admin.delete("/api/v1/llms/a").await.status, 204);
    admin.create("llms", &llm).await;
    assert_eq!(user.get("/api/v1/llms/a").await.status, 403, "another Llm of that name");

    assert_eq!(admin.delete(&format!("/api/v1/users/{email}")).await.status, 204);
    assert_eq!(user.get("/api/v1/llms/a").await.status, 401, "its sessions have ended");
    admin.create_user(email, &password).await;
    assert_eq!(user.get("/api/v1/llms/a").await.status, 401, "an old token is not the new user's");
    let user = server.client().login(email, &password).await;
    assert_eq!(user.get("/api/v1/llms").await.status, 403, "another user of that name");
}
