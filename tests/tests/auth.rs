//! Who somebody is: tokens, logins, logouts.

use std::time::Duration;

use jiff::SignedDuration;
use mcpctl_core::{
    resource::{Id, Session, TokenHash, now},
    store::{SqlStore, Store as _, Txn, Write},
};
use serde_json::json;
use tests::{
    Api, Server, eventually,
    server::{ADMIN, unique},
};

async fn refusal(api: &Api, headers: &str) -> (u16, String, String) {
    let request = format!("GET /api/v1/llms HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    let reply = api.raw(&request, b"").await.unwrap_or_else(|| panic!("no answer to {headers:.80}"));
    let challenge = reply.head.header("www-authenticate").unwrap_or_default().to_owned();
    (reply.status, reply.text(), challenge)
}

#[tokio::test]
async fn every_bad_token_gets_the_same_401() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let real = admin.token().to_owned();
    let ended = server.login_admin().await;
    ended.post("/api/v1/auth/logout", &json!({})).await;
    let expected = refusal(&admin, "").await;
    assert_eq!((expected.0, expected.2.as_str()), (401, "Bearer"));
    let error: serde_json::Value = serde_json::from_str(&expected.1).unwrap();
    assert!(error["error"].is_string(), "{}", expected.1);

    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let long = "a".repeat(60 * 1024);
    let hostile = [
        bearer("' OR '1'='1"),
        bearer("\"; DROP TABLE sessions; --"),
        bearer("mcpctl_st_' UNION SELECT token FROM sessions --"),
        bearer("%00"),
        bearer("*"),
        bearer("null"),
        bearer("../../etc/passwd"),
        bearer("ünïcode"),
        bearer(""),
        bearer(&real[..real.len() - 1]),
        bearer(&format!("{real}x")),
        bearer(&format!("{real} x")),
        bearer(&format!("{real},{real}x")),
        bearer(&real.to_uppercase()),
        bearer(&real[10..]),
        bearer(ended.token()),
        bearer(&long),
        "Authorization: Basic YWRtaW46YWRtaW4=\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: \r\n".to_owned(),
        format!("Authorization: {real}\r\n"),
        format!("Authorization: Token {real}\r\n"),
        format!("X-Forwarded-User: {ADMIN}\r\nX-Remote-User: {ADMIN}\r\n"),
        format!("Cookie: token={real}; session={real}\r\n"),
        format!("{}{}", bearer("wrong"), bearer(&real)),
        format!("{}{}", bearer(&real), bearer("wrong")),
    ];
    for headers in hostile {
        let seen = refusal(&admin, &headers).await;
        assert_eq!(seen, expected, "{headers:.80}");
    }
    for path in [format!("/api/v1/llms?token={real}"), format!("/api/v1/llms?access_token={real}")] {
        assert_eq!(admin.anonymous().get(&path).await.status, 401);
    }
    let lower = format!("authorization: bearer {real}\r\n");
    assert_eq!(refusal(&admin, &lower).await.0, 200, "the scheme's case does not matter");
}

#[tokio::test]
async fn a_login_gives_a_token_that_a_logout_ends() {
    let server = Server::start().await;
    let credentials = json!({"email": ADMIN, "password": server.admin_password()});
    let reply = server.client().post("/api/v1/auth/login", &credentials).await.expect(200);
    let token = reply["token"].as_str().unwrap();
    server.canary.keep_secret("a session's token", token);
    assert!(token.len() >= 43, "256 bits: {}", token.len());
    assert!(reply["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(reply["user"]["name"], ADMIN);
    assert!(reply["user"].get("passwordHash").is_none() && reply["user"].get("password").is_none());

    let session = server.client().with_token(token);
    let me = session.get("/api/v1/auth/whoami").await;
    assert!(me.expect(200).to_string().contains(ADMIN));
    let other = server.login_admin().await;
    assert_ne!(other.token(), token);
    let out = session.post("/api/v1/auth/logout", &json!({})).await;
    assert!([200, 204].contains(&out.status), "{}", out.status);
    assert_eq!(session.get("/api/v1/auth/whoami").await.status, 401);
    assert_eq!(session.post("/api/v1/auth/logout", &json!({})).await.status, 401);
    assert_eq!(other.get("/api/v1/auth/whoami").await.status, 200, "other sessions go on");
}

/// Puts a session that ends at `end` (from now) into a server's stopped database.
pub(super) async fn plant_session(server: &Server, user: &str, token: &str, ends_in: SignedDuration) {
    let file = server.data_dir().join("mcpctl.db");
    let store = SqlStore::open(&format!("sqlite://{}", file.display())).await.unwrap();
    let (user_id, token, now) = (Id::parse(user).unwrap(), TokenHash::of(token), now());
    let session = Session { token, user_id, created_at: now, expires_at: now + ends_in };
    let writes = vec![Write::PutSession(session)];
    store.commit(Txn { writes, ..Txn::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_by_itself() {
    let mut server = Server::start().await;
    let admin = server.login_admin().await;
    let me = admin.get("/api/v1/users").await.expect(200)[0]["id"].as_str().unwrap().to_owned();
    let expected = admin.with_token("unknown").get("/api/v1/llms").await;
    server.sigterm();
    server.exit_status();
    let (expired, ending) = ("mcpctl_st_that-has-expired", "mcpctl_st_that-is-about-to");
    plant_session(&server, &me, expired, SignedDuration::from_secs(-1)).await;
    plant_session(&server, &me, ending, SignedDuration::from_secs(4)).await;
    server.restart().await;
    let reply = admin.with_token(expired).get("/api/v1/llms").await;
    assert_eq!((reply.status, &reply.body), (401, &expected.body));
    let ending = admin.with_token(ending);
    assert_eq!(ending.get("/api/v1/llms").await.status, 200, "what was planted is a session");
    let ended = async || (ending.get("/api/v1/llms").await.status == 401).then_some(());
    eventually("the session ends", ended).await;
    assert_eq!(admin.get("/api/v1/llms").await.status, 200);
}

#[tokio::test]
async fn can_i_tells_what_decides() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let viewer = admin.create_user_with(&json!([{"role": "view", "resource": "llms"}])).await;
    let ask = async |api: &Api, body| api.post("/api/v1/auth/can-i", &body).await.expect(200);
    let yes = ask(&viewer, json!({"action": "view", "resource": "llms", "name": "x"})).await;
    assert_eq!(yes["allowed"], true);
    assert!(yes["binding"].as_str().unwrap().starts_with("rbac-of-user-"), "{yes}");
    let no = ask(&viewer, json!({"action": "run", "resource": "llm"})).await;
    assert_eq!(no["allowed"], false);
    assert!(no["reason"].as_str().unwrap().contains("run:llms"), "{no}");
    assert_eq!(ask(&admin, json!({"action": "run", "resource": "llms"})).await["allowed"], true);
    for bad in
        [json!({}), json!({"action": "fly", "resource": "llms"}), json!({"action": "view", "resource": "x"})]
    {
        viewer.post("/api/v1/auth/can-i", &bad).await.error(400);
    }
}

#[tokio::test]
async fn wrong_passwords_and_unknown_people_look_alike() {
    let server = Server::start().await;
    let client = server.client();
    let login = async |email: &str, password: &str| {
        client.post("/api/v1/auth/login", &json!({"email": email, "password": password})).await
    };
    let wrong = login(ADMIN, "wrong-password").await;
    let unknown = login("nobody@example.com", "wrong-password").await;
    assert_eq!(wrong.error(401), unknown.error(401));
    for bad in [
        json!({}),
        json!({"email": ADMIN}),
        json!({"email": 1, "password": 2}),
        json!([]),
        json!({"email": ADMIN, "password": "x", "isAdmin": true}),
    ] {
        client.post("/api/v1/auth/login", &bad).await.error(400);
    }
    let loud = login(&format!(" {} ", ADMIN.to_uppercase()), server.admin_password()).await;
    assert!([200, 401].contains(&loud.status), "an address's case is no fault of ours: {}", loud.status);
}

#[tokio::test]
async fn guessing_is_slowed_and_others_are_not() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let victim = unique("victim-password");
    admin.create_user("victim@example.com", &victim).await;
    let client = server.client();
    let guess = json!({"email": "victim@example.com", "password": "a-wrong-guess"});
    let limited = async || {
        let reply = client.post("/api/v1/auth/login", &guess).await;
        assert!([401, 429].contains(&reply.status), "{}", reply.text());
        (reply.status == 429).then_some(reply)
    };
    let limited = eventually("a limit on guesses", limited).await;
    assert!(limited.header("retry-after").parse::<u64>().unwrap() > 0);
    let right = json!({"email": "victim@example.com", "password": victim});
    assert_eq!(client.post("/api/v1/auth/login", &right).await.status, 429, "no oracle behind the limit");
    server.login_admin().await;
    assert_eq!(admin.get("/api/v1/llms").await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_of_the_old_one() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let (email, old, new) = ("a@example.com", unique("old-password"), unique("new-password"));
    admin.create_user(email, &old).await;
    let session = server.client().login(email, &old).await;
    assert_eq!(session.get("/api/v1/auth/whoami").await.status, 200);
    server.canary.keep_secret("a new password", &new);
    admin.put(&format!("/api/v1/users/{email}"), &json!({"password": new})).await.expect(200);
    assert_eq!(session.get("/api/v1/auth/whoami").await.status, 401);
    let login = json!({"email": email, "password": old});
    server.client().post("/api/v1/auth/login", &login).await.error(401);
    server.client().login(email, &new).await;
    let short = admin.put(&format!("/api/v1/users/{email}"), &json!({"password": "short"})).await;
    assert!(short.error(400).contains("password"));
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_sane() {
    let server = Server::start().await;
    let client = server.client();
    let asked = client.send(client.request("GET", "/healthz").header("x-request-id", "job-42")).await;
    assert_eq!(asked.header("x-request-id"), "job-42");
    let made = client.get("/healthz").await.header("x-request-id").to_owned();
    assert!(made.len() >= 8);
    for bad in ["a b", "<script>", &"x".repeat(1000), "{\"a\":1}"] {
        let reply = client.send(client.request("GET", "/healthz").header("x-request-id", bad)).await;
        let given = reply.header("x-request-id");
        assert!(!given.is_empty() && given != bad, "{bad:.40}: {given:.40}");
    }
    for path in ["/healthz", "/api/v1/llms", "/v1/models", "/nowhere", "/api/v1/auth/login"] {
        assert!(!client.get(path).await.header("x-request-id").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn the_open_routes_answer_without_a_token() {
    let server = Server::start().await;
    let client = server.client();
    for path in ["/healthz", "/readyz", "/version"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    let version = client.get("/version").await.json().to_string();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let began = std::time::Instant::now();
    assert_eq!(client.get("/healthz").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2));
}
