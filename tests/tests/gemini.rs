//! Llms of type gemini-cli: what the program is given, what becomes of what it says, and that it never outlives its
//! call. A stand-in takes its place; `scripts/check-gemini` compares the flags with the real one's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Api, Server, ServerOptions, eventually, eventually_within,
    server::{binary, unique},
    sse::Chat,
};

/// How long a program may be there once nobody waits for it.
const GONE: Duration = Duration::from_secs(1);

/// A server with an Llm `g` of the stand-in.
struct Setup {
    server: Server,
    admin: Api,
    key: String,
    /// Where the stand-in notes what it was given.
    notes: TempDir,
}

impl Setup {
    async fn start() -> Self {
        Self::start_with(&[], json!({})).await
    }

    async fn start_with(args: &[&str], extra: Value) -> Self {
        let notes = TempDir::new().unwrap();
        let program = notes.path().join("gemini");
        symlink(binary("stub-gemini"), &program).unwrap();
        let mut all = vec!["--gemini-program".to_owned(), program.to_string_lossy().into_owned()];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let env = [
            ("MCPCTL_SOMETHING", "of-the-server"),
            ("GEMINI_API_KEY", "the-servers-own"),
            ("LANG", "C.UTF-8"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let server = Server::start_with(ServerOptions { args: all, env, ..ServerOptions::default() }).await;
        let admin = server.login_admin().await;
        let key = admin.create_llm_at("g", "gemini-cli", "", extra).await;
        server.canary.keep_secret("the key", &key);
        Self { server, admin, key, notes }
    }

    /// Everything that runs of the stand-in noted.
    fn noted(&self) -> Vec<Value> {
        let read = |path: &PathBuf| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        self.with_end("run").iter().map(read).collect()
    }

    fn with_end(&self, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.notes.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|found| found == end)).collect()
    }

    /// The numbers of the processes that were noted, runs and their children.
    fn processes(&self) -> Vec<String> {
        numbers(&[self.with_end("run"), self.with_end("child")].concat())
    }

    /// Waits until so many processes were noted.
    async fn noted_processes(&self, count: usize) -> Vec<String> {
        let probe = async || Some(self.processes()).filter(|processes| processes.len() == count);
        eventually("processes of the stand-in", probe).await
    }

    /// Waits until nothing of any run is left: no process, no zombie, no folder.
    async fn all_gone(&self) {
        let (runs, children) = (numbers(&self.with_end("run")), numbers(&self.with_end("child")));
        assert!(!runs.is_empty());
        // Orphans are not the server's to reap: one that has been killed and waits for that is gone.
        let gone = async || {
            let left = runs.iter().any(|run| state(run).is_some())
                || children.iter().any(|child| state(child).is_some_and(|state| state != 'Z'));
            (!left).then_some(())
        };
        eventually_within(GONE, "the end of all processes", gone).await;
        let folder = self.server.data_dir().join("gemini");
        let empty = async || (fs::read_dir(&folder).unwrap().count() == 0).then_some(());
        eventually("the end of all folders", empty).await;
    }

    /// The newest call in the audit trail with this status.
    async fn audited(&self, status: u16) -> Value {
        let probe = async || {
            let events = self.admin.get("/api/v1/auditlogs?kind=llm_inference_call").await.expect(200);
            events["items"].as_array()?.iter().find(|event| event["status"] == status).cloned()
        };
        eventually(&format!("an audit event with status {status}"), probe).await
    }
}

fn numbers(notes: &[PathBuf]) -> Vec<String> {
    notes.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// What a process does, as the kernel has it; `None` when there is none.
fn state(process: &str) -> Option<char> {
    let stat = fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn ask(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

fn ask_streamed(text: &str) -> Value {
    json!({"stream": true, "messages": [{"role": "user", "content": text}]})
}

const ANSWER: &str = "Hello \"world\" \u{1F30D}\n";

#[tokio::test]
async fn a_plain_answer_is_a_chat_completion() {
    let setup = Setup::start().await;
    let answer = setup.admin.infer("g", &ask("hello")).await.expect(200);
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("g-model")));
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-6f5e0c2e"), "{answer}");
    assert!(answer["created"].as_i64().unwrap() > 1_700_000_000);
    let choice = &answer["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(ANSWER), &json!("stop")));
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20,
                       "prompt_tokens_details": {"cached_tokens": 4}});
    assert_eq!(answer["usage"], usage, "thinking is part of the completion");
    setup.all_gone().await;
    let event = setup.audited(200).await;
    let tokens = ["promptTokens", "completionTokens", "cachedTokens"].map(|name| event[name].clone());
    assert_eq!(tokens, [json!(12), json!(8), json!(4)], "{event}");
}

#[tokio::test]
async fn a_stream_is_chunks_as_they_come() {
    let setup = Setup::start().await;
    let mut body = ask_streamed("do-wait");
    body["stream_options"] = json!({"include_usage": true});
    let mut stream = setup.admin.stream("/api/v1/llms/g/infer", &body).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    stream.until("Hello ").await;
    fs::write(setup.notes.path().join("go"), "").unwrap();
    let chunks = Chat::read(&stream.rest().await.text());
    chunks.assert_finished();
    assert_eq!((chunks.text().as_str(), chunks.finish_reasons()), (ANSWER, vec!["stop"]));
    setup.all_gone().await;
    assert_eq!(setup.audited(200).await["completionTokens"], 8);
}

#[tokio::test]
async fn every_api_that_goes_by_way_of_chat_works() {
    let setup = Setup::start().await;
    let message = json!({"model": "g", "max_tokens": 9, "system": "be brief", "messages": [{"role": "user", "content": "hi"}]});
    let reply = setup.admin.post("/v1/messages", &message).await;
    assert_eq!(reply.expect(200)["content"][0]["text"], ANSWER);
    assert_eq!(reply.header("x-mcpctl-dropped"), "max_tokens");
    let prompt = setup.noted()[0]["prompt"].clone();
    assert_eq!(prompt, "[system]\nbe brief\n\n[user]\nhi\n\n");
    let response = setup.admin.post("/v1/responses", &json!({"model": "g", "input": "hi"})).await.expect(200);
    assert!(response["output"].to_string().contains("world"), "{response}");
    let mut streamed = message;
    streamed["stream"] = true.into();
    let text = setup.admin.post("/v1/messages", &streamed).await.text();
    assert!(text.contains("event: message_stop") && text.contains("world"), "{text}");
    for path in ["/v1/embeddings", "/v1/completions"] {
        let body = json!({"model": "g", "input": "x", "prompt": "x"});
        assert!(setup.admin.post(path, &body).await.openai_error(501).contains("gemini-cli"));
    }
    setup.all_gone().await;
}

#[tokio::test]
async fn the_key_is_in_the_environment_and_nowhere_else() {
    let setup = Setup::start().await;
    let prompt = "my own /prompt, @/etc/passwd and bob@example.com";
    let reply = setup.admin.infer("g", &ask(prompt)).await;
    reply.expect(200);
    let note = setup.noted().remove(0);
    let args: Vec<&str> = note["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(args.contains(&"--output-format=stream-json") && args.contains(&"--model=g-model"), "{args:?}");
    assert!(args.contains(&"--approval-mode=default"), "{args:?}");
    assert!(!note["args"].to_string().contains("prompt"), "{args:?}");
    assert_eq!(note["prompt"], "my own /prompt, \\@/etc/passwd and bob@example.com");
    assert_eq!(reply.header("x-mcpctl-dropped"), "messages.at-path");
    let variables: Vec<(String, String)> = serde_json::from_value(note["env"].clone()).unwrap();
    let with_key: Vec<&str> = variables
        .iter()
        .filter(|(_, value)| value.contains(&setup.key))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(with_key, ["GEMINI_API_KEY"]);
    let known = [
        "GEMINI_API_KEY",
        "GEMINI_CLI_NO_RELAUNCH",
        "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
        "GEMINI_SYSTEM_MD",
        "HOME",
        "LANG",
        "NO_COLOR",
        "PATH",
        "TMPDIR",
    ];
    let mut names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, known, "nothing else of the server's environment");
    for place in ["args", "files", "prompt", "work"] {
        assert!(!note[place].to_string().contains(&setup.key), "the key is in {place}");
    }
    let home = setup.server.data_dir().join("gemini");
    for place in ["HOME", "TMPDIR"] {
        let (_, value) = variables.iter().find(|(name, _)| name == place).unwrap();
        assert!(Path::new(value).starts_with(&home), "{place}: {value}");
    }
    assert_eq!(note["around"], 0, "the working folder is empty");
    let files = note["files"].to_string();
    assert!(files.contains(r#"\"tools\": {\"core\": []}"#) && files.contains("decision = "), "{files}");
    setup.all_gone().await;
}

#[tokio::test]
async fn what_the_program_cannot_be_told_is_named_or_refused() {
    let setup = Setup::start_with(&[], json!({"defaults": {"top_k": 3}})).await;
    let mut body = ask("hello");
    for (name, value) in
        [("temperature", json!(0.5)), ("seed", json!(7)), ("tools", json!([{"type": "function"}]))]
    {
        body[name] = value;
    }
    let reply = setup.admin.infer("g", &body).await;
    reply.expect(200);
    let mut dropped: Vec<&str> = reply.header("x-mcpctl-dropped").split(',').collect();
    dropped.sort_unstable();
    assert_eq!(dropped, ["seed", "temperature", "tools", "top_k"]);
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let calls = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let with = |message: Value| json!({"messages": [message]});
    let mut many = ask("x");
    many["n"] = 2.into();
    let mut forced = ask("x");
    forced["tool_choice"] = "required".into();
    for (bad, field) in [
        (with(json!({"role": "user", "content": image})), "messages[0].content[0].type: "),
        (with(json!({"role": "tool", "tool_call_id": "1", "content": "x"})), "messages[0].role: "),
        (with(json!({"role": "assistant", "tool_calls": calls})), "messages[0].tool_calls: "),
        (with(json!({"role": "system", "content": "x"})), "messages: "),
        (many, "n: "),
        (forced, "tool_choice: "),
        (json!({"model": "--yolo", "messages": [{"role": "user", "content": "x"}]}), "model: "),
        (json!({"model": "a b", "messages": [{"role": "user", "content": "x"}]}), "model: "),
        (json!({"model": "a/../../b", "messages": [{"role": "user", "content": "x"}]}), "model: "),
    ] {
        let message = setup.admin.infer("g", &bad).await.error(400);
        assert!(message.starts_with(field), "{message}");
    }
    assert_eq!(setup.admin.infer("g", &ask(&"x".repeat(9 << 20))).await.status, 413);
    setup.admin.patch("/api/v1/llms/g", &json!({"extraConfig": {"strict": true}})).await.expect(200);
    assert!(setup.admin.infer("g", &body).await.error(400).contains("seed"));
    assert_eq!(setup.noted().len(), 1, "what is refused runs nothing");
}

#[tokio::test]
async fn failures_have_the_status_of_what_went_wrong() {
    let setup = Setup::start().await;
    for (what, status, says) in [
        ("do-quota", 429, "exceeded your current quota"),
        ("do-bad-key", 502, "refused the server's credentials"),
        ("do-no-model", 404, "models/x is not found"),
        ("do-internal", 500, "internal"),
        ("do-repeat-key", 502, "something about [redacted]"),
        ("do-exit-41", 502, "refused the server's credentials"),
        ("do-exit-42", 400, "exit code 42"),
        ("do-exit-1", 502, "exit code 1"),
        ("do-rubbish", 502, "exit code 0"),
        ("do-no-event", 502, "not one of its events"),
        ("do-half", 502, "not one of its events"),
        ("do-late-key", 502, "something about [redacted]"),
    ] {
        let reply = setup.admin.post("/api/v1/llms/g/v1/chat/completions", &ask(what)).await;
        let message = reply.openai_error(status);
        assert!(message.contains(says) && !message.contains("it went wrong"), "{what}: {message}");
        let reply = setup.admin.post("/api/v1/llms/g/v1/chat/completions", &ask_streamed(what)).await;
        match what {
            "do-no-event" | "do-half" | "do-late-key" => {
                let text = reply.text();
                Chat::read(&text).assert_broken();
                assert!(text.contains(says), "{what}: {text}");
            }
            _ => assert!(reply.openai_error(status).contains(says), "{what}"),
        }
    }
    setup.all_gone().await;
    let answer = setup.admin.infer("g", &ask("do-tell-key")).await.text();
    assert!(answer.contains("the key is [redacted]"), "{answer}");
    assert!(setup.server.log().contains("it went wrong with [redacted]"), "for those who look at the log");
}

#[tokio::test]
async fn the_deadline_ends_the_program_and_all_that_it_started() {
    let setup = Setup::start_with(&[], json!({"timeoutMs": 700})).await;
    let began = Instant::now();
    setup.admin.infer("g", &ask("do-fork-early")).await.error(504);
    setup.admin.infer("g", &ask("do-hang-late")).await.error(504);
    assert!(began.elapsed() < Duration::from_secs(10));
    let text = setup.admin.post("/api/v1/llms/g/infer", &ask_streamed("do-fork")).await.text();
    let chunks = Chat::read(&text);
    chunks.assert_broken();
    assert!(text.contains("0.7 seconds"), "{text}");
    setup.noted_processes(5).await;
    setup.all_gone().await;
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_program_along() {
    let setup = Setup::start().await;
    let mut stream = setup.admin.stream("/api/v1/llms/g/infer", &ask_streamed("do-fork")).await;
    stream.until("Hello ").await;
    setup.noted_processes(2).await;
    drop(stream);
    setup.all_gone().await;
    setup.audited(499).await;
    // The same before the answer has begun, and in one that is not streamed.
    for body in [ask_streamed("do-fork-early"), ask("do-fork")] {
        let before = setup.processes().len();
        let (admin, body) = (setup.admin.clone(), body.clone());
        let call = tokio::spawn(async move { admin.infer("g", &body).await });
        setup.noted_processes(before + 2).await;
        call.abort();
        setup.all_gone().await;
    }
}

#[tokio::test]
async fn a_child_that_holds_the_output_open_holds_nobody_up() {
    let setup = Setup::start().await;
    let answer = setup.admin.infer("g", &ask("do-leave-child")).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], ANSWER);
    let text = setup.admin.post("/api/v1/llms/g/infer", &ask_streamed("do-leave-child")).await.text();
    Chat::read(&text).assert_finished();
    setup.all_gone().await;
}

#[tokio::test]
async fn no_answer_fills_the_memory() {
    let setup = Setup::start().await;
    let message = setup.admin.infer("g", &ask("do-huge")).await.error(502);
    assert!(message.contains("longer than"), "{message}");
    setup.all_gone().await;
    let before = setup.server.resident_kib();
    let mut stream = setup.admin.stream("/api/v1/llms/g/infer", &ask_streamed("do-flood")).await;
    stream.until("xxx").await;
    // Nobody reads on, so the program is held up in the middle of what it would say without end.
    let run = numbers(&setup.with_end("run")).into_iter().find(|run| state(run).is_some()).unwrap();
    let (mut written, mut same) = (String::new(), 0);
    let held_up = async || {
        let now = fs::read_to_string(Path::new("/proc").join(&run).join("io")).ok()?;
        same = if now == written { same + 1 } else { 0 };
        written = now;
        (same > 20).then_some(())
    };
    eventually("a program that is held up", held_up).await;
    let bytes = written.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    assert!(bytes.parse::<u64>().unwrap() < 30 << 20, "{bytes} bytes written");
    let grown = setup.server.resident_kib().saturating_sub(before);
    assert!(grown < 50 * 1024, "{grown} KiB more");
    drop(stream);
    setup.all_gone().await;
}

#[tokio::test]
async fn so_many_run_at_once_and_no_more() {
    let args = ["--gemini-max-processes", "2", "--max-queue", "1", "--queue-timeout", "300ms"];
    let setup = Setup::start_with(&args, json!({})).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = setup.admin.stream("/api/v1/llms/g/infer", &ask_streamed("do-hang-late")).await;
        stream.until("Hello ").await;
        held.push(stream);
    }
    let reply = setup.admin.infer("g", &ask("hello")).await;
    assert!(reply.error(503).contains("2 times"), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(setup.noted().len(), 2);
    let metrics = setup.admin.get("/metrics").await.text();
    let shed = r#"mcpctl_inference_shed_total{llm="g",limit="processes",reason="timeout"} 1"#;
    assert!(metrics.contains(shed), "{metrics}");
    held.pop();
    let free = async || (setup.admin.infer("g", &ask("hello")).await.status == 200).then_some(());
    eventually("a place once one left", free).await;
    drop(held);
    setup.all_gone().await;
}

#[tokio::test]
async fn a_program_that_lingers_keeps_its_place() {
    let setup = Setup::start_with(&["--gemini-max-processes", "1"], json!({})).await;
    for number in 1..=3 {
        let text = setup.admin.post("/api/v1/llms/g/infer", &ask_streamed("do-linger")).await.text();
        Chat::read(&text).assert_finished();
        let alive = numbers(&setup.with_end("run")).iter().filter(|run| state(run).is_some()).count();
        assert!(alive <= 1, "{alive} at once after {number}");
    }
    setup.all_gone().await;
}

#[tokio::test]
async fn without_the_program_the_answer_says_what_to_install() {
    let env = vec![("PATH".to_owned(), "/nowhere".to_owned())];
    let server = Server::start_with(ServerOptions { env, ..ServerOptions::default() }).await;
    let admin = server.login_admin().await;
    admin.create("llms", &json!({"name": "g", "type": "gemini-cli", "model": "gemini"})).await;
    let message = admin.infer("g", &ask("hello")).await.error(501);
    assert!(message.starts_with("Unsupported LLM provider: gemini-cli"), "{message}");
    assert!(message.contains("npm install -g @google/gemini-cli"), "{message}");
    // One that is gone by now is as good as none.
    let setup = Setup::start().await;
    fs::remove_file(setup.notes.path().join("gemini")).unwrap();
    assert!(setup.admin.infer("g", &ask("hello")).await.error(501).contains("npm install"));
}

#[tokio::test]
async fn without_a_key_none_is_passed_on() {
    let setup = Setup::start().await;
    setup.admin.create("llms", &json!({"name": unique("open"), "type": "gemini-cli", "model": "m"})).await;
    let llms = setup.admin.get("/api/v1/llms").await.expect(200).to_string();
    let name = llms.split('"').find(|word| word.starts_with("open-")).unwrap().to_owned();
    setup.admin.infer(&name, &ask("hello")).await.expect(200);
    assert!(!setup.noted()[0]["env"].to_string().contains("GEMINI_API_KEY"), "not the server's own either");
}

/// The flags that the server uses are those of the stand-in, whose help is a copy of the real program's; and of the
/// real program, where there is one.
#[test]
fn the_flags_are_those_of_the_real_program() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts/check-gemini");
    let check = |program: &Path| Command::new(&script).arg(program).output().unwrap();
    let output = check(&binary("stub-gemini"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = check(Path::new("gemini"));
    match output.status.code() {
        Some(3) => {
            println!("not compared with the real program: {}", String::from_utf8_lossy(&output.stderr))
        }
        code => assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&output.stderr)),
    }
}
