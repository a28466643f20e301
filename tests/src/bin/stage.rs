//! What the tests in other languages play on: the stub provider, and the real server with Llms and users.
//!
//! Prints one line of JSON that says where everything is, and stays until its standard input ends. Until then it takes
//! two words there, a line each, and answers `done`: `kill` ends the server as a power cut would, `restart` starts it
//! again. At the end the server must end well, and no secret may show in what it gave out; anything else is an exit with
//! an error.

use serde_json::{Map, Value, json};
use tests::{Provider, Server, provider::refusing_url};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// The Llms: their names, their types, and whether the stub is behind them.
const LLMS: [(&str, &str, bool); 4] = [
    ("openai", "openai", true),
    ("anthropic", "anthropic", true),
    ("vllm", "vllm", true),
    ("refusing", "openai", false),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (mut server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    let mut keys = Map::new();
    for (name, ty, is_served) in LLMS {
        let url = if is_served { provider.url() } else { refusing_url() };
        let key = admin.create_llm_at(name, ty, &url, json!({})).await;
        keys.insert(name.to_owned(), key.into());
    }
    let with_role = async |role: &str| {
        let user = admin.create_user_with(&json!([{"role": role, "resource": "llms"}])).await;
        Value::from(user.token())
    };
    let stage = json!({
        "server": server.url(),
        "stub": provider.url(),
        "admin": admin.token(),
        "runner": with_role("run").await,
        "editor": with_role("edit").await,
        "keys": keys,
    });
    println!("{stage}");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.as_str() {
            "kill" => server.kill9(),
            "restart" => drop(server.restart().await),
            other => panic!("{other:?} is neither kill nor restart"),
        }
        println!("done");
    }
    server.sigterm();
    let status = server.exit_status();
    assert!(status.success(), "the server ended with {status}:\n{}", server.log());
}
