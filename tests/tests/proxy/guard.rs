//! Who is let in.

use std::fs;

use reqwest::header::HOST;
use serde_json::json;
use tests::{Server, http1};

use super::{Proxy, World, chat};

#[tokio::test]
async fn names_pages_and_tokens_are_checked_before_anything_is_sent_on() {
    let world = World::make(600).await;
    let proxy = Proxy::start_with(
        &world.server.url(),
        &world.admin,
        world.providers(),
        &["--allow-origin", "http://localhost:5173"],
    )
    .await;
    let (port, token) = (proxy.address.port(), format!("Bearer {}", proxy.api.token()));
    let body = chat("gpt", false).to_string();
    let own = proxy.address.to_string();
    for (host, headers, expected) in [
        (own.as_str(), format!("authorization: {token}\r\n"), 200),
        (&format!("localhost:{port}"), format!("x-api-key: {}\r\n", proxy.api.token()), 200),
        (&own, format!("authorization: {token}\r\norigin: http://localhost:5173\r\n"), 200),
        (&format!("evil.example:{port}"), format!("authorization: {token}\r\n"), 421),
        ("127.0.0.1", format!("authorization: {token}\r\n"), 421),
        (&own, format!("authorization: {token}\r\norigin: https://evil.example\r\n"), 403),
        (&own, format!("authorization: {token}\r\norigin: null\r\n"), 403),
        (&own, format!("authorization: {token}\r\nsec-fetch-site: cross-site\r\n"), 403),
        (&own, String::new(), 401),
        (&own, format!("authorization: {token}x\r\n"), 401),
        (&own, format!("authorization: Bearer {}\r\n", world.admin.token()), 401),
    ] {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n{headers}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let before = world.remote.received().len();
        let reply = http1::exchange(proxy.address, request.as_bytes()).await.unwrap();
        assert_eq!(reply.status, expected, "{host} {headers}: {}", reply.text());
        let reached = world.remote.received().len() - before;
        assert_eq!(reached, usize::from(expected == 200), "{host} {headers}");
        if expected != 200 {
            assert!(reply.json()["error"]["message"].is_string());
        }
    }
    assert_eq!(proxy.api.anonymous().get("/-/status").await.status, 401);
    assert_eq!(proxy.api.anonymous().post("/-/providers/local/stop", &json!({})).await.status, 401);
    // What a browser asks first, for the page that may and one that may not.
    for (origin, expected) in [("http://localhost:5173", 204), ("http://evil.example", 403)] {
        let request =
            proxy.api.anonymous().request("OPTIONS", "/v1/chat/completions").header("origin", origin);
        let reply = proxy.api.send(request).await;
        assert_eq!(reply.status, expected, "{origin}");
        let allowed = if expected == 204 { origin } else { "" };
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
    }
}

#[tokio::test]
async fn the_token_is_kept_where_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let mut proxy = Proxy::start(&server, &admin, json!([])).await;
    let file = proxy.home.path().join("proxy.json");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains(proxy.api.token()));
    // A second one for the same user would take the first one's place.
    let again = proxy.run(&server.url(), &admin, &["proxy", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.status.code() == Some(1) && said.contains("a proxy runs already, at http://127.0.0.1:"),
        "{said}"
    );
    proxy.process.signal("TERM");
    assert!(proxy.process.wait(tests::wait::SOON).success());
    assert!(!file.exists());
    let everywhere = proxy.run(&server.url(), &admin, &["proxy", "--listen", "0.0.0.0:0", "--no-token"]);
    assert_eq!(everywhere.status.code(), Some(2));
}

#[tokio::test]
async fn a_token_file_is_made_once_and_no_token_is_a_choice() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    let args = ["--token-file", file.to_str().unwrap()];
    let first = Proxy::start_with(&server.url(), &admin, json!([]), &args).await;
    let second = Proxy::start_with(&server.url(), &admin, json!([]), &args).await;
    assert_eq!(first.api.token(), second.api.token());
    assert_eq!(second.api.get("/v1/models").await.status, 200);
    let open = Proxy::start_with(&server.url(), &admin, json!([]), &["--no-token"]).await;
    assert_eq!(open.api.anonymous().get("/v1/models").await.status, 200);
    let elsewhere = open.api.anonymous().request("GET", "/v1/models").header(HOST, "evil.example");
    assert_eq!(open.api.send(elsewhere).await.status, 421);
}
