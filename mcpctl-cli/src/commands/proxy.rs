//! `mcpctl proxy`

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use mcpctl_core::{
    client::Token,
    failover::{FailoverClient, FileLeases, LeaseBook},
};
use zeroize::Zeroizing;

use crate::{
    context::Context,
    failure::{Failure, note, warn},
    proxy::{
        Guard, Journal, Note, Origin, Proxy as State, Remote, bind, of_config, random_token, serve,
        stop_providers, to_seconds,
    },
};

/// Serve OpenAI's and Anthropic's APIs on this machine, with failover
///
/// Programs that know nothing of mcpctl call Llms through it with a base URL and its local token. It sends your own
/// credential to the server, never theirs. While the server or a provider behind it is down, the local providers of
/// ~/.mcpctl/config.json answer in its place for those Llms that you may see, and the answer has the header
/// x-mcpctl-failover.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl proxy\n  mcpctl proxy --listen 127.0.0.1:8080 --token-file ~/.proxy-token\n  \
                        mcpctl proxy --allow-origin http://localhost:5173 --verbose"
)]
pub(crate) struct Proxy {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3101")]
    listen: SocketAddr,
    /// Let in every program of this machine, without a token
    #[arg(long, conflicts_with = "token_file")]
    no_token: bool,
    /// Keep the local token in this file, which is made if need be, instead of a new one at each start
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let in web pages of this origin on this machine too; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<Origin>,
    /// Print a line for each request
    #[arg(short, long)]
    verbose: bool,
}

impl Proxy {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let is_local = self.listen.ip().is_loopback();
        if self.no_token && !is_local {
            return Err(Failure::usage(format!(
                "--no-token is for this machine alone, and {} is not",
                self.listen
            )));
        }
        if let Some((_, running)) = Remote::find(&context.home).await? {
            let url = running.0.get("url").and_then(serde_json::Value::as_str).unwrap_or_default();
            return Err(Failure::new(format!("a proxy runs already, at {url}"))
                .hint("`mcpctl status` shows it; MCPCTL_HOME names another folder, for a second one"));
        }
        let providers = of_config(&context.home)?;
        let client = context.client()?;
        if context.token(&context.url()?)?.is_none() {
            warn("you are not logged in: the server will refuse every call; `mcpctl login`");
        }
        let leases = LeaseBook::open(&client, Arc::new(FileLeases::at(context.home.file("leases.json"))));
        // Listening comes before a token file is made or anything is printed: it is what fails most.
        let listener = bind(self.listen).await?;
        let address = listener.local_addr()?;
        let token = self.token()?;
        let note = Note {
            url: format!("http://{}", reachable(address)),
            pid: std::process::id(),
            since: to_seconds(Timestamp::now()),
            token: token.as_ref().map(|token| Token::new(token.as_str())),
        };
        note.save(&context.home)?;
        let proxy = Arc::new(State {
            calls: FailoverClient::new(&client, providers.clone(), Some(leases.clone())),
            guard: Guard::new(is_local.then_some(address.port()), token, self.allow_origin),
            journal: Journal::new(self.verbose),
            note,
        });
        // Before anybody is told that it is there: whoever knows of it may end it.
        let stop = stop()?;
        let told = tell(context, &proxy.note, client.base_url());
        if told.is_ok() {
            serve(listener, proxy.clone(), stop).await;
        }
        stop_providers(&providers).await;
        leases.settle(Duration::from_secs(2)).await;
        proxy.note.remove(&context.home);
        told
    }

    fn token(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if self.no_token {
            return Ok(None);
        }
        let Some(path) = &self.token_file else { return random_token().map(Some) };
        let failed =
            |doing: &str, error: io::Error| Failure::new(format!("{doing} {}: {error}", path.display()));
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = random_token()?;
                create_private(path, &token).map_err(|error| failed("writing", error))?;
                return Ok(Some(token));
            }
            Err(error) => return Err(failed("reading", error)),
        };
        refuse_if_exposed(path)?;
        let token = text.trim();
        if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message =
                format!("{}: expected a token of 16 or more letters, digits and signs", path.display());
            return Err(Failure::new(message).hint("delete the file, and one will be made"));
        }
        Ok(Some(Zeroizing::new(token.to_owned())))
    }
}

/// An address of this machine where one asks what listens on all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A token that others can read keeps nobody out.
#[cfg(unix)]
fn refuse_if_exposed(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(format!("{path} has mode {mode:03o}: others can read the token"))
        .hint(format!("run `chmod 600 {path}`, or delete it, and one will be made")))
}

#[cfg(not(unix))]
fn refuse_if_exposed(_path: &Path) -> Result<(), Failure> {
    Ok(())
}

fn create_private(path: &Path, token: &str) -> io::Result<()> {
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    io::Write::write_all(&mut file, format!("{token}\n").as_bytes())
}

/// What a shell needs, on standard output; the rest is for people.
fn tell(context: &Context, note_: &Note, server: &str) -> Result<(), Failure> {
    let Note { url, token, .. } = note_;
    // The SDKs want some key, even where none is looked at.
    let key = token.as_ref().map_or("none", Token::reveal);
    note(format!("mcpctl proxy listens on {url}, for {server}; Ctrl-C ends it"));
    context.out.line(format!("export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}"))?;
    context.out.line(format!("export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={key}"))
}

/// Done when the proxy is told to end.
#[cfg(unix)]
fn stop() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop() -> Result<impl Future<Output = ()>, Failure> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
