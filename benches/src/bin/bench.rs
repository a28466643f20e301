//! `bench` measures mcpctl side by side with nginx and prints Markdown tables. `bench stub` and `bench load` are the
//! two ends on their own, for a profiler in between.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use benches::{
    Result,
    answers::Shape,
    build, http, instructions, load, machine, memory, pieces,
    report::{self, Section},
    rounds::{self, Effort},
    scenario::{self, Scenario},
    stub,
    targets::{self, AccessLog, Audit, Stub, Target},
    translation,
};
use clap::{Parser, Subcommand};

/// Measures mcpctl side by side with nginx.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// One short round, and no pieces: enough to see that it works
    #[arg(long)]
    quick: bool,

    /// Fail when mcpctl costs more than it may
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

    /// Leave memory out
    #[arg(long)]
    no_memory: bool,

    /// Leave the pieces of a request out
    #[arg(long)]
    no_pieces: bool,

    /// Write the report between the two markers of this file, too
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// The cargo profile of the server that is built and measured: `dist` is what is shipped, `release` builds quickly
    #[arg(long, default_value = "dist")]
    profile: String,

    /// Measure this server instead of building one
    #[arg(long, conflicts_with = "profile")]
    server: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer as a provider, until killed
    Stub {
        /// The file for the certificate to trust
        certificate: PathBuf,
    },
    /// Start a server in front of a stub, say how to load it, and wait
    Serve,
    /// Print where a request's time goes
    Pieces,
    /// Print what it costs to translate to Anthropic's format and back
    Translation,
    /// Print the instructions of a request and its pieces, counted by callgrind
    Instructions,
    /// Make load and check the answers
    Load {
        /// The target's address
        #[arg(long)]
        address: SocketAddr,
        /// The token to send
        #[arg(long, default_value = "none")]
        token: String,
        /// plain, each, joined, slow, message, message-each or message-joined
        #[arg(long, default_value = "plain")]
        shape: String,
        /// The model to ask for; by default the one named as the shape
        #[arg(long)]
        model: Option<String>,
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
    machine::raise_open_files();
    match &options.verb {
        None => measure(options),
        Some(Verb::Stub { certificate }) => {
            stub::serve(certificate, |stub::Addresses { plain, tls, http2 }| {
                println!("stub listens on http://{plain} https://{tls} h2://{http2}");
            })?;
            Ok(true)
        }
        Some(Verb::Serve) => {
            let stub = start_stub()?;
            let server = targets::mcpctl(&server_program(options)?, &stub, Audit::Buffered)?;
            println!("bench load --address {} --token {}", server.address, server.token);
            std::io::stdin().read_line(&mut String::new())?;
            Ok(true)
        }
        Some(Verb::Pieces) => {
            println!("{}", report::pieces(&pieces::measure()?, None));
            Ok(true)
        }
        Some(Verb::Translation) => {
            let stub = start_stub()?;
            let server = targets::mcpctl(&server_program(options)?, &stub, Audit::Buffered)?;
            let rows = translation::measure(&server, effort(options))?;
            println!("{}", translation::table(&rows));
            let faults: Vec<String> = rows.iter().filter_map(translation::Row::fault).collect();
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            Ok(faults.is_empty() || !options.check)
        }
        Some(Verb::Instructions) => {
            if !instructions::available() {
                println!("skipped: instructions are counted by valgrind (Debian: apt-get install valgrind)");
                return Ok(true);
            }
            println!("{}", instructions::pieces()?);
            println!("{}", instructions::server(&start_stub()?)?);
            Ok(true)
        }
        Some(Verb::Load { address, token, shape, model, path, body, connections, seconds, rate }) => {
            let shape = Shape::of_path(shape).ok_or("no such shape")?;
            let body = scenario::body(model.as_deref().unwrap_or(shape.name()), shape.is_stream(), *body);
            load_alone(&load::Plan {
                address: *address,
                request: http::request("POST", path, token, &body),
                expected: shape.body(),
                connections: *connections,
                duration: Duration::from_secs_f64(*seconds),
                rate: *rate,
            })
        }
    }
}

fn load_alone(plan: &load::Plan) -> Result<bool> {
    let mut outcome = load::run(plan)?;
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

fn start_stub() -> Result<Stub> {
    targets::stub(&std::env::current_exe()?)
}

fn effort(options: &Options) -> Effort {
    let mut effort = match options.quick {
        true => Effort { rounds: 1, turn: Duration::from_millis(1200) },
        false => Effort { rounds: 4, turn: Duration::from_millis(2500) },
    };
    effort.rounds = options.rounds.unwrap_or(effort.rounds).max(1);
    effort.turn = options.seconds.map_or(effort.turn, Duration::from_secs_f64);
    effort
}

fn measure(options: &Options) -> Result<bool> {
    let effort = effort(options);
    let load_before = machine::load();
    let server = server_program(options)?;
    let stub = start_stub()?;
    let sections = speed(options, &server, &stub, effort)?;
    let mut report = report::speed(&sections);
    let mut faults: Vec<String> = sections.iter().filter_map(Section::fault).collect();
    if options.only.is_none() {
        eprintln!("translation …");
        let server = targets::mcpctl(&server, &stub, Audit::Buffered)?;
        let rows = translation::measure(&server, effort)?;
        let _ = write!(report, "\n{}", translation::table(&rows));
        faults.extend(rows.iter().filter_map(translation::Row::fault));
    }
    if !options.no_memory {
        match machine::raise_open_files() {
            files if files >= memory::OPEN_FILES => {
                eprintln!("memory …");
                // What is held against a limit gets its full time.
                let rest = Duration::from_secs(if options.quick && !options.check { 3 } else { 30 });
                let seen = memory::measure(&server, &stub, rest)?;
                let _ = write!(report, "\n{}", report::memory(&seen, rest.as_secs_f64()));
                let ours = seen.iter().filter(|memory| memory.first.is_some());
                faults.extend(ours.flat_map(memory::Memory::faults));
            }
            files => {
                let needed = memory::OPEN_FILES;
                faults.push(format!(
                    "memory was not measured: it needs {needed} open files, and may have {files}"
                ));
            }
        }
    }
    if !options.quick && !options.no_pieces {
        eprintln!("pieces …");
        let plain = sections.iter().find(|section| section.scenario.title == scenario::PLAIN.title);
        let _ = write!(
            report,
            "\n{}",
            report::pieces(&pieces::measure()?, plain.map(Section::nanos_per_request))
        );
    }
    let _ = write!(report, "\n{}", about(options, effort, load_before));
    println!("{report}");
    let wrong = wrong_answers(&sections);
    for fault in wrong.iter().chain(&faults) {
        eprintln!("{fault}");
    }
    if let (Some(path), true) = (&options.write, wrong.is_empty()) {
        report::write(path, &report)?;
    }
    Ok(wrong.is_empty() && (faults.is_empty() || !options.check))
}

/// Measures every scenario that is wanted.
fn speed(options: &Options, server: &Path, stub: &Stub, effort: Effort) -> Result<Vec<Section>> {
    let wanted = options.only.as_deref().unwrap_or_default();
    let scenarios: Vec<Scenario> =
        scenario::ALL.into_iter().filter(|scenario| scenario.title.contains(wanted)).collect();
    let nginx = targets::nginx(stub, AccessLog::Off)?;
    let mcpctl = targets::mcpctl(server, stub, Audit::Buffered)?;
    let mut variants = vec![targets::nginx(stub, AccessLog::On)?];
    if targets::modes(server)?.contains(&Audit::Strict) {
        variants.push(targets::mcpctl(server, stub, Audit::Strict)?);
    }
    let usual: Vec<&Target> = vec![&stub.target, &nginx, &mcpctl];
    let every: Vec<&Target> = usual.iter().copied().chain(&variants).collect();
    let all = |scenario: &Scenario| if scenario.variants { &every } else { &usual };
    for scenario in &scenarios {
        rounds::warm_up(scenario, all(scenario))?;
    }
    let mut sections = Vec::new();
    for scenario in scenarios {
        eprintln!("{} …", scenario.title);
        sections.push(Section { scenario, tallies: rounds::measure(&scenario, all(&scenario), effort)? });
    }
    Ok(sections)
}

/// The answers that were not what they should be, in words.
fn wrong_answers(sections: &[Section]) -> Vec<String> {
    let of = |section: &Section| {
        let title = section.scenario.title;
        let failures =
            section.tallies.iter().filter_map(|tally| Some((tally.name, tally.first_failure.as_ref()?)));
        failures.map(|(name, failure)| format!("{title}, {name}: {failure}")).collect::<Vec<_>>()
    };
    sections.iter().flat_map(of).collect()
}

/// What the figures were made with, and what they leave out.
fn about(options: &Options, effort: Effort, load_before: f64) -> String {
    let server = match &options.server {
        Some(path) => format!("the server `{}`", path.display()),
        None => format!("the server in cargo's profile `{}`", options.profile),
    };
    let quoted = |word: String| if word.contains(' ') { format!("'{word}'") } else { word };
    let arguments: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    let command = match arguments.join(" ") {
        none if none.is_empty() => "make bench".to_owned(),
        arguments => format!("make bench ARGS=\"{arguments}\""),
    };
    format!(
        "{}; {}; {server}; {} rounds of {:.1} s a target; load per core before: {load_before:.1}.\n\n\
         Made with `{command}`. Load, proxy and provider share the machine and talk over loopback, so latencies \
         are for comparison alone. nginx has a worker per core, no access log where that is not said, and HTTP/1.1 \
         to the provider, also where mcpctl speaks HTTP/2. Not measured: TLS towards callers, PostgreSQL, \
         several servers on one database, more than one machine.\n",
        machine::describe(),
        targets::nginx_version(),
        effort.rounds,
        effort.turn.as_secs_f64(),
    )
}

/// The server to measure, built anew unless one is named.
fn server_program(options: &Options) -> Result<PathBuf> {
    match &options.server {
        Some(server) => Ok(server.clone()),
        None => build::server(&options.profile),
    }
}
