//! Resources as files: what is exported can be applied, by whoever and however often.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tests::{
    Server,
    chaos::{Seeded, rounds},
    server::{ADMIN, binary},
};

use crate::{
    journey::{mcpctl, succeed, text},
    tasks::logged_in,
};

/// Text that YAML, JSON or a terminal could take for something else.
const TEXTS: &[&str] = &[
    "plain",
    "",
    "yes",
    "No",
    "null",
    "~",
    "0x1F",
    "1e3",
    "007",
    "2026-01-31",
    "12:30:45",
    " leading and trailing ",
    "- dash",
    "key: value",
    "# no comment",
    "two\nlines",
    "ends in a newline\n",
    "\n\nbegins with two",
    "tab\there",
    "\"quoted\" and 'single'",
    "back\\slash",
    "{a: 1}",
    "[1, 2]",
    "*star &anchor !tag",
    "%percent @at `tick`",
    "|",
    ">-",
    "---",
    "...",
    "日本語 ünïcödé 🦀",
    "\u{2028}\u{a0}",
    "a line that is longer than the eighty columns after which some writers of YAML begin to fold what they write",
];

struct Maker {
    random: Seeded,
    number: usize,
}

impl Maker {
    fn text(&mut self) -> String {
        TEXTS[self.random.below(TEXTS.len() as u64) as usize].to_owned()
    }

    fn some_text(&mut self) -> String {
        loop {
            let text = self.text();
            if !text.trim().is_empty() {
                return text;
            }
        }
    }

    fn one_of(&mut self, choices: &[&str]) -> String {
        choices[self.random.below(choices.len() as u64) as usize].to_owned()
    }

    fn name(&mut self) -> String {
        self.number += 1;
        let odd = self.one_of(&["yes", "null", "0x1f", "1e3", "007", "a-b", "on", "x"]);
        format!("{odd}-{}", self.number)
    }

    /// Any JSON, so deep and no deeper.
    fn any(&mut self, depth: u64) -> Value {
        match self.random.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => (self.random.below(2) == 0).into(),
            2 => (self.random.below(1 << 31) as i64 - (1 << 30)).into(),
            3 => json!(self.random.below(1000) as f64 / 8.0),
            4 => self.text().into(),
            5 => (0..self.random.below(3)).map(|_| self.any(depth - 1)).collect(),
            _ => self.object(depth - 1).into(),
        }
    }

    fn object(&mut self, depth: u64) -> Map<String, Value> {
        (0..self.random.below(4))
            .map(|index| (format!("x{index} {}", self.text()), self.any(depth)))
            .collect()
    }

    /// Valid resources of every kind, which refer to one another.
    fn catalogue(&mut self, each: usize) -> Vec<Value> {
        let mut all = Vec::new();
        for _ in 0..each {
            let (secret, llm, project, group, rbac, token, backend) =
                (self.name(), self.name(), self.name(), self.name(), self.name(), self.name(), self.name());
            let user = format!("{}@b.example", self.name());
            let (kind, url) = match self.random.below(3) {
                0 => ("openai", String::new()),
                1 => ("anthropic", "https://anthropic.example/base".to_owned()),
                _ => ("vllm", "http://127.0.0.1:8000".to_owned()),
            };
            let backend_config = json!({"url": "http://127.0.0.1:1", "mount": "kv", "pathPrefix": "a/b",
                "tokenRef": {"name": secret, "key": "k"}});
            all.extend([
                json!({"kind": "secret", "name": secret, "description": self.text(), "data": {"k": "v"}}),
                json!({"kind": "secretbackend", "name": backend, "type": "openbao", "description": self.text(),
                       "config": backend_config}),
                json!({"kind": "llm", "name": llm, "type": kind, "model": self.some_text(), "url": url,
                       "tier": self.one_of(&["fast", "heavy"]), "description": self.text(),
                       "apiKeyRef": if self.random.below(2) == 0 { Value::Null } else { json!({"name": secret, "key": "k"}) },
                       "extraConfig": self.object(3)}),
                json!({"kind": "user", "name": user, "displayName": self.text(), "password": "long-enough"}),
                json!({"kind": "group", "name": group, "description": self.text(), "members": [user]}),
                json!({"kind": "project", "name": project, "description": self.text(), "prompt": self.text(),
                       "llmProvider": self.one_of(&["none", "", "nobody", &llm]), "llmModel": self.text(),
                       "servers": [self.some_text(), self.some_text()], "gated": self.random.below(2) == 0}),
                json!({"kind": "rbac", "name": rbac, "description": self.text(),
                       "subjects": [{"kind": "User", "name": user}, {"kind": "Group", "name": group}],
                       "roleBindings": [{"role": "run", "resource": "llms", "name": llm}, {"role": "run", "action": "audit"},
                                        {"role": self.one_of(&["view", "edit"]), "resource": self.one_of(&["secrets", "*"])}]}),
                json!({"kind": "mcptoken", "name": token, "description": self.text(),
                       "roleBindings": [{"role": "view", "resource": "llms"}]}),
            ]);
        }
        all
    }
}

fn export(server: &Server) -> String {
    succeed(server, &["get", "all", "-o", "yaml"], "")
}

/// The documents of an export that differ, for a failure that can be read.
fn first_difference<'a>(one: &'a str, other: &'a str) -> Option<(&'a str, &'a str)> {
    one.split("---\n").zip(other.split("---\n")).find(|(one, other)| one != other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_exported_applies_again_and_makes_the_same_from_nothing() {
    let each = usize::try_from(5 * rounds(2)).unwrap();
    let resources = Maker { random: Seeded::new(20_261_123), number: 0 }.catalogue(each);
    let server = logged_in().await;
    let admin = server.login_admin().await;
    let answer = admin.post("/api/v1/apply", &json!({"resources": resources, "atomic": true})).await.json();
    let failed: Vec<&Value> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["outcome"] != "created")
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");

    let exported = export(&server);
    let applied = succeed(&server, &["apply", "-f", "-"], &exported);
    let changed: Vec<&str> = applied.lines().filter(|line| !line.starts_with("Unchanged ")).collect();
    assert!(changed.is_empty() && applied.lines().count() > resources.len(), "{changed:#?}");

    // Nothing is left but what would lock everybody out, or leave no place for secrets.
    let file = server.folder().join("export.yaml");
    fs::write(&file, &exported).unwrap();
    let file = file.to_str().unwrap();
    let deleted = mcpctl(&server, &["delete", "-f", file], "");
    assert_eq!(deleted.status.code(), Some(1), "{}", text(&deleted));
    let left = succeed(&server, &["get", "all", "-o", "name"], "");
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["rbac/admin", "secretbackend/default", &format!("user/{ADMIN}")], "{}", text(&deleted));

    succeed(&server, &["apply", "-f", file], "");
    let again = export(&server);
    assert_eq!(first_difference(&exported, &again), None);
    assert_eq!(exported.len(), again.len());
}

/// Fifty resources, of which the 37th names a Secret that is not there.
fn fifty() -> String {
    (1..=50)
        .map(|number| {
            let secret = if number == 37 { "apiKeyRef: {name: nowhere, key: k}\n" } else { "" };
            format!("kind: llm\nname: l{number}\ntype: openai\nmodel: m\n{secret}---\n")
        })
        .collect()
}

#[tokio::test]
async fn one_refusal_among_fifty_stops_all_of_them_or_none() {
    let server = logged_in().await;
    let count = || succeed(&server, &["get", "llms", "-o", "name"], "").lines().count();
    let output = mcpctl(&server, &["apply", "-f", "-", "--atomic"], &fifty());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Error applying llm 'l37'") && said.contains("nothing was changed"), "{said}");
    assert_eq!(count(), 0);
    for how in [&["--dry-run"][..], &["--dry-run=server"], &["--dry-run=server", "--atomic"]] {
        let output = mcpctl(&server, &[&["apply", "-f", "-"], how].concat(), &fifty());
        let said = text(&output);
        // Only the server looks whether what is referred to is there.
        let (code, would) = match how {
            ["--dry-run"] => (0, 50),
            ["--dry-run=server"] => (1, 49),
            _ => (1, 0),
        };
        assert_eq!(
            (output.status.code(), said.matches("Would create llm: ").count()),
            (Some(code), would),
            "{said}"
        );
        assert!(said.contains("Dry run - would apply:\n  50 llm(s)"), "{said}");
    }
    assert_eq!(count(), 0);
    let output = mcpctl(&server, &["apply", "-f", "-"], &fifty());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("Created llm: ").count(), 49, "{said}");
    assert!(said.contains("Error applying llm 'l37'") && said.contains("1 of 50 resources failed"), "{said}");
    assert_eq!(count(), 49);
}

#[tokio::test]
async fn what_is_interrupted_leaves_whole_resources_and_is_finished_by_repeating_it() {
    let server = logged_in().await;
    let file = server.folder().join("many.yaml");
    let many: String = (0..400)
        .map(|number| {
            format!("kind: llm\nname: l{number}\ntype: openai\nmodel: m\ndescription: whole\nextraConfig: {{n: {number}}}\n---\n")
        })
        .collect();
    fs::write(&file, many).unwrap();
    let mut applying = Command::new(binary("mcpctl"))
        .args(["apply", "-f"])
        .arg(&file)
        .env_clear()
        .env("HOME", server.folder())
        .env("MCPCTL_URL", server.url())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let count = || succeed(&server, &["get", "llms", "-o", "name"], "").lines().count();
    let began = Instant::now();
    while count() < 20 {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing was made");
    }
    let pid = i32::try_from(applying.id()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT)
        .unwrap();
    assert!(!applying.wait().unwrap().success());
    let made = count();
    assert!((20..400).contains(&made), "{made} were made");
    let whole = succeed(&server, &["get", "llms", "-o", "jsonpath={.items[*].description}"], "");
    assert_eq!(whole.matches("whole").count(), made);
    let began = Instant::now();
    let applied = succeed(&server, &["apply", "-f", file.to_str().unwrap()], "");
    println!("400 resources, {made} of them there already, in {:?}", began.elapsed());
    // What was under way when it was interrupted may have been made after they were counted.
    let (unchanged, created) =
        (applied.matches("Unchanged llm: ").count(), applied.matches("Created llm: ").count());
    assert!((made..made + 2).contains(&unchanged) && unchanged + created == 400, "{made} {applied}");
    assert_eq!(count(), 400);
}
