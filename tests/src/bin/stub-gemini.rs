//! A stand-in for the `gemini` program. It takes the flags that the real one's help names (`gemini-help.txt` is a
//! copy, of version 0.61.0) and no others, notes what it was given in the folder it was started from, and does what
//! its prompt says.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::{Command, exit, id},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

const HELP: &str = include_str!("gemini-help.txt");
const SESSION: &str = "6f5e0c2e-6f0c-4d3a-9a55-0a3d2f7c1b11";

fn main() {
    let args: Vec<String> = env::args().collect();
    if args.iter().any(|arg| arg == "--help") {
        print!("{HELP}");
        return;
    }
    for arg in &args[1..] {
        if !is_known(arg) {
            eprintln!("Unknown argument: {arg}");
            exit(42);
        }
    }
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt).expect("a prompt on the standard input");
    note(&args, &prompt);
    // The last of these words says what to do.
    let mut words = prompt.split_whitespace().filter_map(|word| word.strip_prefix("do-"));
    act(words.next_back().unwrap_or("answer"), &prompt);
}

/// Whether the help has this flag, and this value for it if it lists some.
fn is_known(arg: &str) -> bool {
    let (flag, value) = arg.split_once('=').unwrap_or((arg, ""));
    let named = |line: &&str| line.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
    let Some(line) = HELP.lines().find(named) else { return false };
    line.split_once("[choices: ").is_none_or(|(_, choices)| choices.contains(&format!("\"{value}\"")))
}

/// Where the program was started from, by a link there.
fn folder() -> PathBuf {
    let link = env::args().next().map(PathBuf::from).expect("a name");
    link.parent().expect("a folder").to_owned()
}

fn note(args: &[String], prompt: &str) {
    let variables: Vec<(String, String)> = env::vars().collect();
    let home = PathBuf::from(env::var_os("HOME").expect("a home"));
    let mut files = Vec::new();
    read_files(&home, &mut files);
    let work = env::current_dir().expect("a folder");
    let around = fs::read_dir(&work).expect("the folder").count();
    let note = json!({
        "args": args, "env": variables, "files": files, "work": work, "around": around, "prompt": prompt,
    });
    // Whoever looks for it must find it whole.
    let path = folder().join(format!("{}.part", id()));
    fs::write(&path, note.to_string()).expect("a note");
    fs::rename(&path, path.with_extension("run")).expect("a note");
}

fn read_files(folder: &PathBuf, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => read_files(&path, files),
            false => files.push((path.clone(), fs::read_to_string(&path).expect("a text"))),
        }
    }
}

fn act(what: &str, prompt: &str) {
    let key = env::var("GEMINI_API_KEY").unwrap_or_default();
    println!("Loaded cached credentials.");
    say(&json!({"type": "init", "timestamp": "t", "session_id": SESSION, "model": model()}));
    say(&json!({"type": "message", "timestamp": "t", "role": "user", "content": prompt}));
    match what {
        "quota" => fail(
            173,
            "[API Error: You exceeded your current quota, please check your plan]\nPlease wait and try again later.",
        ),
        "bad-key" => fail(
            144,
            &format!(
                "[API Error: {{\"error\":{{\"code\":400,\"message\":\"API key not valid: {key}\",\"status\":\"INVALID_ARGUMENT\"}}}}]"
            ),
        ),
        "no-model" => fail(1, "[API Error: models/x is not found]"),
        "internal" => fail(
            244,
            "[API Error: {\"error\":{\"code\":500,\"message\":\"internal\",\"status\":\"INTERNAL\"}}]",
        ),
        "repeat-key" => fail(1, &format!("[API Error: something about {key}]")),
        "exit-41" | "exit-42" | "exit-1" => {
            eprintln!("it went wrong with {key}");
            exit(what.trim_start_matches("exit-").parse().expect("a code"));
        }
        "rubbish" => {
            println!("<html>not at all</html>\n%%%");
            exit(0);
        }
        "no-event" => println!("{{\"type\": \"message\", "),
        "hang" => forever(),
        "fork" => {
            child();
            text("Hello ");
            forever();
        }
        "fork-early" => {
            child();
            forever();
        }
        _ => answer(what, &key),
    }
}

fn answer(what: &str, key: &str) {
    text("Hello ");
    match what {
        "half" => {
            print!("{{\"type\":\"message\",\"role\":\"assistant\",\"conte");
            io::stdout().flush().expect("the output");
            exit(0);
        }
        "hang-late" => forever(),
        "late-key" => fail(1, &format!("[API Error: something about {key}]")),
        "tell-key" => text(&format!("the key is {key} ")),
        "wait" => {
            while !folder().join("go").exists() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        "huge" => (0..70).for_each(|_| text(&"x".repeat(1024 * 1024))),
        "flood" => loop {
            text(&"x".repeat(1000));
        },
        "leave-child" => child(),
        _ => {}
    }
    say(&json!({"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "1", "parameters": {}}));
    text("\"world\" \u{1F30D}\n");
    let stats =
        json!({"total_tokens": 20, "input_tokens": 12, "output_tokens": 5, "cached": 4, "models": {}});
    say(&json!({"type": "result", "timestamp": "t", "status": "success", "stats": stats}));
    if what == "linger" {
        forever();
    }
}

fn model() -> String {
    let model = env::args().find_map(|arg| arg.strip_prefix("--model=").map(str::to_owned));
    model.expect("a model")
}

fn say(event: &Value) {
    // Nobody may be listening any more.
    let said = writeln!(io::stdout(), "{event}").and_then(|()| io::stdout().flush());
    if said.is_err() {
        exit(0);
    }
}

fn text(text: &str) {
    say(&json!({"type": "message", "timestamp": "t", "role": "assistant", "content": text, "delta": true}));
}

fn fail(code: i32, message: &str) {
    let error = json!({"type": "unknown", "message": message});
    let stats = json!({"total_tokens": 0, "input_tokens": 0, "output_tokens": 0, "cached": 0});
    say(&json!({"type": "result", "timestamp": "t", "status": "error", "error": error, "stats": stats}));
    exit(code);
}

/// Leaves a child behind that holds the output open.
#[expect(clippy::zombie_processes, reason = "to be left behind is what it is for")]
fn child() {
    let child = Command::new("sleep").arg("600").spawn().expect("a child");
    fs::write(folder().join(format!("{}.child", child.id())), "").expect("a note");
}

fn forever() {
    loop {
        thread::sleep(Duration::from_secs(600));
    }
}
