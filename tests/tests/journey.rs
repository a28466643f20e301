//! The first ten minutes: what `make run` prints is typed as it stands, and the command line does the main job.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{
    Provider, Server,
    provider::answer,
    server::{ADMIN, Process, binary, free_address, unique},
    wait::eventually_within,
};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

#[tokio::test]
async fn the_lines_that_run_prints_work_as_printed() {
    let folder = TempDir::new().unwrap();
    for program in ["mcpctl-server", "mcpctl", "stub-provider"] {
        binary(program);
    }
    let printed = folder.path().join("printed");
    let output = File::create(&printed).unwrap();
    let mut run = Command::new(workspace().join("scripts/run"));
    run.env("MCPCTL_LISTEN", free_address().to_string())
        .env("STUB_LISTEN", free_address().to_string())
        .env("RUN_FOLDER", folder.path().join("run"))
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let server = Process::spawn(&mut run);
    let listens = async || {
        assert!(server.is_running(), "{}", fs::read_to_string(&printed).unwrap());
        fs::read_to_string(&printed).unwrap().contains("mcpctl-server listens on").then_some(())
    };
    eventually_within(Duration::from_secs(20), "the server listens", listens).await;

    let printed = fs::read_to_string(&printed).unwrap();
    let (ours, _) = printed.split_once("mcpctl-server listens on").unwrap();
    let lines: Vec<&str> = ours.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(lines.len() >= 8, "{printed}");
    // The provider runs in the background, as it would in the terminal, until the terminal is closed.
    let script = format!("set -e\n{}\necho; kill %1\n", lines.join("\n"));
    let script = script.replace("stub-provider --listen", "set -m; stub-provider --listen");
    let mut shell = Command::new("timeout");
    shell.args(["60", "bash", "-c", &script]).env("HOME", folder.path()).current_dir(workspace());
    let typed = text(&shell.stdin(Stdio::null()).output().unwrap());
    assert!(typed.contains("llm 'demo' created (id: c"), "{typed}");
    assert!(typed.contains(&answer::text()), "the chat: {typed}");
    assert!(typed.contains("data: [DONE]"), "curl: {typed}");
    assert!(!typed.contains("not-a-real-key"), "{typed}");
}

/// Runs the command line as a person with a home folder of their own would.
pub(crate) fn mcpctl(server: &Server, args: &[&str], stdin: &str) -> Output {
    let input = server.folder().join("stdin");
    fs::write(&input, stdin).unwrap();
    let output = Command::new(binary("mcpctl"))
        .args(args)
        .env_clear()
        .env("HOME", server.folder())
        .env("MCPCTL_URL", server.url())
        .stdin(File::open(&input).unwrap())
        .output()
        .unwrap();
    server.canary.saw(format!("mcpctl {}", args.join(" ")), text(&output));
    output
}

pub(crate) fn succeed(server: &Server, args: &[&str], stdin: &str) -> String {
    let output = mcpctl(server, args, stdin);
    assert!(output.status.success(), "mcpctl {}: {}", args.join(" "), text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_the_main_job() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let (key, url) = (unique("sk-typed"), provider.url());
    server.canary.keep_secret("the typed key", &key);
    let run = |args: &[&str]| succeed(&server, args, "");

    succeed(&server, &["login", "--email", ADMIN, "--password-stdin"], server.admin_password());
    assert!(run(&["whoami"]).contains(ADMIN));
    succeed(&server, &["create", "secret", "p", "--from-stdin", "token"], &key);
    let create = ["create", "llm", "gpt", "--type", "anthropic", "--model", "m-1", "--url", &url];
    let made = run(&[&create[..], &["--api-key-ref", "p/token"]].concat());
    assert!(made.starts_with("llm 'gpt' created (id: c"), "{made}");
    assert_eq!(run(&["chat", "gpt", "Hello"]).trim(), answer::text());
    assert_eq!(provider.last().header("x-api-key"), Some(key.as_str()));

    let table = run(&["get", "llms"]);
    assert!(table.contains("NAME") && table.contains("secret://p/token"), "{table}");
    let described = run(&["describe", "llm", "gpt"]);
    for part in ["=== LLM: gpt ===", "API Key:", "Metadata:"] {
        assert!(described.contains(part), "{described}");
    }
    run(&["describe", "secret", "p"]);
    run(&["get", "secrets", "-o", "yaml"]);
    let listed: Value = serde_json::from_str(&run(&["get", "llms", "-o", "json"])).unwrap();
    assert_eq!(listed[0]["name"], "gpt");

    let yaml = run(&["get", "llm", "gpt", "-o", "yaml"]);
    assert!(yaml.starts_with("kind: llm"), "{yaml}");
    assert_eq!(succeed(&server, &["apply", "-f", "-"], &yaml).trim(), "Unchanged llm: gpt");
    let changed = yaml.replace("m-1", "m-2");
    assert_eq!(succeed(&server, &["apply", "-f", "-"], &changed).trim(), "Updated llm: gpt");
    run(&["delete", "llm", "gpt"]);
    assert_eq!(succeed(&server, &["apply", "-f", "-"], &yaml).trim(), "Created llm: gpt");

    // The server's no is a 1; where the words alone are wrong, it is not asked.
    for (args, statuses, word) in [
        (&["get", "llm", "nowhere"][..], &[1][..], "nowhere"),
        (&["delete", "llm", "nowhere"], &[1], "nowhere"),
        (&["create", "llm", "gpt", "--type", "openai", "--model", "m"], &[1], "gpt"),
        (
            &["create", "llm", "x", "--type", "openai", "--model", "m", "--api-key-ref", "x"],
            &[1, 2],
            "SECRET_NAME/KEY_NAME",
        ),
        (&["get", "nonsense"], &[1, 2], "nonsense"),
        (&["get", "llms", "--nonsense"], &[2], "nonsense"),
    ] {
        let output = mcpctl(&server, args, "");
        let shown = text(&output);
        assert!(output.status.code().is_some_and(|code| statuses.contains(&code)), "{args:?}: {shown}");
        assert!(shown.contains(word) && output.stdout.is_empty(), "{args:?}: {shown}");
    }
    run(&["logout"]);
    assert_eq!(mcpctl(&server, &["whoami"], "").status.code(), Some(1));
}
