//! What the backend does while all is well, and whom it asks.

use serde_json::{Value, json};
use tests::{OpenBao, Provider, Server, server::unique};

use super::{secret_in, values, with_bao};
use crate::journey::{mcpctl, succeed, text};

#[tokio::test]
async fn values_are_in_openbao_and_nowhere_else() {
    let Some((server, admin, bao, prefix)) = with_bao().await else { return };
    let [one, two] = [unique("one"), unique("two")];
    let made = secret_in(&server, &admin, "bao", "s", &json!({"a": one})).await;
    assert_eq!((&made["backend"], &made["keys"]), (&json!("bao"), &json!(["a"])));
    assert_eq!(made["externalRef"], format!("secret/{prefix}/s"));
    let path = format!("{prefix}/s");
    assert_eq!(bao.read("secret", &path).await, Some(json!({"a": one})));
    assert_eq!(values(&admin, "s").await, json!({"a": one}));

    server.canary.keep_secret("two", &two);
    let patched = admin.patch("/api/v1/secrets/s", &json!({"data": {"b": two}})).await.expect(200);
    assert_eq!(patched["keys"], json!(["a", "b"]));
    assert_eq!(bao.read("secret", &path).await, Some(json!({"a": one, "b": two})));
    admin.put("/api/v1/secrets/s", &json!({"description": "d"})).await.expect(200);
    let same = admin.put("/api/v1/secrets/s", &json!({"data": {"a": one, "b": two}})).await.expect(200);
    assert_eq!(same["version"], 3, "the same values make no version");

    // What somebody changes in OpenBao is as good as what we wrote.
    bao.write("secret", &path, &json!({"a": two})).await;
    assert_eq!(values(&admin, "s").await, json!({"a": two}));
    admin.patch("/api/v1/secrets/s", &json!({"data": {"c": one}})).await.expect(200);
    assert_eq!(bao.read("secret", &path).await, Some(json!({"a": two, "c": one})));

    assert_eq!(admin.delete("/api/v1/secrets/s").await.status, 204);
    assert_eq!(bao.list("secret", &prefix).await, Vec::<String>::new(), "all versions are gone");
    let (status, _) = bao.call("GET", &format!("secret/metadata/{path}"), &Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_somebody_else_keeps_there_is_not_overwritten() {
    let Some((server, admin, bao, prefix)) = with_bao().await else { return };
    let foreign = json!({"theirs": unique("foreign")});
    bao.write("secret", &format!("{prefix}/s"), &foreign).await;
    let ours = json!({"k": unique("ours")});
    server.canary.keep_secret("ours", ours["k"].as_str().unwrap());
    let body = json!({"name": "s", "backend": "bao", "data": ours});
    let refused = admin.post("/api/v1/secrets", &body).await.error(409);
    assert!(refused.contains("`bao`") && refused.contains(&format!("secret/{prefix}/s")), "{refused}");
    assert_eq!(bao.read("secret", &format!("{prefix}/s")).await, Some(foreign));
    assert_eq!(admin.get("/api/v1/secrets/s").await.status, 404);

    // The same values: an earlier attempt that came only this far. Deleted ones are nobody's.
    bao.write("secret", &format!("{prefix}/s"), &ours).await;
    admin.create("secrets", &body).await;
    assert_eq!(admin.delete("/api/v1/secrets/s").await.status, 204);
    bao.write("secret", &format!("{prefix}/s"), &json!({"old": "x"})).await;
    bao.expect("DELETE", &format!("secret/data/{prefix}/s"), &Value::Null).await;
    admin.create("secrets", &body).await;
    assert_eq!(values(&admin, "s").await, ours);
}

#[tokio::test]
async fn two_writers_of_one_secret_lose_nothing() {
    let Some((server, admin, bao, prefix)) = with_bao().await else { return };
    secret_in(&server, &admin, "bao", "s", &json!({})).await;
    let writers = (0..8).map(|number| {
        let admin = admin.clone();
        tokio::spawn(async move {
            let body = json!({"data": {format!("k{number}"): format!("value-{number}")}});
            admin.patch("/api/v1/secrets/s", &body).await.status
        })
    });
    let mut acknowledged = Vec::new();
    for (number, writer) in writers.collect::<Vec<_>>().into_iter().enumerate() {
        match writer.await.unwrap() {
            200 => acknowledged.push(format!("k{number}")),
            409 => {}
            status => panic!("{status}"),
        }
    }
    let held = bao.read("secret", &format!("{prefix}/s")).await.unwrap();
    let keys: Vec<&String> = held.as_object().unwrap().keys().collect();
    assert!(!acknowledged.is_empty() && acknowledged.iter().all(|key| held.get(key).is_some()), "{keys:?}");
    let row = admin.get("/api/v1/secrets/s").await.expect(200);
    assert_eq!(row["keys"], json!(keys), "the row says what is there");
}

#[tokio::test]
async fn a_second_mount_and_no_prefix() {
    let Some((server, admin, bao, _)) = with_bao().await else { return };
    let mount = format!("team/{}", unique("kv"));
    bao.mount(&mount).await;
    let config = json!({"url": bao.url(), "mount": mount, "pathPrefix": "", "tokenRef": {"name": "bao-token", "key": "token"}});
    admin.create("secretbackends", &json!({"name": "second", "type": "openbao", "config": config})).await;
    let data = json!({"k": unique("value")});
    let made = secret_in(&server, &admin, "second", "s", &data).await;
    assert_eq!(made["externalRef"], format!("{mount}/s"));
    assert_eq!(bao.read(&mount, "s").await, Some(data));
    // Values would be out of reach in another place.
    for change in [json!({"mount": "secret"}), json!({"pathPrefix": "x"}), json!({"namespace": "n"})] {
        let refused =
            admin.patch("/api/v1/secretbackends/second", &json!({"config": change})).await.error(409);
        assert!(refused.contains("migrate"), "{refused}");
    }
    admin.patch("/api/v1/secretbackends/second", &json!({"config": {"cacheSeconds": 5}})).await.expect(200);
}

#[tokio::test]
async fn tls_with_an_authority_of_its_own() {
    let Some((bao, authority)) = OpenBao::start_with_tls().await else { return };
    let server = Server::start().await;
    let admin = server.login_admin().await;
    bao.backend(&admin, "bao", "p", &bao.root).await;
    let test = async || admin.post("/api/v1/secretbackends/bao/test", &json!({})).await.expect(200);
    let refused = test().await;
    assert_eq!((&refused["ok"], &refused["cause"]), (&json!(false), &json!("unreachable")), "{refused}");
    let trusted = json!({"config": {"caCert": authority}});
    admin.patch("/api/v1/secretbackends/bao", &trusted).await.expect(200);
    assert_eq!(test().await["ok"], true);
    let data = json!({"k": unique("value")});
    secret_in(&server, &admin, "bao", "s", &data).await;
    assert_eq!((bao.read("secret", "p/s").await, values(&admin, "s").await), (Some(data.clone()), data));
}

#[tokio::test]
async fn calls_use_keys_from_openbao() {
    let Some((server, admin, _, _)) = with_bao().await else { return };
    let provider = Provider::start().await;
    let key = unique("sk-in-bao");
    secret_in(&server, &admin, "bao", "s", &json!({"k": key})).await;
    let llm = json!({"name": "a", "type": "openai", "model": "m", "url": provider.url(), "apiKeyRef": {"name": "s", "key": "k"}});
    admin.create("llms", &llm).await;
    admin.infer("a", &json!({"messages": [{"role": "user", "content": "x"}]})).await.expect(200);
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {key}").as_str()));
}

#[tokio::test]
async fn a_role_logs_in_and_again_when_its_token_is_revoked() {
    let Some((server, admin, bao, _)) = with_bao().await else { return };
    let [role, prefix] = [unique("role"), unique("prefix")];
    let mount = unique("approle");
    bao.expect("POST", &format!("sys/auth/{mount}"), &json!({"type": "approle"})).await;
    let policy = r#"path "secret/*" { capabilities = ["create", "update", "read", "delete"] }"#;
    bao.expect("POST", &format!("sys/policies/acl/{role}"), &json!({"policy": policy})).await;
    let settings = json!({"token_policies": [role], "token_ttl": "3s", "token_max_ttl": "6s"});
    bao.expect("POST", &format!("auth/{mount}/role/{role}"), &settings).await;
    let id = bao.expect("GET", &format!("auth/{mount}/role/{role}/role-id"), &Value::Null).await;
    let secret_id = bao.expect("POST", &format!("auth/{mount}/role/{role}/secret-id"), &json!({})).await;
    let secret_id = secret_id["data"]["secret_id"].as_str().unwrap();
    admin.create_secret("role", &json!({"secret": secret_id})).await;
    let config = json!({"url": bao.url(), "pathPrefix": prefix, "auth": "approle", "authMount": mount,
                        "roleId": id["data"]["role_id"], "secretIdRef": {"name": "role", "key": "secret"}});
    admin.create("secretbackends", &json!({"name": "r", "type": "openbao", "config": config})).await;
    let data = json!({"k": unique("value")});
    secret_in(&server, &admin, "r", "s", &data).await;
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(8) {
        // Beyond renewal, and beyond the greatest age.
        assert_eq!(values(&admin, "s").await, data);
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    bao.expect("POST", &format!("sys/leases/revoke-prefix/auth/{mount}"), &json!({})).await;
    assert_eq!(values(&admin, "s").await, data, "one login more");
    let tested = admin.post("/api/v1/secretbackends/r/test", &json!({})).await.expect(200);
    assert_eq!(tested["ok"], true, "{tested}");
    bao.expect("DELETE", &format!("auth/{mount}/role/{role}"), &Value::Null).await;
    bao.expect("POST", &format!("sys/leases/revoke-prefix/auth/{mount}"), &json!({})).await;
    let tested = admin.post("/api/v1/secretbackends/r/test", &json!({})).await.expect(200);
    assert_eq!((&tested["ok"], &tested["cause"]), (&json!(false), &json!("permission")), "{tested}");
}

#[tokio::test]
async fn whoever_decides_where_a_token_is_sent_must_be_allowed_to_read_it() {
    let Some((server, admin, bao, _)) = with_bao().await else { return };
    let editor = admin.create_user_with(&json!([{"role": "edit", "resource": "secretbackends"}])).await;
    let evil = Provider::start().await;
    admin.create_secret("mine", &json!({"token": unique("mine")})).await;
    let path = "/api/v1/secretbackends/bao";
    for change in [
        json!({"url": evil.url()}),
        json!({"tokenRef": {"name": "mine", "key": "token"}}),
        json!({"tokenRef": {"name": "bao-token", "key": "other"}}),
        json!({"namespace": "x"}),
        json!({"caCert": "-----BEGIN CERTIFICATE-----"}),
        json!({"more": 1}),
    ] {
        let refused = editor.patch(path, &json!({"config": change})).await.error(403);
        assert!(refused.contains("edit:secrets:"), "{change}: {refused}");
    }
    let config = json!({"url": evil.url(), "tokenRef": {"name": "bao-token", "key": "token"}});
    let body = json!({"name": "evil", "type": "openbao", "config": config});
    let refused = editor.post("/api/v1/secretbackends", &body).await.error(403);
    assert!(refused.contains("edit:secrets:bao-token"), "{refused}");
    editor.patch(path, &json!({"description": "d", "config": {"timeoutMs": 2000}})).await.expect(200);

    // The token is not all: what the backend holds would be sent there with its next change, and the values of every
    // new Secret, were it the default.
    secret_in(&server, &admin, "bao", "held", &json!({"value": unique("held")})).await;
    let bindings = json!([{"role": "edit", "resource": "secretbackends"},
                          {"role": "edit", "resource": "secrets", "name": "bao-token"}]);
    let reader = admin.create_user_with(&bindings).await;
    let refused = reader.patch(path, &json!({"config": {"url": evil.url()}})).await.error(403);
    assert!(refused.contains("edit:secrets:held"), "{refused}");
    for (method, path, body) in [
        ("PATCH", path, json!({"isDefault": true})),
        (
            "POST",
            "/api/v1/secretbackends",
            json!({"name": "evil", "type": "openbao", "config": config, "isDefault": true}),
        ),
    ] {
        let refused = reader.send(reader.request(method, path).json(&body)).await.error(403);
        assert!(refused.contains("missing permission `edit:secrets`"), "{refused}");
    }
    assert_eq!(evil.received().len(), 0);
    assert_eq!(admin.get(path).await.expect(200)["config"]["url"], bao.url());
}

#[tokio::test]
async fn a_backend_cannot_lose_its_token_or_need_itself() {
    let Some((server, admin, bao, _)) = with_bao().await else { return };
    let refused = admin.delete("/api/v1/secrets/bao-token").await.error(409);
    assert!(refused.contains("secretbackend") && refused.contains("`bao`"), "{refused}");
    assert_eq!(admin.delete("/api/v1/secrets/bao-token").await.status, 409);
    for (at, named) in [
        (json!({"name": "nowhere", "key": "k"}), "tokenRef.name"),
        (json!({"name": "bao-token"}), "tokenRef.key"),
    ] {
        let body = json!({"name": "b", "type": "openbao", "config": {"url": bao.url(), "tokenRef": at}});
        assert!(admin.post("/api/v1/secretbackends", &body).await.error(400).contains(named));
    }
    // A token may be kept in another OpenBao, but not by way of the backend that needs it.
    secret_in(&server, &admin, "bao", "inner", &json!({"token": bao.root})).await;
    let at = json!({"name": "inner", "key": "token"});
    let config = json!({"url": bao.url(), "pathPrefix": unique("prefix"), "tokenRef": at});
    admin.create("secretbackends", &json!({"name": "outer", "type": "openbao", "config": config})).await;
    let data = json!({"token": unique("value")});
    secret_in(&server, &admin, "outer", "outermost", &data).await;
    assert_eq!(values(&admin, "outermost").await, data);
    for name in ["inner", "outermost"] {
        let circle = json!({"config": {"tokenRef": {"name": name, "key": "token"}}});
        let refused = admin.patch("/api/v1/secretbackends/bao", &circle).await.error(400);
        assert!(refused.contains("another backend"), "{refused}");
    }
    assert_eq!(admin.delete("/api/v1/secrets/outermost").await.status, 204);
    assert_eq!(admin.delete("/api/v1/secretbackends/outer").await.status, 204);
    assert_eq!(admin.delete("/api/v1/secrets/inner").await.status, 204);
    assert_eq!(admin.delete("/api/v1/secretbackends/bao").await.status, 204);
    assert_eq!(admin.delete("/api/v1/secrets/bao-token").await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_makes_shows_and_tries_a_backend() {
    let Some(bao) = OpenBao::shared().await else { return };
    let server = Server::start().await;
    let password = server.admin_password().to_owned();
    succeed(&server, &["login", "--email", tests::server::ADMIN, "--password-stdin"], &password);
    server.canary.keep_secret("the root token", &bao.root);
    succeed(&server, &["create", "secret", "t", "--from-stdin", "token"], &bao.root);
    let (url, prefix) = (bao.url(), unique("prefix"));
    let made = succeed(
        &server,
        &[
            "create",
            "secretbackend",
            "bao",
            "--type",
            "openbao",
            "--description",
            "ours",
            "--default",
            "--url",
            &url,
            "--namespace",
            "",
            "--mount",
            "secret",
            "--path-prefix",
            &prefix,
            "--token-secret",
            "t/token",
            "--config",
            "cacheSeconds=60",
            "--config",
            "clientSecret=not-to-be-shown",
        ],
        "",
    );
    assert!(made.starts_with("secretbackend 'bao' created"), "{made}");
    let described = succeed(&server, &["describe", "secretbackend", "bao"], "");
    assert!(described.contains(&url) && described.contains("****"), "{described}");
    assert!(!described.contains("not-to-be-shown"), "{described}");
    let yaml = succeed(&server, &["get", "secretbackend", "bao", "-o", "yaml"], "");
    assert!(!yaml.contains("not-to-be-shown"), "{yaml}");
    assert_eq!(succeed(&server, &["apply", "-f", "-"], &yaml).trim(), "Unchanged secretbackend: bao");
    let tried = succeed(&server, &["test", "secretbackend", "bao"], "");
    assert!(tried.starts_with("secretbackend 'bao' works: "), "{tried}");
    let value = unique("value");
    server.canary.keep_secret("the value", &value);
    succeed(&server, &["create", "secret", "s", "--from-stdin", "k"], &value);
    assert_eq!(bao.read("secret", &format!("{prefix}/s")).await, Some(json!({"k": value})));
    let elsewhere = ["--url", "http://127.0.0.1:1", "--path-prefix", &prefix, "--token-secret", "t/token"];
    succeed(&server, &[&["create", "secretbackend", "bao", "--force"][..], &elsewhere].concat(), "");
    let output = mcpctl(&server, &["test", "secretbackend", "bao"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("does not work") && text(&output).contains("refused"),
        "{}",
        text(&output)
    );
}
