//! Bad input: a clear 4xx, and the server unharmed.

use std::time::Duration;

use serde_json::json;
use tests::{
    Api, Server,
    http1::{Connection, RawReply},
    within,
};

const MOST: usize = 10 << 20;

async fn with_llm() -> (Server, Api) {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin
        .create("llms", &json!({"name": "a", "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"}))
        .await;
    (server, admin)
}

async fn send(api: &Api, method: &str, path: &str, headers: &str, body: &[u8]) -> RawReply {
    let authorization = format!("Authorization: Bearer {}\r\n", api.token());
    anonymous(api, method, path, &format!("{authorization}{headers}"), body).await
}

async fn anonymous(api: &Api, method: &str, path: &str, headers: &str, body: &[u8]) -> RawReply {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    api.raw(&head, body).await.unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

const JSON: &str = "Content-Type: application/json\r\n";

/// Where bodies are read, with the method.
const BODIES: [(&str, &str); 6] = [
    ("POST", "/api/v1/llms"),
    ("PUT", "/api/v1/llms/a"),
    ("PATCH", "/api/v1/llms/a"),
    ("POST", "/api/v1/llms/a/infer"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/api/v1/auth/can-i"),
];

#[tokio::test]
async fn what_is_no_json_is_a_400_everywhere() {
    let (server, admin) = with_llm().await;
    let deep_arrays = "[".repeat(100_000);
    let deep_objects = "{\"a\":".repeat(100_000);
    let closed = format!("{{\"name\":\"b\",\"messages\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bad: [&[u8]; 16] = [
        b"",
        b"{",
        b"nonsense",
        b"{\"a\": }",
        b"{'a': 1}",
        b"{\"a\": 1,}",
        b"{\"a\": 1} trailing",
        b"{\"a\": NaN}",
        b"{\"a\": 1e999}",
        b"{\"model\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"\xFF\xFE\"}]}",
        b"\xFF\xFE{\x00}\x00",
        b"{\"name\": \"\\ud800\"}",
        b"{\"name\": \"a\tb\nc\"}",
        deep_arrays.as_bytes(),
        deep_objects.as_bytes(),
        closed.as_bytes(),
    ];
    for (method, path) in BODIES {
        for body in bad {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let reply = send(&admin, method, path, JSON, body).await;
            assert_eq!(reply.status, 400, "{method} {path} {shown:?}: {}", reply.text());
            assert!(!reply.json()["error"].is_null(), "{method} {path} {shown:?}: {}", reply.text());
        }
    }
    assert!(server.is_running());
    admin.get("/api/v1/llms/a").await.expect(200);
}

#[tokio::test]
async fn wrong_types_are_named() {
    let (_server, admin) = with_llm().await;
    for (field, value) in [
        ("model", json!(1)),
        ("tier", json!(["fast"])),
        ("url", json!({})),
        ("extraConfig", json!("x")),
        ("description", json!(true)),
        ("apiKeyRef", json!(1)),
        ("type", json!(null)),
    ] {
        for method in ["PUT", "PATCH"] {
            let body = json!({field: value}).to_string();
            let reply = send(&admin, method, "/api/v1/llms/a", JSON, body.as_bytes()).await;
            assert_eq!(reply.status, 400, "{method} {body}: {}", reply.text());
            assert!(reply.text().contains(field), "{method} {body}: {}", reply.text());
        }
    }
    for body in ["[]", "1", "\"x\"", "null", "true"] {
        for (method, path) in BODIES {
            let reply = send(&admin, method, path, JSON, body.as_bytes()).await;
            assert_eq!(reply.status, 400, "{method} {path} {body}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn the_same_key_twice_is_refused() {
    let (_server, admin) = with_llm().await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let cases = [
        ("/v1/chat/completions", format!(r#"{{"model":"a","model":"b",{messages}}}"#)),
        ("/v1/chat/completions", format!(r#"{{"model":"a","mod\u0065l":"b",{messages}}}"#)),
        ("/v1/chat/completions", format!(r#"{{"model":"a",{messages},{messages}}}"#)),
        ("/v1/chat/completions", format!(r#"{{"model":"a","stream":false,"stream":true,{messages}}}"#)),
        ("/api/v1/llms/a/infer", format!(r#"{{"model":"a","model":"b",{messages}}}"#)),
        ("/api/v1/llms", r#"{"name":"x","name":"y","type":"openai","model":"m"}"#.to_owned()),
        ("/api/v1/auth/can-i", r#"{"action":"view","resource":"llms","resource":"secrets"}"#.to_owned()),
        (
            "/api/v1/rbac",
            r#"{"name":"r","subjects":[],"roleBindings":[{"role":"view","role":"edit","resource":"llms"}]}"#
                .to_owned(),
        ),
    ];
    for (path, body) in cases {
        let reply = send(&admin, "POST", path, JSON, body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let (server, admin) = with_llm().await;
    let head = |token: &str, path: &str, length: usize| {
        let authorization =
            if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}{JSON}Content-Length: {length}\r\n\r\n")
    };
    for path in ["/api/v1/llms", "/api/v1/llms/a/infer", "/v1/chat/completions"] {
        for (token, status) in [(admin.token(), 413), ("", 401), ("wrong", 401)] {
            // Nothing of the body is sent: whoever waits for it never answers.
            let reply = admin.raw(&head(token, path, MOST + 1), b"").await.expect("an answer");
            assert_eq!(reply.status, status, "{path}: {}", reply.text());
        }
        let mut connection = Connection::open(server.address()).await;
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n",
            admin.token()
        );
        connection.write(chunked.as_bytes()).await.unwrap();
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
        let flood = async {
            for _ in 0..12 {
                if connection.write(&chunk).await.is_err() {
                    break;
                }
            }
            connection.reply().await
        };
        let reply = within(Duration::from_secs(20), "the refusal of a chunked flood", flood).await;
        assert!(reply.is_none_or(|reply| reply.status == 413), "{path}");
    }
    let big = format!(
        "{{\"name\":\"b\",\"type\":\"openai\",\"model\":\"m\",\"description\":\"{}\"}}",
        "d".repeat(9 << 20)
    );
    let reply = send(&admin, "POST", "/api/v1/llms", JSON, big.as_bytes()).await;
    assert_eq!(reply.status, 400, "within the limit it is judged by what it says");
}

#[tokio::test]
async fn what_is_not_labelled_json_is_a_415() {
    let (_server, admin) = with_llm().await;
    let body = json!({"name": "b", "type": "openai", "model": "m"}).to_string();
    for label in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json5"]
    {
        for (method, path) in BODIES {
            let headers = format!("Content-Type: {label}\r\n");
            let reply = send(&admin, method, path, &headers, body.as_bytes()).await;
            assert_eq!(reply.status, 415, "{method} {path} {label}: {}", reply.text());
        }
    }
    let labelled = send(
        &admin,
        "POST",
        "/api/v1/llms",
        "Content-Type: application/json; charset=utf-8\r\n",
        body.as_bytes(),
    );
    assert_eq!(labelled.await.status, 201);
    let patch = "Content-Type: application/merge-patch+json\r\n";
    assert_eq!(send(&admin, "PATCH", "/api/v1/llms/b", patch, b"{\"model\":\"n\"}").await.status, 200);
}

#[tokio::test]
async fn a_wrong_method_is_a_405_that_names_the_right_ones() {
    let (_server, admin) = with_llm().await;
    let cases = [
        ("DELETE", "/api/v1/llms", &["GET", "POST"][..]),
        ("POST", "/api/v1/llms/a", &["GET", "PUT", "PATCH", "DELETE"]),
        ("GET", "/api/v1/llms/a/infer", &["POST"]),
        ("GET", "/v1/chat/completions", &["POST"]),
        ("POST", "/v1/models", &["GET"]),
        ("POST", "/healthz", &["GET"]),
        ("GET", "/api/v1/auth/login", &["POST"]),
        ("TRACE", "/api/v1/llms", &["GET", "POST"]),
        ("BREW", "/api/v1/llms", &["GET", "POST"]),
    ];
    for (method, path, allowed) in cases {
        let reply = send(&admin, method, path, "", b"").await;
        assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text());
        let allow = reply.head.header("allow").unwrap_or_default();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{method} {path}: Allow: {allow}");
    }
    for path in ["/nowhere", "/api/v1/nowhere", "/api/v2/llms", "/v1/nowhere", "/api/v1/llms/a/b/c", "/"] {
        let reply = send(&admin, "GET", path, "", b"").await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert!(!reply.json()["error"].is_null());
    }
}

#[tokio::test]
async fn requests_that_two_parsers_read_differently_are_refused() {
    let (_server, admin) = with_llm().await;
    let start =
        format!("POST /api/v1/llms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{JSON}", admin.token());
    let bodies = [
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n", "{} "),
        ("Content-Length: 2, 3\r\n\r\n", "{} "),
        ("Content-Length: -1\r\n\r\n", "{}"),
        ("Content-Length: x\r\n\r\n", "{}"),
        ("Transfer-Encoding: chunked, identity\r\n\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
        ("X Y: z\r\nContent-Length: 2\r\n\r\n", "{}"),
        ("X: a\u{0}b\r\nContent-Length: 2\r\n\r\n", "{}"),
    ];
    for (headers, body) in bodies {
        if let Some(reply) = admin.raw(&format!("{start}{headers}"), body.as_bytes()).await {
            assert!((400..500).contains(&reply.status), "{headers:?}: {} {}", reply.status, reply.text());
        }
    }
    // Both lengths: whichever counts, the smuggled second request must not be carried out.
    let smuggled = "DELETE /api/v1/llms/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n";
    let both = format!("{start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    admin.raw(&both, b"").await;
    assert_eq!(admin.get("/api/v1/llms/a").await.status, 200, "a smuggled request was carried out");
}

#[tokio::test]
async fn floods_of_headers_and_slow_senders_are_cut_off() {
    let (server, admin) = with_llm().await;
    let bomb = "X-Bomb: 0123456789abcdef0123456789abcdef\r\n".repeat(40_000);
    let reply = admin.raw(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{bomb}\r\n"), b"").await;
    assert!(reply.is_none_or(|reply| (400..500).contains(&reply.status)));
    let long = "a".repeat(2 << 20);
    let reply = admin.raw(&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), b"").await;
    assert!(reply.is_none_or(|reply| (400..500).contains(&reply.status)));

    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut connection = Connection::open(server.address()).await;
        connection.write(b"POST /api/v1/llms HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        idle.push(connection);
    }
    let quick = within(Duration::from_secs(5), "an answer beside slow senders", admin.get("/api/v1/llms/a"));
    assert_eq!(quick.await.status, 200);
    let first = idle.first_mut().unwrap();
    within(Duration::from_secs(60), "the end of a slow sender", first.closed()).await;
}

#[tokio::test]
async fn odd_names_in_paths_are_just_not_there() {
    let (_server, admin) = with_llm().await;
    for name in [
        "..",
        "%2e%2e",
        "a%00",
        "%ff%fe",
        "%",
        "%zz",
        "a%2fb",
        "'; DROP TABLE objects;--",
        "%27%20OR%201=1",
        "*",
    ] {
        let name = name.replace(' ', "%20");
        let reply = send(&admin, "GET", &format!("/api/v1/llms/{name}"), "", b"").await;
        assert!([400, 404].contains(&reply.status), "{name}: {} {}", reply.status, reply.text());
    }
    let long = "a".repeat(5000);
    assert_eq!(admin.get(&format!("/api/v1/llms/{long}")).await.status, 404);
}

#[tokio::test]
async fn a_refusal_before_the_body_leaves_the_connection_usable() {
    let (server, admin) = with_llm().await;
    let body = "{\"model\": \"a\", \"messages\": [{}]}";
    let mut connection = Connection::open(server.address()).await;
    for token in ["wrong", admin.token(), "wrong"] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        // The body follows in a packet of its own, as many clients send it: the refusal is due before it is there.
        connection.write(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        connection.write(body.as_bytes()).await.unwrap();
        let reply =
            within(Duration::from_secs(5), "the refusal", connection.reply()).await.expect("an answer");
        assert_eq!(reply.status, if token == "wrong" { 401 } else { 415 });
        assert_eq!(reply.head.header("connection"), None);
    }
}
