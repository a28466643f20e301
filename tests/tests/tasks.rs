//! What somebody who knows kubectl types, with nothing but `--help` to go by.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use tests::{
    Provider, Server,
    provider::answer,
    server::{ADMIN, binary},
};

use crate::journey::{mcpctl, succeed, text};

/// A server, and a home that is logged in to it.
pub(crate) async fn logged_in() -> Server {
    let server = Server::start().await;
    succeed(&server, &["login", "--email", ADMIN, "--password-stdin"], server.admin_password());
    server
}

/// Runs a line as it is typed, `'…'` around words with spaces.
fn typed(server: &Server, line: &str, stdin: &str) -> Output {
    let mut words = vec![String::new()];
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for (index, word) in part.split(' ').enumerate() {
            if index > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(word);
        }
    }
    words.retain(|word| !word.is_empty());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    mcpctl(server, &words, stdin)
}

const MANIFEST: &str = "kind: secret\nname: openai\ndata: {api-key: not-a-real-key}\n---\n\
    kind: llm\nname: gpt\ntype: openai\nmodel: gpt-4o\napiKeyRef: {name: openai, key: api-key}\n---\n\
    kind: llm\nname: small\ntype: ollama\nmodel: tiny\nurl: http://127.0.0.1:1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_tasks_of_a_kubectl_user() {
    let (server, provider) = (logged_in().await, Provider::start().await);
    let folder = server.folder();
    let file = folder.join("catalogue.yaml").display().to_string();
    fs::write(&file, MANIFEST).unwrap();
    let chat = format!("create llm talker --type openai --model m --url {}", provider.url());
    // What is typed, the exit status, and what is shown.
    let tasks: &[(&str, i32, &[&str])] = &[
        ("version", 0, &["Client: ", "Server: "]),
        ("api-resources", 0, &["SHORTNAMES", "secretbackend,sb", "view,create,edit,delete,run"]),
        ("explain llm.tier", 0, &["fast, heavy", "Default:      fast"]),
        (&format!("apply -f {file} --dry-run"), 0, &["Dry run", "Would create llm: gpt"]),
        (&format!("diff -f {file}"), 1, &["+model: gpt-4o"]),
        (
            &format!("apply -f {file}"),
            0,
            &["Created secret: openai", "Created llm: gpt", "Created llm: small"],
        ),
        ("get llms", 0, &["NAME", "secret://openai/api-key"]),
        ("get llm gpt small -o name", 0, &["llm/gpt\nllm/small\n"]),
        ("get llms -o wide --no-headers", 0, &["gpt", "http://127.0.0.1:1"]),
        ("get llms --sort-by model -o jsonpath='{.items[*].name}'", 0, &["gpt small\n"]),
        ("get llms -o jsonpath='{range .items[*]}{.name}={.tier};{end}'", 0, &["gpt=fast;small=fast;"]),
        ("describe llm/gpt", 0, &["=== LLM: gpt ===", "Secret:  openai"]),
        ("patch llm gpt tier=heavy", 0, &["llm 'gpt' updated"]),
        ("patch llm gpt --json '{\"extraConfig\": {\"maxTokens\": 5}}'", 0, &["updated"]),
        ("get llm gpt -o jsonpath={.extraConfig.maxTokens}", 0, &["5\n"]),
        ("get all", 0, &["LLMS:", "SECRETS:", "USERS:"]),
        (&chat, 0, &["llm 'talker' created"]),
        ("chat talker 'Why is the sky blue?'", 0, &[&answer::text()]),
        ("auth can-i delete llms gpt", 0, &["yes"]),
        ("auth who-can run llms gpt", 0, &[ADMIN]),
        ("get llm gtp", 1, &["no llm named `gtp`", "did you mean `gpt`?"]),
        ("descirbe llm gpt", 2, &["'describe'"]),
        (
            &format!("delete -f {file}"),
            0,
            &["llm 'small' deleted\nllm 'gpt' deleted\nsecret 'openai' deleted"],
        ),
        ("delete llm gpt --ignore-not-found", 0, &["There is no llm 'gpt'"]),
        ("get auditlogs --kind resource_change --limit 3", 0, &["delete secrets/openai"]),
    ];
    assert_eq!(tasks.len(), 25);
    for (line, status, shown) in tasks {
        let output = typed(&server, line, "");
        let said = text(&output);
        assert_eq!(output.status.code(), Some(*status), "mcpctl {line}: {said}");
        for part in *shown {
            assert!(said.contains(part), "mcpctl {line} lacks {part:?}: {said}");
        }
    }
}

#[tokio::test]
async fn what_is_printed_as_yaml_is_unchanged_when_it_is_applied() {
    let server = logged_in().await;
    let run = |line: &str| {
        let output = typed(&server, line, "not-a-real-key");
        assert!(output.status.success(), "{line}: {}", text(&output));
    };
    run(
        "create secret s --from-stdin key -d 'a description that is long enough to be folded by whoever folds long lines of YAML'",
    );
    run("create llm gpt --type openai --model m --api-key-ref s/key --extra maxTokens=5");
    run("create secretbackend bao --type openbao --url http://127.0.0.1:1 --token-secret s/key");
    run("create user ann@example.com --password pass-word-1 --name Ann");
    run("create group team --member ann@example.com");
    run("create rbac r --subject Group:team --binding view:llms:gpt --operation audit");
    run("create mcptoken t --bind view:llms");
    run("create project p --llm gpt --server s1 --prompt Hello");
    let kinds = succeed(&server, &["api-resources", "-o", "name"], "");
    let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "auditlogs").collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    for kind in kinds {
        let yaml = succeed(&server, &["get", kind, "-o", "yaml"], "");
        let applied = succeed(&server, &["apply", "-f", "-"], &yaml);
        let count = succeed(&server, &["get", kind, "-o", "name"], "").lines().count();
        let unchanged = applied.lines().filter(|line| line.starts_with("Unchanged ")).count();
        assert!(applied.lines().count() == count && unchanged == count, "{kind}: {applied}\n{yaml}");
    }
}

#[tokio::test]
async fn a_set_prunes_what_it_made_and_nothing_else() {
    let server = logged_in().await;
    let llm = |name: &str| {
        format!("kind: llm\nname: {name}\ntype: ollama\nmodel: m\nurl: http://127.0.0.1:1\n---\n")
    };
    let apply = |args: &[&str], text: &str| succeed(&server, &[&["apply", "-f", "-"], args].concat(), text);
    let names = || succeed(&server, &["get", "llms", "-o", "name"], "");
    apply(&[], &(llm("before") + &llm("foreign")));
    let all = llm("before") + &llm("one") + &llm("two") + &llm("again");
    apply(&["--set", "team"], &all);
    // Somebody else's now, under the same name.
    succeed(&server, &["delete", "llm", "again"], "");
    apply(&[], &llm("again"));
    let other = apply(&["--set", "other", "--prune"], &llm("one"));
    assert_eq!(other, "Unchanged llm: one\n");
    let would = apply(&["--set", "team", "--prune", "--dry-run"], &llm("one"));
    assert!(would.contains("Would prune llm: two") && would.matches("prune").count() == 1, "{would}");
    assert_eq!(names().lines().count(), 5);
    // A failure prunes nothing.
    let broken = llm("one") + "kind: llm\nname: x\ntype: openai\n";
    let output = mcpctl(&server, &["apply", "-f", "-", "--set", "team", "--prune"], &broken);
    assert!(
        output.status.code() == Some(1) && text(&output).contains("nothing was pruned"),
        "{}",
        text(&output)
    );
    let pruned = apply(&["--set", "team", "--prune"], &llm("one"));
    assert_eq!(pruned, "Unchanged llm: one\nPruned llm: two\n");
    assert_eq!(names(), "llm/again\nllm/before\nllm/foreign\nllm/one\n");
    let usage = mcpctl(&server, &["apply", "-f", "-", "--prune"], &all);
    assert_eq!(usage.status.code(), Some(2));
}

/// Runs `edit` with a script for an editor, which finds the file as `$1`.
fn edit(server: &Server, script: &str) -> Output {
    let editor = server.folder().join("editor");
    fs::write(
        &editor,
        format!("#!/bin/sh\nPATH={}:$PATH\n{script}\n", binary("mcpctl").parent().unwrap().display()),
    )
    .unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(binary("mcpctl"))
        .args(["edit", "llm", "gpt"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", server.folder())
        .env("TMPDIR", server.folder())
        .env("MCPCTL_URL", server.url())
        .env("EDITOR", &editor)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[tokio::test]
async fn an_edit_that_is_refused_comes_back_with_the_reason() {
    let server = logged_in().await;
    succeed(&server, &["create", "llm", "gpt", "--type", "openai", "--model", "m"], "");
    let model = || succeed(&server, &["get", "llm", "gpt", "-o", "jsonpath={.model} {.tier}"], "");

    let output = edit(
        &server,
        "if grep -q '^#! .*tier: must be one of' $1; then sed -i 's/slow/heavy/' $1; else sed -i 's/fast/slow/' $1; fi",
    );
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(model(), "m heavy\n");

    // Whoever gives up keeps the text, without the remarks.
    let output = edit(&server, "sed -i 's/heavy/never/' $1");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let kept = said.split("your text is kept in ").nth(1).unwrap().trim();
    let kept = fs::read_to_string(kept).unwrap();
    assert!(kept.starts_with("kind: llm\n") && kept.contains("tier: never"), "{kept}");

    // Somebody else was quicker: both versions are shown, and nothing is overwritten unseen.
    let race = "if grep -q '^#! -model: theirs' $1 && grep -q '^#! +model: mine' $1; then sed -i '/^#!/d' $1; \
                else mcpctl patch llm gpt model=theirs; sed -i 's/model: m$/model: mine/' $1; fi";
    let output = edit(&server, race);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(model(), "mine heavy\n");
    let output = edit(&server, "true");
    assert!(output.status.success() && text(&output).contains("Nothing was changed."), "{}", text(&output));
}

/// A program that runs until the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_watch_prints_what_changes() {
    let server = logged_in().await;
    succeed(&server, &["create", "llm", "gpt", "--type", "openai", "--model", "m"], "");
    let mut watch = Command::new(binary("mcpctl"));
    watch.args(["get", "llms", "-w", "-o", "json"]).env_clear().env("HOME", server.folder());
    watch.env("MCPCTL_URL", server.url()).stdin(Stdio::null()).stdout(Stdio::piped());
    watch.stderr(File::create(server.folder().join("watched")).unwrap());
    let mut watch = Running(watch.spawn().unwrap());
    let (lines, printed) = mpsc::channel();
    let output = BufReader::new(watch.0.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let next = || -> Value {
        let line = printed.recv_timeout(Duration::from_secs(20)).expect("the watch prints");
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next()["model"], "m");
    succeed(&server, &["patch", "llm", "gpt", "model=n"], "");
    assert_eq!(next()["model"], "n");
    succeed(&server, &["delete", "llm", "gpt"], "");
    succeed(&server, &["create", "llm", "late", "--type", "openai", "--model", "o"], "");
    assert_eq!(next()["name"], "late");
}
