//! The server's settings: flags, each also as an environment variable.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use mcpctl_core::{audit::AuditMode, secret::SecretValue};

/// Holds the catalogue of LLMs and the only copy of their keys; clients hold a token and call any LLM in the
/// OpenAI format.
///
/// With nothing set it keeps everything in an embedded SQLite database and just starts.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcpctl-server", version, after_help = EXAMPLES)]
pub struct Config {
    /// What to do in place of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The address to listen on
    #[arg(long, env = "MCPCTL_LISTEN", default_value = "127.0.0.1:3100")]
    pub listen: SocketAddr,

    /// Where to keep things: sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE [default: SQLite in the data folder]
    #[arg(long, env = "MCPCTL_DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,

    /// The folder of the embedded database and the key file [default: the platform's data folder]
    #[arg(long, env = "MCPCTL_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// How long known callers are served from memory while the database is away; 0 is not at all
    #[arg(long, env = "MCPCTL_MAX_STALENESS", default_value = "60s", value_parser = parse_duration)]
    pub max_staleness: Duration,

    /// Inference requests at once; more wait in line, and then get a 503
    #[arg(long, env = "MCPCTL_MAX_IN_FLIGHT", default_value_t = 10_000)]
    pub max_in_flight: usize,

    /// Inference requests in line at most, here and at each LLM with a limit [default: the limit, at most 1000]
    #[arg(long, env = "MCPCTL_MAX_QUEUE")]
    pub max_queue: Option<usize>,

    /// How long an inference request waits in line before it is refused
    #[arg(long, env = "MCPCTL_QUEUE_TIMEOUT", default_value = "1s", value_parser = parse_duration)]
    pub queue_timeout: Duration,

    /// The `gemini` program, for LLMs of type gemini-cli [default: the one in PATH, if there is one]
    #[arg(long, env = "MCPCTL_GEMINI_PROGRAM")]
    pub gemini_program: Option<PathBuf>,

    /// Runs of the `gemini` program at once; more wait in line, and then get a 503
    #[arg(long, env = "MCPCTL_GEMINI_MAX_PROCESSES", default_value_t = 4)]
    pub gemini_max_processes: usize,

    /// Connections of clients at once; more get a 503 and are closed
    #[arg(long, env = "MCPCTL_MAX_CONNECTIONS", default_value_t = 20_000)]
    pub max_connections: usize,

    /// How long a connection may wait for its next request
    #[arg(long, env = "MCPCTL_KEEP_ALIVE", default_value = "90s", value_parser = parse_duration)]
    pub keep_alive: Duration,

    /// How long a client may read nothing of its answer before its connection is closed
    #[arg(long, env = "MCPCTL_STALL_TIMEOUT", default_value = "60s", value_parser = parse_duration)]
    pub stall_timeout: Duration,

    /// How long a request's headers may take to arrive, from their first byte on
    #[arg(long, env = "MCPCTL_HEADER_TIMEOUT", default_value = "15s", value_parser = parse_duration, hide = true)]
    pub header_timeout: Duration,

    /// How long a request's body may take to arrive
    #[arg(long, env = "MCPCTL_BODY_TIMEOUT", default_value = "60s", value_parser = parse_duration, hide = true)]
    pub body_timeout: Duration,

    /// Whether an answer waits until its audit event is kept
    #[arg(long, env = "MCPCTL_AUDIT", default_value = "buffered")]
    pub audit: Audit,

    /// How long audit events are kept: 90d, 12h; 1h at least [default: for ever]
    #[arg(long, env = "MCPCTL_AUDIT_RETENTION", value_name = "TIME", value_parser = parse_retention)]
    pub audit_retention: Option<Duration>,

    /// A file to which each audit event is appended besides, as a line of JSON
    #[arg(long, env = "MCPCTL_AUDIT_FILE", value_name = "PATH")]
    pub audit_file: Option<PathBuf>,

    /// How log lines look; RUST_LOG sets how many there are
    #[arg(long, env = "MCPCTL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Where to send traces: an OTLP collector, as in http://localhost:4318 [default: nowhere]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,

    /// The first user's e-mail address; only looked at when there are no users
    #[arg(env = "MCPCTL_ADMIN_EMAIL", long, default_value = "admin@localhost")]
    pub admin_email: String,

    /// Only from the environment, so that they are in no process list.
    #[arg(skip = Secrets::from_environment())]
    pub secrets: Secrets,
}

/// What the program can do besides serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Encrypt all stored secrets anew, under a new master key
    ///
    /// With a key file, a new key is made in it, and the old one is removed once no value needs it. A server that runs on the
    /// same data does the work, and goes on serving; else this command does. With keys from the environment, set the new one
    /// in MCPCTL_MASTER_KEY and the old one in MCPCTL_OLD_MASTER_KEYS. It may be stopped at any moment, and repeated.
    #[command(
        after_help = "Examples:\n  mcpctl-server rekey\n  mcpctl-server rekey --data-dir /var/lib/mcpctl"
    )]
    Rekey,
    /// Print the API's description in OpenAPI 3.1
    Openapi,
}

/// Events must live long enough to be read.
const SHORTEST_RETENTION: Duration = Duration::from_secs(3600);

const EXAMPLES: &str = "\
Environment only:
  MCPCTL_ADMIN_PASSWORD  the first user's password [default: made up, and printed once]
  MCPCTL_MASTER_KEY      32 bytes in base64 or hexadecimal that encrypt the stored secrets
                         [default: DATA_DIR/master.key, made at the first start]
  MCPCTL_OLD_MASTER_KEYS keys that may still read, separated by commas, until nothing needs them

Examples:
  mcpctl-server
  mcpctl-server --listen 0.0.0.0:3100 --database-url postgres://mcpctl@db/mcpctl";

/// Settings that must not be on a command line.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The first user's password.
    pub admin_password: Option<SecretValue>,
    /// The master key.
    pub master_key: Option<SecretValue>,
    /// Master keys that may still read, separated by commas.
    pub old_master_keys: Option<SecretValue>,
}

impl Secrets {
    fn from_environment() -> Self {
        let read =
            |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(SecretValue::new);
        Self {
            admin_password: read("MCPCTL_ADMIN_PASSWORD"),
            master_key: read("MCPCTL_MASTER_KEY"),
            old_master_keys: read("MCPCTL_OLD_MASTER_KEYS"),
        }
    }
}

/// Whether an answer waits until its audit event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Audit {
    /// It does not: a crash loses at most the last 100 ms of events
    Buffered,
    /// It does: no answer is complete before its event survives a crash
    Strict,
}

impl From<Audit> for AuditMode {
    fn from(audit: Audit) -> Self {
        match audit {
            Audit::Buffered => Self::Buffered,
            Audit::Strict => Self::Strict,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// As any duration, but for one that is so short that it must be a slip: `90` where `90d` was meant.
fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < SHORTEST_RETENTION {
        return Err("expected at least 1h, as in 90d".to_owned());
    }
    Ok(retention)
}

/// `90`, `90s`, `5m`, `1h`, `30d`, `500ms`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a number of seconds, or a number with ms, s, m, h or d".to_owned()),
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    millis.map(Duration::from_millis).ok_or_else(|| "expected a number such as 60s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("60s", 60), ("5m", 300), ("1h", 3600), ("90d", 7_776_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "1w", "-1", "1.5s", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_retention_is_an_hour_or_more() {
        assert_eq!(parse_retention("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_retention("1h"), Ok(SHORTEST_RETENTION));
        for bad in ["", "0", "90", "59m", "1w", "-1h"] {
            assert!(parse_retention(bad).is_err(), "{bad}");
        }
    }
}
