//! Starting, stopping, starting again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tests::{
    Fault, Provider, Server, ServerOptions, eventually,
    provider::answer,
    server::{ADMIN, unique},
    sse::Chat,
    wait::eventually_within,
};

#[tokio::test]
async fn after_a_restart_all_is_there() {
    let (mut server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let key = admin.create_llm("gpt", "openai", &provider).await;
    let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms", "name": "gpt"}])).await;
    let ask = json!({"messages": [{"role": "user", "content": "hello"}]});
    user.infer("gpt", &ask).await.expect(200);
    let kinds = ["secretbackends", "secrets", "llms", "users", "rbac"];
    let mut before = Vec::new();
    for kind in kinds {
        before.push(admin.get(&format!("/api/v1/{kind}")).await.expect(200));
    }
    server.sigterm();
    assert_eq!(server.exit_status().code(), Some(0), "a graceful end is a success");
    let took = server.restart().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    for (kind, before) in kinds.iter().zip(&before) {
        assert_eq!(&admin.get(&format!("/api/v1/{kind}")).await.expect(200), before, "{kind}");
    }
    user.infer("gpt", &ask).await.expect(200);
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {key}").as_str()));
    let calls = async || {
        let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call").await.expect(200);
        (events["items"].as_array().unwrap().len() == 2).then_some(())
    };
    eventually("both calls in the audit log", calls).await;
}

#[tokio::test]
async fn the_admins_password_of_the_first_start_stays() {
    let mut server = Server::start().await;
    server.sigterm();
    server.exit_status();
    let other = unique("another-password");
    server.canary.keep_secret("the password of a later start", &other);
    server.options().env.push(("MCPCTL_ADMIN_PASSWORD".into(), other.clone()));
    server.restart().await;
    let wrong = json!({"email": ADMIN, "password": other});
    server.client().post("/api/v1/auth/login", &wrong).await.error(401);
    server.login_admin().await;
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create_secret("s", &json!({"k": unique("value")})).await;
    let files = server.data_files();
    assert!(!files.is_empty() && !server.key_files().is_empty(), "{files:?}");
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
}

#[tokio::test]
async fn the_wrong_master_key_seals_and_the_right_one_opens() {
    let key = |byte: u8| format!("{byte:02x}").repeat(32);
    let with_key = |byte: u8| ("MCPCTL_MASTER_KEY".to_owned(), key(byte));
    let options = ServerOptions { env: vec![with_key(0xA7)], ..ServerOptions::default() };
    let mut server = Server::start_with(options).await;
    for byte in [0xA7, 0xB8] {
        server.canary.keep_secret("a master key", [byte; 32]);
    }
    let admin = server.login_admin().await;
    let value = unique("sealed-value");
    admin.create_secret("s", &json!({"k": value})).await;
    server.sigterm();
    server.exit_status();
    assert!(
        server.key_files().is_empty(),
        "a key from the environment makes no file: {:?}",
        server.key_files()
    );

    server.options().env = vec![with_key(0xB8)];
    server.relaunch();
    let client = server.client();
    let sealed = async || client.try_get("/readyz").await.filter(|reply| reply.status == 503);
    let reply = eventually("a sealed server answers", sealed).await;
    assert!(reply.text().contains("sealed"), "{}", reply.text());
    assert_eq!(client.get("/healthz").await.status, 200);
    let shown = admin.get("/api/v1/secrets/s?showValues=true").await;
    assert!([500, 503].contains(&shown.status), "{}", shown.text());
    let write =
        admin.post("/api/v1/secrets", &json!({"name": "t", "data": {"k": "written-while-sealed"}})).await;
    assert!([500, 503].contains(&write.status), "nothing is written under another key: {}", write.text());
    server.sigterm();
    server.exit_status();

    server.options().env = vec![with_key(0xA7)];
    server.restart().await;
    assert_eq!(admin.get("/api/v1/secrets/s?showValues=true").await.expect(200)["data"]["k"], value);
    assert_eq!(admin.get("/api/v1/secrets/t").await.status, 404);
}

#[tokio::test]
async fn a_lost_key_file_is_not_made_anew() {
    let mut server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create_secret("s", &json!({"k": unique("value")})).await;
    server.sigterm();
    server.exit_status();
    let files = server.key_files();
    let kept: Vec<_> = files.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for path in &files {
        server.canary.keep_key_file_secret(path);
        fs::remove_file(path).unwrap();
    }
    server.relaunch();
    let client = server.client();
    let settled = async || {
        let sealed = client.try_get("/readyz").await.is_some_and(|reply| reply.status == 503);
        (sealed || !server.is_running()).then_some(())
    };
    eventually("the server is sealed, or refuses to start", settled).await;
    server.kill9();
    for (path, content) in kept {
        fs::write(path, content).unwrap();
    }
    server.restart().await;
    admin.get("/api/v1/secrets/s?showValues=true").await.expect(200);
}

#[tokio::test]
async fn two_servers_on_one_file_are_one_too_many() {
    let first = Server::start().await;
    let admin = first.login_admin().await;
    let file = first.data_files().into_iter().find(|path| path.to_string_lossy().ends_with(".db"));
    let file = file.unwrap_or_else(|| panic!("no database among {:?}", first.data_files()));
    let url = format!("sqlite://{}", file.display());
    let options = ServerOptions { database_url: Some(url), ..ServerOptions::default() };
    let mut second = Server::launch(options, TempDir::new().unwrap());
    let status = second.exit_status();
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    assert!(
        second.log().contains("another")
            || second.log().contains("in use")
            || second.log().contains("locked")
    );
    admin.get("/api/v1/llms").await.expect(200);
}

#[tokio::test]
async fn sigterm_lets_a_running_stream_finish() {
    let (mut server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    provider.misbehave(Fault::ByteByByte);
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let mut stream = admin.stream("/api/v1/llms/gpt/infer", &body).await;
    stream.until("data:").await;
    server.sigterm();
    let refuses = async || client_is_refused(&server).await.then_some(());
    eventually_within(Duration::from_secs(5), "new connections are refused", refuses).await;
    let chat = Chat::read(&stream.rest().await.text());
    chat.assert_finished();
    assert_eq!(chat.text(), answer::text());
    let began = Instant::now();
    assert_eq!(server.exit_status().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
    server.restart().await;
    let events = admin.get("/api/v1/auditlogs?kind=llm_inference_call").await.expect(200);
    assert_eq!(events["items"][0]["status"], 200, "its event was written before the end: {events}");
}

async fn client_is_refused(server: &Server) -> bool {
    tokio::net::TcpStream::connect(server.address()).await.is_err()
}

#[tokio::test]
async fn sigterm_under_load_fails_no_request() {
    let (mut server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (admin, body) = (admin.clone(), body.clone());
        callers.spawn(async move {
            let mut done = 0;
            loop {
                match admin.request("POST", "/api/v1/llms/gpt/infer").json(&body).send().await {
                    Ok(reply) if reply.status() == 200 => {
                        reply.bytes().await.expect("an answer that has begun is finished");
                        done += 1;
                    }
                    Ok(reply) => panic!("{}: {:?}", reply.status(), reply.text().await),
                    Err(error) if error.is_connect() => return done,
                    // A pooled connection that was just closed: nothing of an answer had come.
                    Err(error) if error.is_request() && done > 0 => return done,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    eventually("some load", async || (provider.received().len() >= 40).then_some(())).await;
    server.sigterm();
    let done: Vec<usize> = callers.join_all().await;
    assert_eq!(server.exit_status().code(), Some(0));
    assert!(done.iter().all(|count| *count > 0), "{done:?}");
}

#[tokio::test]
async fn a_bad_command_line_is_refused_with_its_reason() {
    for (args, word) in [
        (vec!["--no-such-flag"], "no-such-flag"),
        (vec!["--listen", "nowhere"], "listen"),
        (vec!["--database-url", "mysql://x"], "database"),
    ] {
        let args = args.into_iter().map(str::to_owned).collect();
        let options = ServerOptions { args, ..ServerOptions::default() };
        let mut server = Server::launch(options, TempDir::new().unwrap());
        let status = server.exit_status();
        assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
        assert!(server.log().contains(word), "{}", server.log());
    }
}
