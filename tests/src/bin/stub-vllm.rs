//! A stand-in for the `vllm` program. It takes the arguments of `vllm serve` that mcpctl gives, prints what vLLM would
//! while it loads, and then speaks the OpenAI API with the stub provider's answers. The model's name says what it does
//! instead, words joined by `+`:
//!
//! `slow:500ms` takes longer to load, `dies-at-start` and `never-healthy` do not get that far, `ignores-term` ends
//! by SIGKILL alone, `forks-workers` has two children in its group, as vLLM has its engine and workers, and
//! `prints-env` and `prints-args` print what it was given.

use std::{
    env,
    net::SocketAddr,
    process::{Command, exit},
    thread,
    time::Duration,
};

use tests::Provider;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `vllm serve`, from its documentation: each with a value.
const KNOWN: [&str; 6] =
    ["--host", "--port", "--gpu-memory-utilization", "--max-model-len", "--served-model-name", "--dtype"];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => serve(&args[1..]),
        // A worker stays for as long as it is let, whatever it is asked.
        Some("worker") => run(async {
            let _deaf = signal(SignalKind::terminate()).unwrap();
            std::future::pending::<()>().await;
        }),
        _ => fail("usage: vllm serve MODEL [OPTIONS]"),
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

fn fail(message: &str) -> ! {
    eprintln!("vllm: error: {message}");
    exit(2);
}

fn serve(args: &[String]) {
    let Some((model, options)) = args.split_first() else {
        fail("the following arguments are required: model")
    };
    let value = |name: &str| options.iter().position(|arg| arg == name).map(|at| options[at + 1].as_str());
    for pair in options.chunks(2) {
        if !KNOWN.contains(&pair[0].as_str()) || pair.len() < 2 {
            fail(&format!("unrecognized arguments: {}", pair.join(" ")));
        }
    }
    let host = value("--host").expect("a host");
    let port = value("--port").expect("a port");
    let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
    let does = |word: &str| model.split('+').any(|does| does == word);
    log("api_server.py:1896", "vLLM API server version 0.11.0");
    if does("prints-env") {
        env::vars().for_each(|(name, value)| println!("env {name}={value}"));
    }
    if does("prints-args") {
        args.iter().for_each(|arg| println!("arg {arg}"));
    }
    if does("dies-at-start") {
        eprintln!("ERROR 11-23 06:00:00 [core.py:708] EngineCore failed to start.");
        eprintln!("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB.");
        exit(1);
    }
    let workers = if does("forks-workers") { 2 } else { 0 };
    let worker = |_| Command::new(env::current_exe().unwrap()).arg("worker").spawn().unwrap();
    // They are left to themselves when this ends: their group is not for them to look after.
    let _workers: Vec<_> = (0..workers).map(worker).collect();
    for part in ["25%", "50%", "100%"] {
        eprint!("Loading safetensors checkpoint shards: {part} Completed\r");
        thread::sleep(Duration::from_millis(5));
    }
    let slow = model.split('+').find_map(|does| does.strip_prefix("slow:")?.strip_suffix("ms")?.parse().ok());
    thread::sleep(Duration::from_millis(slow.unwrap_or(0)));
    run(async {
        let ends = signal(SignalKind::terminate());
        let serve = async {
            if does("never-healthy") {
                log("core.py:211", "Waiting for the engine to start up");
                std::future::pending::<()>().await;
            }
            let provider = match Provider::start_at(address).await {
                Ok(provider) => provider,
                Err(error) => {
                    eprintln!("OSError: [Errno 98] {address}: {error}");
                    exit(1);
                }
            };
            log("launcher.py:44", "Application startup complete.");
            provider.serve().await;
        };
        let deaf = does("ignores-term");
        let ended = async {
            let mut ends = ends.unwrap();
            ends.recv().await;
            if deaf {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = serve => {}
            () = ended => log("launcher.py:110", "Shutting down FastAPI HTTP server."),
        }
    });
}

fn log(place: &str, message: &str) {
    println!("INFO 11-23 06:00:00 [{place}] {message}");
}
