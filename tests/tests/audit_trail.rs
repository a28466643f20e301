//! What makes the audit trail one to rely on: rows that stay rows, floods that stay small, an end that can be set, and a
//! copy in a file.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    Api, Provider, Server, ServerOptions, eventually,
    postgres::Postgres,
    server::{binary, unique},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::audit_modes::Locker;

pub(super) fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

/// Every event that fits, over all pages.
pub(super) async fn events(api: &Api, query: &str) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/api/v1/auditlogs?limit=1000&{query}{next}")).await.expect(200);
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["continue"].as_str() {
            Some(more) => next = format!("&continue={more}"),
            None => return all,
        }
    }
}

pub(super) fn ids(events: &[Value]) -> BTreeSet<String> {
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let set: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "an event twice");
    set
}

/// The command line, as the one who has the token of `api`.
pub(super) fn mcpctl(server: &Server, api: &Api, args: &[&str]) -> Command {
    let mut command = Command::new(binary("mcpctl"));
    let token = ("MCPCTL_TOKEN", api.token());
    command
        .args(args)
        .env_clear()
        .env("HOME", server.folder())
        .envs([("MCPCTL_URL", server.url().as_str()), token]);
    command
}

pub(super) fn run(server: &Server, api: &Api, args: &[&str]) -> Output {
    mcpctl(server, api, args).stdin(Stdio::null()).output().unwrap()
}

pub(super) fn printed(server: &Server, api: &Api, args: &[&str]) -> String {
    let output = run(server, api, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const HOSTILE: &str = "x\r\n{\"kind\":\"login\"}\u{1b}[31m\u{9b}2J\u{202e}\u{2028}\u{85}end";

/// A provider that answers everything with one body.
async fn provider_that_says(status: u16, body: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let body = body.to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Well\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // To its end: a connection that is closed before that is reset, and the answer may be lost.
            let mut request = Vec::new();
            while !is_whole(&request) && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("http://{address}")
}

/// Whether a request has arrived with its whole body.
fn is_whole(request: &[u8]) -> bool {
    let Some(head) = memchr::memmem::find(request, b"\r\n\r\n") else { return false };
    let lines = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length =
        lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    request.len() >= head + 4 + length.unwrap_or(0)
}

/// Whether no text anywhere in it could steer a terminal or end a row.
fn is_harmless(text: &str) -> bool {
    let steers = |letter: char| letter.is_control() || ('\u{2028}'..='\u{202e}').contains(&letter);
    !text.contains(steers)
}

/// Does everything that puts a caller's or a provider's text into an event.
async fn do_harm(server: &Server, admin: &Api) {
    let long = format!("{HOSTILE}{}", "y".repeat(1 << 20));
    for text in [HOSTILE, long.as_str()] {
        let login = json!({"email": text, "password": "a-wrong-password"});
        server.client().post("/api/v1/auth/login", &login).await.error(401);
        admin.infer("errs", &ask(text)).await.openai_error(400);
        admin.infer("ends", &ask(text)).await.expect(200);
    }
    let nobody = admin.create_user_with(&json!([{"role": "view", "resource": "users"}])).await;
    let name: String = HOSTILE.bytes().map(|byte| format!("%{byte:02x}")).collect();
    nobody.get(&format!("/api/v1/llms/{name}")).await.error(403);
    nobody.get(&format!("/api/v1/llms/{}", "y".repeat(4000))).await.error(403);
    nobody.post("/v1/chat/completions", &ask(HOSTILE)).await.openai_error(403);
    let id = "y".repeat(4000);
    admin
        .send(admin.request("POST", "/api/v1/llms/ends/infer").header("x-request-id", id).json(&ask("m")))
        .await;
    let agent = "\u{1b}[31m{}".replace('\u{1b}', "\t");
    admin.send(admin.request("GET", "/api/v1/llms/none").header("user-agent", agent)).await.error(404);
}

#[tokio::test]
async fn whatever_text_comes_each_event_is_one_row() {
    let file = tempfile::TempDir::new().unwrap();
    let path = file.path().join("audit.jsonl");
    let args = vec!["--audit-file".into(), path.to_str().unwrap().into()];
    let server = Server::start_with(ServerOptions { args, ..ServerOptions::default() }).await;
    let admin = server.login_admin().await;
    let long = format!("{HOSTILE}{}", "z".repeat(100_000));
    let errs = provider_that_says(400, json!({"error": {"message": long, "type": HOSTILE, "code": HOSTILE}}));
    let message = json!({"role": "assistant", "content": "hi"});
    let choice = json!({"index": 0, "finish_reason": HOSTILE, "message": message});
    let ends = provider_that_says(200, json!({"id": "c", "object": "chat.completion", "choices": [choice]}));
    admin.create_llm_at("errs", "openai", &errs.await, json!({})).await;
    admin.create_llm_at("ends", "openai", &ends.await, json!({})).await;
    do_harm(&server, &admin).await;

    let all = events(&admin, "").await;
    let calls = all.iter().filter(|event| event["kind"] == "llm_inference_call").count();
    let of = |kind: &str| all.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((calls, of("denied"), of("login")), (5, 3, 4));
    for event in &all {
        let row = event.to_string();
        assert!(row.len() < 6000, "{} bytes", row.len());
        // What JSON had to escape would be there in another format.
        assert!(!row.contains("\\u00") && is_harmless(&row), "{row}");
    }
    let cut =
        |kind: &str| all.iter().any(|event| event["kind"] == kind && event.to_string().contains(" bytes)"));
    assert!(cut("login") && cut("llm_inference_call"), "what was cut is marked");
    assert!(all.iter().any(|event| event["finishReason"].as_str().is_some_and(|text| text.contains("end"))));

    // The file, the database and the command line have the same.
    let in_file = async || {
        let text = fs::read_to_string(&path).unwrap();
        (text.lines().count() >= all.len()).then_some(text)
    };
    let text = eventually("every event in the file", in_file).await;
    assert!(is_harmless(&text.replace('\n', "")));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids(&lines), ids(&all));
    let rows = sql(
        &server,
        "SELECT id || llm || user_name || event FROM (SELECT id, coalesce(llm, '') AS llm, coalesce(user_name, '') AS user_name, event FROM audit_events)",
    );
    assert!(rows.len() == all.len() && rows.iter().all(|row| is_harmless(row)), "{rows:?}");
    for format in ["table", "wide"] {
        let table = printed(&server, &admin, &["get", "auditlogs", "--limit", "1000", "-o", format]);
        assert_eq!(table.lines().count(), all.len() + 1, "a row each: {table}");
        assert!(is_harmless(&table.replace('\n', "")), "{table}");
    }
    let listed = printed(&server, &admin, &["get", "auditlogs", "--limit", "1000", "-o", "json"]);
    assert_eq!(ids(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap()), ids(&all));
}

/// The first column of what a query gives, of a stopped or running server.
fn sql(server: &Server, sql: &str) -> Vec<String> {
    const SCRIPT: &str = "import json, sqlite3, sys\n\
                          db = sqlite3.connect(sys.argv[1], timeout=20)\n\
                          rows = [row[0] for row in db.execute(sys.argv[2])]\n\
                          db.commit()\n\
                          print(json.dumps(rows))\n";
    let database = server.data_dir().join("mcpctl.db");
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_flood_of_logins_is_two_events() {
    let mut server = Server::start().await;
    server.login_admin().await;
    let client = server.client();
    let guess = json!({"email": "victim@example.com", "password": "a-wrong-guess"});
    let mut limited = 0;
    let began = Instant::now();
    while limited < 300 {
        match client.post("/api/v1/auth/login", &guess).await.status {
            401 => {}
            429 => limited += 1,
            other => panic!("{other}"),
        }
    }
    // Within the minute, only the first is told; at the end of the server at the latest, how many there were.
    let admin = server.login_admin().await;
    let is_limited = |event: &&Value| event["result"] == "limited";
    let told = events(&admin, "kind=login").await;
    if began.elapsed() < Duration::from_secs(50) {
        assert_eq!(told.iter().filter(is_limited).count(), 1);
    }
    assert_eq!(told.iter().filter(|event| event["result"] == "refused").count(), 10);
    server.sigterm();
    assert!(server.exit_status().success());
    server.restart().await;
    let told = events(&admin, "kind=login&user=victim@example.com").await;
    let told: Vec<_> = told.iter().filter(is_limited).collect();
    let attempts: u64 = told.iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum();
    assert!(attempts == 300 && told.len() < 10, "each is counted once: {told:?}");
}

/// An event of the past, as a row for the database.
fn past(number: usize, hours: i64) -> String {
    let at = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(hours)).unwrap();
    let millis = at.as_millisecond();
    let id = format!("{:08x}-{:04x}-7000-8000-{number:012x}", millis >> 16, millis & 0xffff);
    let body = r#"{"kind":"denied","permission":"view:llms"}"#;
    format!("('{id}', {}, 'denied', NULL, NULL, NULL, '{body}')", at.as_microsecond())
}

#[tokio::test]
async fn old_events_are_deleted_at_the_start_and_new_ones_stay() {
    let mut server = Server::start().await;
    let admin = server.login_admin().await;
    let before = events(&admin, "").await;
    server.sigterm();
    assert!(server.exit_status().success());
    let old: Vec<_> = (0..1700).map(|number| past(number, 25 + number as i64 / 100)).collect();
    let young: Vec<_> = (0..50).map(|number| past(number, 23)).collect();
    let rows: Vec<&str> = old.iter().chain(&young).map(String::as_str).collect();
    for rows in rows.chunks(500) {
        sql(&server, &format!("INSERT INTO audit_events VALUES {}", rows.join(", ")));
    }
    server.restart().await;
    assert_eq!(events(&admin, "kind=denied").await.len(), 1750, "for ever, unless told otherwise");
    server.options().args = vec!["--audit-retention".into(), "1d".into()];
    server.restart().await;
    let gone = async || (events(&admin, "kind=denied").await.len() == 50).then_some(());
    eventually("the old ones are gone", gone).await;
    server.logged("audit events that were past their retention were deleted").await;
    assert!(ids(&events(&admin, "").await).is_superset(&ids(&before)));
    let counted = async || {
        admin.get("/metrics").await.text().contains("mcpctl_audit_events_deleted_total 1700").then_some(())
    };
    eventually("the number of them", counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_delete_side_by_side() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let env = vec![("MCPCTL_MASTER_KEY".to_owned(), "5c".repeat(32))];
    let args = vec!["--audit-retention".into(), "1h".into()];
    let options = || ServerOptions {
        database_url: Some(url.clone()),
        env: env.clone(),
        args: args.clone(),
        ..ServerOptions::default()
    };
    drop(Server::start_with(ServerOptions { args: vec![], ..options() }).await);
    let rows: Vec<_> = (0..5000).map(|number| past(number, 2)).collect();
    for rows in rows.chunks(500) {
        postgres.sql(&database, &format!("INSERT INTO audit_events VALUES {}", rows.join(", ")));
    }
    let (a, b) = tokio::join!(Server::start_with(options()), Server::start_with(options()));
    let gone = async || {
        let left = postgres.sql(&database, "SELECT count(*) FROM audit_events WHERE kind = 'denied'");
        (left.trim() == "0").then_some(())
    };
    eventually("the old ones are gone", gone).await;
    for server in [&a, &b] {
        assert!(!server.log().contains("could not be deleted"), "in peace");
    }
}

#[tokio::test]
async fn bad_settings_are_refused_with_their_name() {
    let folder = tempfile::TempDir::new().unwrap();
    let start = |args: &[&str]| {
        let mut command = Command::new(binary("mcpctl-server"));
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data")).args(args);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for retention in ["90", "59m", "1x", "-1d", ""] {
        let told = start(&[&format!("--audit-retention={retention}")]);
        assert!(told.contains("--audit-retention"), "{told}");
    }
    let told = start(&["--audit-file", folder.path().to_str().unwrap()]);
    assert!(told.contains("audit file") && told.contains("directory"), "{told}");
}

/// The events in a file.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_file_has_every_event_once_also_when_it_is_rotated() {
    let folder = tempfile::TempDir::new().unwrap();
    let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let args = vec!["--audit-file".into(), path.to_str().unwrap().into()];
    let mut server = Server::start_with(ServerOptions { args, ..ServerOptions::default() }).await;
    let (admin, provider) = (server.login_admin().await, Provider::start().await);
    let made = json!({"api-key": unique("sk-audited")});
    admin.create_secret("s", &made).await;
    server.canary.keep_secret("the audited key", made["api-key"].as_str().unwrap());
    admin.get("/api/v1/secrets/s?showValues=true").await.expect(200);
    admin.create_llm("gpt", "openai", &provider).await;
    for step in 0..60 {
        if step == 30 {
            fs::rename(&path, &old).unwrap();
        }
        admin.infer("gpt", &ask("gpt")).await.expect(200);
        admin.put("/api/v1/secrets/s", &json!({"description": format!("d{step}")})).await.expect(200);
    }
    server.sigterm();
    assert!(server.exit_status().success());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let after_rotation = lines(&path).len();
    server.restart().await;
    admin.infer("gpt", &ask("gpt")).await.expect(200);
    let all = events(&admin, "").await;
    let both = async || {
        let both = [lines(&old), lines(&path)].concat();
        (both.len() == all.len()).then_some(both)
    };
    let both = eventually("every event in one of the files", both).await;
    assert!(after_rotation > 30 && !lines(&old).is_empty());
    // The same as the database has, which the API shows.
    for event in &all {
        assert!(both.contains(event), "{event}");
    }
    for path in [&old, &path] {
        let text = fs::read(path).unwrap();
        server.canary.check([("the audit file", text.as_slice())]);
    }
}

#[tokio::test]
async fn the_file_has_changes_whose_callers_have_left() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let args = vec!["--audit-file".into(), path.to_str().unwrap().into()];
    let server = Server::start_with(ServerOptions { args, ..ServerOptions::default() }).await;
    let admin = server.login_admin().await;
    let before = events(&admin, "kind=resource_change").await.len();
    // They leave while their changes wait for the database.
    let locker = Locker::lock(&server.data_dir().join("mcpctl.db"));
    for number in 0..3 {
        let backend = json!({"name": format!("b{number}"), "type": "plaintext"});
        let create = admin.post("/api/v1/secretbackends", &backend);
        assert!(tokio::time::timeout(Duration::from_millis(500), create).await.is_err(), "it waits");
    }
    drop(locker);
    let changed = async || {
        let changes = events(&admin, "kind=resource_change").await;
        (changes.len() > before).then_some(())
    };
    eventually("a change without its caller", changed).await;
    let same = async || {
        let changes = ids(&events(&admin, "").await);
        (ids(&lines(&path)) == changes).then_some(())
    };
    eventually("every event in the file, once", same).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_holds_nothing_up() {
    for mode in ["buffered", "strict"] {
        let args = ["--audit-file", "/dev/full", "--audit", mode].map(str::to_owned).into();
        let mut server = Server::start_with(ServerOptions { args, ..ServerOptions::default() }).await;
        let (admin, provider) = (server.login_admin().await, Provider::start().await);
        admin.create_llm("gpt", "openai", &provider).await;
        let began = Instant::now();
        for _ in 0..50 {
            admin.infer("gpt", &ask("gpt")).await.expect(200);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{mode}: {:?}", began.elapsed());
        assert_eq!(events(&admin, "kind=llm_inference_call").await.len(), 50);
        server.logged("the copy of the audit trail cannot be written").await;
        server.sigterm();
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.is_running() {
            assert!(Instant::now() < deadline, "it stops all the same");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(server.exit_status().success());
    }
}
