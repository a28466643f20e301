//! Completion in the shells themselves, with names from a running server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tests::{
    Server,
    server::{ADMIN, binary, free_address},
};

use crate::journey::{mcpctl, succeed};

/// A server with things in it, and a home that is logged in to it.
async fn stocked() -> Server {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    for name in ["alpha", "beta-1", "beta-2"] {
        let llm = json!({"name": name, "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"});
        assert_eq!(admin.post("/api/v1/llms", &llm).await.status, 201);
    }
    let secret = json!({"name": "keys", "data": {"one": "1", "two": "2"}});
    assert_eq!(admin.post("/api/v1/secrets", &secret).await.status, 201);
    let login = ["login", "--email", ADMIN, "--password-stdin"];
    succeed(&server, &login, server.admin_password());
    server
}

/// The shell, unless this machine has none: then it says so.
fn shell(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    });
    if found.is_none() {
        eprintln!("skipped: no {name} on this machine; `scripts/install {name}` installs it");
    }
    found
}

/// Runs a script in a shell that finds `mcpctl` and is logged in; what it printed, line by line.
fn run(server: &Server, program: &Path, args: &[&str], script: &str) -> Vec<String> {
    let programs = binary("mcpctl").parent().unwrap().to_owned();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let output = Command::new(program)
        .args(args)
        .arg("-c")
        .arg(script)
        .env_clear()
        .env("HOME", server.folder())
        .env("PATH", path)
        .env("TERM", "xterm")
        .env("MCPCTL_URL", server.url())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// What is typed, and what must and must not be offered for it.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("mcpctl desc", &["describe"], &["delete"]),
    ("mcpctl get ", &["llms", "secrets", "auditlogs", "all"], &["--follow"]),
    ("mcpctl get llm ", &["alpha", "beta-1", "beta-2"], &["keys"]),
    ("mcpctl get llm be", &["beta-1", "beta-2"], &["alpha"]),
    ("mcpctl get llm beta-1 ", &["alpha", "beta-2"], &["beta-1"]),
    ("mcpctl delete llm/al", &["llm/alpha"], &["llm/beta-1"]),
    ("mcpctl -o json describe secret ", &["keys"], &["alpha"]),
    ("mcpctl chat a", &["alpha"], &["beta-1"]),
    ("mcpctl patch llm ", &["alpha"], &["keys"]),
    ("mcpctl patch llm alpha ti", &["tier="], &["model="]),
    ("mcpctl create llm x --api-key-ref keys/", &["keys/one", "keys/two"], &["alpha"]),
    ("mcpctl create llm x --tier ", &["fast", "heavy"], &[]),
    ("mcpctl get auditlogs --llm al", &["alpha"], &["beta-1"]),
    ("mcpctl get users adm", &["admin@example.com"], &[]),
    ("mcpctl auth can-i run llms al", &["alpha"], &["beta-1"]),
    ("mcpctl explain llm.ti", &["llm.tier"], &[]),
    ("mcpctl get llms --no-h", &["--no-headers"], &[]),
];

fn check(shell: &str, line: &str, offered: &[String], wanted: &[&str], unwanted: &[&str]) {
    // Shells show the parts before and after what they take for the word's last separator, or the whole.
    let has =
        |one: &str| offered.iter().any(|word| word.split('\t').next().unwrap_or_default().trim() == one);
    for one in wanted {
        assert!(has(one), "{shell}: `{line}` lacks {one}: {offered:?}");
    }
    for one in unwanted {
        assert!(!has(one), "{shell}: `{line}` has {one}: {offered:?}");
    }
}

#[tokio::test]
async fn bash_completes() {
    let Some(bash) = shell("bash") else { return };
    let server = stocked().await;
    let ask = |line: &str, last: &str| {
        let script = format!(
            "source <(mcpctl completion bash)\nCOMP_LINE='{line}' COMP_POINT={}\n_mcpctl mcpctl '{last}' ''\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\ncomplete -p mcpctl >/dev/null",
            line.len()
        );
        run(&server, &bash, &["--norc"], &script)
    };
    for (line, wanted, unwanted) in CASES {
        let last = line.rsplit(' ').next().unwrap_or_default();
        check("bash", line, &ask(line, last), wanted, unwanted);
    }
    // Bash takes what follows the @ for a word of its own.
    assert_eq!(ask("mcpctl get users admin@ex", "ex"), ["example.com"]);
}

#[tokio::test]
async fn fish_completes() {
    let Some(fish) = shell("fish") else { return };
    let server = stocked().await;
    for (line, wanted, unwanted) in CASES {
        let script = format!("mcpctl completion fish | source; complete --do-complete '{line}'");
        check("fish", line, &run(&server, &fish, &["--no-config"], &script), wanted, unwanted);
    }
}

#[tokio::test]
async fn zsh_completes() {
    let Some(zsh) = shell("zsh") else { return };
    let server = stocked().await;
    for (line, wanted, unwanted) in CASES {
        // A shell in a terminal of its own, in which a widget lists what Tab would offer.
        let script = format!(
            "zmodload zsh/zpty\nzpty z zsh -f -i\n\
             zpty -w z 'PS1= PROMPT=; stty -echo; autoload -Uz compinit; compinit -D -u; source <(mcpctl completion zsh)'\n\
             zpty -w z 'compadd() {{ [[ ${{@[(r)-D]}} == -D || ${{@[(r)-O]}} == -O || ${{@[(r)-A]}} == -A ]] && {{ builtin compadd \"$@\"; return }}; local -a hits; builtin compadd -O hits \"$@\"; print -rl -- \"OFFER=${{^hits[@]}}\"; builtin compadd \"$@\" }}'\n\
             zpty -w z 'show() {{ zle list-choices; zle kill-whole-line; print -r -- DONE=1 }}; zle -N show; bindkey \"^X\" show; zstyle \":completion:*\" list-prompt \"\"; print -r -- REA\"\"DY=1'\n\
             zpty -r z text '*READY=1*'\n\
             zpty -w -n z $'{line}\\C-x'\nzpty -r z text '*DONE=1*'\nprint -r -- $text"
        );
        let printed = run(&server, &zsh, &["-f"], &script);
        let offered: Vec<String> = printed
            .iter()
            .filter_map(|text| text.split_once("OFFER=").map(|(_, one)| one.to_owned()))
            .collect();
        check("zsh", line, &offered, wanted, unwanted);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_no_patience() {
    let server = stocked().await;
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("x")).unwrap();
    // It takes the connection and says nothing.
    let silent = std::net::TcpListener::bind(free_address()).unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    for url in [silent_url.as_str(), "http://127.0.0.1:1", "http://nowhere.invalid"] {
        let begun = Instant::now();
        let words = ["__complete", "fish", "--", "mcpctl", "--daemon-url", url, "get", "llm", ""];
        let output = mcpctl(&server, &words, "");
        assert!(
            output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("alpha"),
            "{output:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3), "{url}: {:?}", begun.elapsed());
    }
}
