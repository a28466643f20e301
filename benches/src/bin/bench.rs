//! `bench` measures mcpctl side by side with nginx and prints Markdown tables. `bench stub` and `bench load` are the
//! two ends on their own, for a profiler in between.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use benches::{
    Result,
    answers::Shape,
    http, load, machine,
    report::{self, Section},
    rounds::{self, Effort},
    scenario::{self, Scenario},
    stub,
    targets::{self, Target},
};
use clap::{Parser, Subcommand};

/// Measures mcpctl side by side with nginx.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// One short round: enough to see that it works
    #[arg(long)]
    quick: bool,

    /// Fail when mcpctl costs more of nginx's than it may
    #[arg(long)]
    check: bool,

    /// Only the scenarios whose title contains this
    #[arg(long)]
    only: Option<String>,

    /// Rounds of every scenario
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a turn
    #[arg(long)]
    seconds: Option<f64>,

    /// Leave memory out, which waits for half a minute
    #[arg(long)]
    no_memory: bool,

    /// The cargo profile of the server that is built and measured; `dist` is what is shipped
    #[arg(long, default_value = "release")]
    profile: String,

    /// Measure this server instead of building one
    #[arg(long)]
    server: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer as a provider, until killed
    Stub,
    /// Start a server in front of a stub, say how to load it, and wait
    Serve,
    /// Make load and check the answers
    Load {
        /// The target's address
        #[arg(long)]
        address: SocketAddr,
        /// The token to send
        #[arg(long, default_value = "none")]
        token: String,
        /// plain, each, joined or slow
        #[arg(long, default_value = "plain")]
        shape: String,
        /// The path; by default mcpctl's
        #[arg(long, default_value = "/v1/chat/completions")]
        path: String,
        /// The size of a request's body, in bytes
        #[arg(long, default_value_t = 600)]
        body: usize,
        /// Connections
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Seconds
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Requests per second, due at fixed times
        #[arg(long)]
        rate: Option<f64>,
    },
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    match &options.verb {
        None => measure(options),
        Some(Verb::Stub) => {
            stub::serve(|port| println!("stub listens on http://127.0.0.1:{port}"))?;
            Ok(true)
        }
        Some(Verb::Serve) => {
            let stub = targets::stub(&std::env::current_exe()?)?;
            let server = targets::mcpctl(&server_program(options)?, stub.address)?;
            println!("bench load --address {} --token {}", server.address, server.token);
            std::io::stdin().read_line(&mut String::new())?;
            Ok(true)
        }
        Some(Verb::Load { address, token, shape, path, body, connections, seconds, rate }) => {
            let shape = Shape::of_path(shape).ok_or("no such shape")?;
            let plan = load::Plan {
                address: *address,
                request: http::request("POST", path, token, &scenario::body(shape, *body)),
                expected: shape.body(),
                connections: *connections,
                duration: Duration::from_secs_f64(*seconds),
                rate: *rate,
            };
            let mut outcome = load::run(&plan)?;
            outcome.latencies.sort_unstable();
            let median = outcome.latencies.get(outcome.latencies.len() / 2).copied().unwrap_or_default();
            println!(
                "{} answers, {:.0} a second, median {} µs, {} failures {}",
                outcome.answers,
                outcome.answers as f64 / outcome.elapsed.as_secs_f64(),
                median / 1000,
                outcome.failures,
                outcome.first_failure.unwrap_or_default()
            );
            Ok(outcome.failures == 0)
        }
    }
}

fn measure(options: &Options) -> Result<bool> {
    let mut effort = match options.quick {
        true => Effort { rounds: 1, turn: Duration::from_millis(1200), rest: Duration::from_secs(3) },
        false => Effort { rounds: 4, turn: Duration::from_millis(2500), rest: Duration::from_secs(30) },
    };
    effort.rounds = options.rounds.unwrap_or(effort.rounds).max(1);
    effort.turn = options.seconds.map_or(effort.turn, Duration::from_secs_f64);
    let server = server_program(options)?;
    let load_before = machine::load();
    let stub = targets::stub(&std::env::current_exe()?)?;
    let nginx = targets::nginx(stub.address)?;
    let mcpctl = targets::mcpctl(&server, stub.address)?;
    let all: [&Target; 3] = [&stub, &nginx, &mcpctl];
    let names = all.map(|target| target.name);
    let idle = [nginx.family.resident()?, mcpctl.family.resident()?];
    let wanted = options.only.as_deref().unwrap_or_default();
    let scenarios: Vec<Scenario> =
        scenario::ALL.into_iter().filter(|scenario| scenario.title.contains(wanted)).collect();
    rounds::warm_up(&scenarios, &all)?;
    let mut sections = Vec::new();
    for scenario in scenarios {
        eprintln!("{} …", scenario.title);
        sections.push(Section { scenario, tallies: rounds::measure(&scenario, &all, effort)? });
    }
    println!("{}", report::speed(&sections, &names));
    if !options.no_memory {
        eprintln!("memory …");
        let memory = rounds::memory(&[&nginx, &mcpctl], &idle, effort.rest)?;
        println!("{}", report::memory(&memory, &["nginx", "mcpctl"], effort.rest.as_secs_f64()));
    }
    println!(
        "{}; {} rounds of {:.1} s each; load per core before: {load_before:.1}; profile {}.",
        machine::describe(),
        effort.rounds,
        effort.turn.as_secs_f64(),
        options.profile
    );
    Ok(verdict(&sections, options.check))
}

/// Whether all answers were right, and, if asked, cheap enough.
fn verdict(sections: &[Section], check: bool) -> bool {
    let mut fine = true;
    for Section { scenario, tallies } in sections {
        for failure in tallies.iter().filter_map(|tally| tally.first_failure.as_deref()) {
            eprintln!("{}: {failure}", scenario.title);
            fine = false;
        }
    }
    for section in sections.iter().filter(|section| check && section.ratio() > section.scenario.limit) {
        let (title, limit) = (section.scenario.title, section.scenario.limit);
        eprintln!("{title}: {:.2} times nginx's cost; at most {limit} is wanted", section.ratio());
        fine = false;
    }
    fine
}

/// The server to measure, built anew unless one is named.
fn server_program(options: &Options) -> Result<PathBuf> {
    if let Some(server) = &options.server {
        return Ok(server.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = std::process::Command::new(cargo)
        .args(["build", "--package", "mcpctl-server", "--profile", &options.profile])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()?;
    if !built.success() {
        return Err("the server does not build".into());
    }
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
    };
    Ok(target.join(&options.profile).join("mcpctl-server"))
}
