//! OpenBao away, sealed, slow, refusing, and what is no OpenBao at all: each is told apart, and none tells the token.

use serde_json::{Value, json};
use tests::{Api, OpenBao, Server, server::unique};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{keep_secret, secret_in, values, with_bao};

async fn tested(admin: &Api, name: &str) -> (Value, Value) {
    let answer = admin.post(&format!("/api/v1/secretbackends/{name}/test"), &json!({})).await.expect(200);
    (answer["cause"].clone(), answer["message"].clone())
}

#[tokio::test]
async fn stopped_sealed_and_started_again() {
    let Some(bao) = OpenBao::start_durable().await else { return };
    let server = Server::start().await;
    let admin = server.login_admin().await;
    bao.backend(&admin, "bao", "p", &bao.root).await;
    let data = json!({"k": unique("value")});
    secret_in(&server, &admin, "bao", "s", &data).await;
    let asked = async |part: &str, cause: &str| {
        let refused = admin.get("/api/v1/secrets/s?showValues=true").await.error(500);
        assert!(
            refused.contains("`bao`") && refused.contains("secret/p/s") && refused.contains(part),
            "{refused}"
        );
        assert_eq!(tested(&admin, "bao").await.0, cause);
        // What cannot be done leaves nothing half done.
        let body = json!({"name": "other", "backend": "bao", "data": {"k": "v"}});
        admin.post("/api/v1/secrets", &body).await.error(500);
        assert_eq!(admin.get("/api/v1/secrets/other").await.status, 404);
        admin.delete("/api/v1/secrets/s").await.error(500);
        admin.get("/api/v1/secrets/s").await.expect(200);
    };
    bao.seal().await;
    asked("sealed", "sealed").await;
    bao.unseal().await;
    assert_eq!(values(&admin, "s").await, data);
    bao.stop();
    asked("refused", "unreachable").await;
    bao.start_sealed().await;
    asked("sealed", "sealed").await;
    bao.unseal().await;
    assert_eq!(values(&admin, "s").await, data, "without a restart of ours");
}

#[tokio::test]
async fn tokens_that_may_less() {
    let Some((server, admin, bao, prefix)) = with_bao().await else { return };
    let data = json!({"k": unique("value")});
    secret_in(&server, &admin, "bao", "s", &data).await;
    let [read_only, revoked] = [unique("read-only"), unique("revoked")];
    let policy = format!(r#"path "secret/data/{prefix}/*" {{ capabilities = ["read"] }}"#);
    for (name, policy) in [(&read_only, policy.as_str()), (&revoked, policy.as_str())] {
        let token = bao.token(name, policy).await;
        let short = if name == &read_only { "ro" } else { "rv" };
        bao.backend(&admin, short, &prefix, &token).await;
        if short == "rv" {
            bao.expect("POST", "auth/token/revoke", &json!({"token": token})).await;
        }
    }
    let (cause, message) = tested(&admin, "ro").await;
    assert_eq!(cause, "permission");
    assert!(message.as_str().unwrap().contains("create and update"), "{message}");
    assert_eq!(tested(&admin, "rv").await.0, "permission");
    for backend in ["ro", "rv"] {
        let body = json!({"name": "new", "backend": backend, "data": {"k": "v"}});
        let refused = admin.post("/api/v1/secrets", &body).await.error(500);
        assert!(refused.contains("403") && refused.contains(&format!("`{backend}`")), "{refused}");
    }
    assert_eq!(values(&admin, "s").await, data);
}

#[tokio::test]
async fn values_that_were_deleted_there_are_a_404_until_new_ones_are_written() {
    let Some((server, admin, bao, prefix)) = with_bao().await else { return };
    secret_in(&server, &admin, "bao", "s", &json!({"k": unique("value")})).await;
    bao.expect("DELETE", &format!("secret/data/{prefix}/s"), &Value::Null).await;
    let refused = admin.get("/api/v1/secrets/s?showValues=true").await.error(500);
    assert!(refused.contains("404"), "{refused}");
    let data = json!({"k": unique("value")});
    keep_secret(&server, &data);
    admin.patch("/api/v1/secrets/s", &json!({"data": data})).await.error(500);
    admin.put("/api/v1/secrets/s", &json!({"data": data})).await.expect(200);
    assert_eq!(values(&admin, "s").await, data);
    bao.write("secret", &format!("{prefix}/s"), &json!({"k": {"nested": [1]}})).await;
    let refused = admin.get("/api/v1/secrets/s?showValues=true").await.error(500);
    assert!(refused.contains("`k` is no text"), "{refused}");
}

/// Answers every request with the same bytes; `None` never answers. Says what it was asked.
async fn stub(answer: Option<&'static str>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 16 * 1024];
            let length = stream.read(&mut buffer).await.unwrap();
            let _ = told.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                None => open.push(stream),
            }
        }
    });
    (url, asked)
}

#[tokio::test]
async fn what_is_no_openbao_is_told_apart() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let token = unique("hvs-token");
    admin.create_secret("t", &json!({"token": token})).await;
    let cases: [(&str, Option<&'static str>, &str); 6] = [
        ("slow", None, "timeout"),
        (
            "html",
            Some("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"),
            "malformed",
        ),
        (
            "cut",
            Some("HTTP/1.1 200 OK\r\ncontent-length: 60\r\nconnection: close\r\n\r\n{\"data"),
            "unreachable",
        ),
        (
            "away",
            Some(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
            "malformed",
        ),
        ("broken", Some("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "refused"),
        (
            "plain",
            Some("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nnot found"),
            "not-found",
        ),
    ];
    for (name, answer, cause) in cases {
        let (url, mut asked) = stub(answer).await;
        let config = json!({"url": url, "namespace": "team-a", "timeoutMs": 400, "tokenRef": {"name": "t", "key": "token"}});
        admin.create("secretbackends", &json!({"name": name, "type": "openbao", "config": config})).await;
        let (found, message) = tested(&admin, name).await;
        assert_eq!(found, cause, "{name}: {message}");
        let request = asked.recv().await.unwrap().to_lowercase();
        assert!(request.starts_with("get /v1/secret/data/mcpctl/"), "{request}");
        for header in ["x-vault-namespace: team-a".to_owned(), format!("x-vault-token: {token}")] {
            assert!(request.contains(&header), "{name}: no {header}");
        }
        let body = json!({"name": "s", "backend": name, "data": {"k": "value"}});
        let refused = admin.post("/api/v1/secrets", &body).await.error(500);
        assert!(refused.contains(&format!("`{name}`")) && refused.contains("secret/mcpctl/s"), "{refused}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_addresses_that_no_server_should_call() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create_secret("t", &json!({"token": unique("token")})).await;
    for url in [
        "http://169.254.169.254",
        "http://[fe80::1]:8200",
        "http://u:p@127.0.0.1:1",
        "ftp://x",
        "http://0.0.0.0:1",
    ] {
        let config = json!({"url": url, "tokenRef": {"name": "t", "key": "token"}});
        let body = json!({"name": "b", "type": "openbao", "config": config});
        assert!(admin.post("/api/v1/secretbackends", &body).await.error(400).contains("config.url"), "{url}");
    }
    let config = json!({"url": "https://127.0.0.1:1", "caCert": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                        "tokenRef": {"name": "t", "key": "token"}});
    let body = json!({"name": "b", "type": "openbao", "config": config});
    assert!(admin.post("/api/v1/secretbackends", &body).await.error(400).contains("config.caCert"));
}
