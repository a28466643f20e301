//! The mcpctl daemon.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use mcpctl_core::gateway::SPANS;
use mcpctl_server::{
    Config, Telemetry,
    config::{Command, LogFormat},
    openapi, rekey, run,
};
use tikv_jemallocator::Jemalloc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Settings of it are built in, see `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    // Requests have threads of their own; this one is for what happens behind them.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(&format!("cannot start: {fault}")),
    };
    let telemetry = match Telemetry::start(&config, runtime.handle()) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(&error.chain()),
    };
    start_logging(config.log_format, telemetry.as_ref());
    let ended = runtime.block_on(async {
        match config.command {
            Some(Command::Rekey) => rekey(&config).await,
            Some(Command::Openapi) => {
                announce(&format!("{:#}", openapi::document()));
                Ok(())
            }
            None => run(config, told_to_stop(), announce).await,
        }
    });
    telemetry.into_iter().for_each(Telemetry::stop);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.chain()),
    }
}

fn announce(text: &str) {
    // Whoever started us may not be reading.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

/// Done at SIGTERM or SIGINT.
async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for; only SIGKILL stops this server");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_logging(format: LogFormat, telemetry: Option<&Telemetry>) {
    // A collector that is away is said once, by us.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,opentelemetry-otlp=error"));
    // Spans are for traces alone: without them, there are none.
    let filter = match format!("{SPANS}=off").parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let Some(telemetry) = telemetry else {
        let lines =
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
        return match format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        };
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(telemetry.layer()).init();
}
