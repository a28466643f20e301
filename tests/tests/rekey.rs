//! Another master key: nothing is lost, whenever it is stopped, and the old key opens nothing any more.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tests::{
    Api, Provider, Server, ServerOptions,
    chaos::{Seeded, rounds},
    eventually,
    postgres::Postgres,
    server::{binary, unique},
};

const SECRETS: usize = 100;

fn value_of(number: usize) -> String {
    format!("the-value-of-{number:03}-and-no-other")
}

async fn fill(admin: &Api) {
    for number in 0..SECRETS {
        admin.create_secret(&format!("s-{number}"), &json!({"value": value_of(number)})).await;
    }
}

/// Every Secret opens, and is what it was. Its answers hold the values, so they are not noted.
async fn check(admin: &Api) {
    for number in 0..SECRETS {
        let path = format!("/api/v1/secrets/s-{number}?showValues=true");
        let answer: Value = admin.request("GET", &path).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["data"]["value"], value_of(number), "{answer}");
    }
}

fn key_file(server: &Server) -> PathBuf {
    server.data_dir().join("master.key")
}

fn keys(server: &Server) -> Vec<String> {
    fs::read_to_string(key_file(server)).unwrap().lines().map(str::to_owned).collect()
}

fn command(server: &Server, env: &[(String, String)]) -> Command {
    let mut command = Command::new(binary("mcpctl-server"));
    command.arg("rekey").arg("--data-dir").arg(server.data_dir()).env_clear();
    command.envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    command
}

/// The ids of the keys that stored values are under.
fn keys_in_use(server: &Server) -> BTreeSet<String> {
    let bytes = server.database_bytes();
    let text = String::from_utf8_lossy(&bytes);
    text.split("\"kid\":\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

fn succeeded(output: &Output) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn a_stopped_servers_values_get_a_new_key_and_the_old_one_goes() {
    let mut server = Server::start().await;
    fill(&server.login_admin().await).await;
    let old = keys(&server);
    server.sigterm();
    assert!(server.exit_status().success());
    let told = succeeded(&command(&server, &[]).output().unwrap());
    assert!(told.contains("100 values encrypted anew") && told.contains("old key is removed"), "{told}");
    let new = keys(&server);
    assert_eq!(new.len(), 1);
    assert_ne!(new, old);
    for key in old.iter().chain(&new) {
        assert!(!told.contains(key), "{told}");
        server.canary.keep_secret("a master key", key);
    }
    server.restart().await;
    let admin = server.login_admin().await;
    check(&admin).await;
    let events = admin.get("/api/v1/auditlogs?kind=rekey").await.expect(200);
    assert_eq!((&events["items"][0]["values"], &events["items"][0]["user"]), (&json!(100), &json!("rekey")));
    // With the old key, the server serves nothing.
    server.sigterm();
    server.exit_status();
    fs::write(key_file(&server), format!("{}\n", old[0])).unwrap();
    server.relaunch();
    server.logged("sealed: the master key does not fit").await;
    assert_eq!(server.client().get("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_running_server_does_it_itself_and_goes_on_serving() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    admin.create_llm("gpt", "openai", &provider).await;
    fill(&admin).await;
    let (before, old) = (keys_in_use(&server), keys(&server));
    let running = command(&server, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let done = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
    // Meanwhile it answers, and Secrets change.
    let ask = json!({"messages": [{"role": "user", "content": "hello"}]});
    for number in 0..SECRETS {
        admin.infer("gpt", &ask).await.expect(200);
        let (path, body) = (
            format!("/api/v1/secrets/s-{number}"),
            json!({"data": {"value": value_of(number), "more": "x"}}),
        );
        admin.patch(&path, &body).await.expect(200);
    }
    let told = succeeded(&done.await.unwrap());
    assert!(told.contains("the old key is removed"), "{told}");
    let new = keys(&server);
    assert!(new.len() == 1 && new != old);
    server.logged("all stored values are under the key that writes").await;
    check(&admin).await;
    // What was there under the old key may be in free pages; what is read is not.
    assert!(keys_in_use(&server).difference(&before).next().is_some());
    admin.create_secret("later", &json!({"value": unique("later-value")})).await;
    let mut server = server;
    server.restart().await;
    check(&server.login_admin().await).await;
}

#[tokio::test]
async fn killed_at_any_moment_nothing_is_lost_and_repeating_it_finishes() {
    let mut random = Seeded::new(7);
    let mut server = Server::start().await;
    fill(&server.login_admin().await).await;
    for round in 0..rounds(6) {
        // Now and then the command alone, now and then the server that it asks.
        let alone = round % 2 == 0;
        if alone {
            server.kill9();
        }
        let mut running = command(&server, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.below(if alone { 400 } else { 1500 }))).await;
        if alone {
            running.kill().unwrap();
        } else {
            server.kill9();
        }
        running.wait().unwrap();
        server.restart().await;
        check(&server.login_admin().await).await;
        // The server that starts finishes what was begun.
        let finished = async || (keys(&server).len() == 1).then_some(());
        eventually("one key is left", finished).await;
        check(&server.login_admin().await).await;
    }
}

#[tokio::test]
async fn a_damaged_value_is_named_and_keeps_the_old_key_and_the_others_work() {
    let mut server = Server::start().await;
    let admin = server.login_admin().await;
    fill(&admin).await;
    let broken = admin.get("/api/v1/secrets/s-7").await.expect(200)["id"].as_str().unwrap().to_owned();
    let other = admin.get("/api/v1/secrets/s-8").await.expect(200)["id"].as_str().unwrap().to_owned();
    server.sigterm();
    server.exit_status();
    // The row of one Secret over that of another.
    let swap = format!(
        "UPDATE encrypted_values SET content = (SELECT content FROM encrypted_values WHERE id = '{other}') WHERE id = '{broken}'"
    );
    let database = server.data_dir().join("mcpctl.db");
    let sqlite = Command::new("python3")
        .arg("-c")
        .arg("import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()")
        .arg(&database)
        .arg(&swap)
        .output()
        .unwrap();
    succeeded(&sqlite);
    let output = command(&server, &[]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("could not be encrypted anew (1 under"), "{told}");
    assert!(told.contains("s-7"), "{told}");
    assert_eq!(keys(&server).len(), 2);
    server.restart().await;
    let admin = server.login_admin().await;
    let refused = admin.get("/api/v1/secrets/s-7?showValues=true").await.error(500);
    assert!(refused.contains("s-7") && refused.contains("tampered"), "{refused}");
    let path = "/api/v1/secrets/s-8?showValues=true";
    let answer: Value = admin.request("GET", path).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["value"], value_of(8));
    // Once it is gone, the old key can go.
    admin.delete("/api/v1/secrets/s-7").await;
    succeeded(&command(&server, &[]).output().unwrap());
    assert_eq!(keys(&server).len(), 1);
}

#[tokio::test]
async fn servers_with_keys_from_the_environment_change_them_one_after_the_other() {
    let Some(postgres) = Postgres::shared() else { return };
    let [old, new] = ["1a".repeat(32), "2b".repeat(32)];
    let set = |key: &str, others: &str| {
        vec![
            ("MCPCTL_MASTER_KEY".to_owned(), key.to_owned()),
            ("MCPCTL_OLD_MASTER_KEYS".to_owned(), others.to_owned()),
        ]
    };
    let url = postgres.create_database();
    let options =
        ServerOptions { database_url: Some(url.clone()), env: set(&old, ""), ..ServerOptions::default() };
    let mut one = Server::start_with(options.clone()).await;
    let admin = one.login_admin().await;
    fill(&admin).await;
    let mut two = Server::start_with(options).await;
    let token = admin.token().to_owned();
    // First each may read the new key, then each writes with it, then the old one goes.
    for keys in [set(&old, &new), set(&new, &old)] {
        for server in [&mut one, &mut two] {
            server.options().env = keys.clone();
            server.restart().await;
            check(&server.client().with_token(&token)).await;
        }
    }
    one.logged("all stored values are under the key that writes").await;
    let mut again = command(&one, &set(&new, &old));
    let told = succeeded(&again.args(["--database-url", &url]).output().unwrap());
    assert!(told.contains("all are under") && told.contains("can go"), "{told}");
    for server in [&mut one, &mut two] {
        server.options().env = set(&new, "");
        server.restart().await;
        check(&server.client().with_token(&token)).await;
    }
}
