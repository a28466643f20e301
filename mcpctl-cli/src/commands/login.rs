//! `mcpctl login`

use clap::Args;
use mcpctl_core::{
    ErrorKind,
    client::{Client, LoggedIn, is_loopback, parse_base_url},
};

use super::whoami::name_of;
use crate::{
    config::Config,
    context::Context,
    credentials::{self, Credential},
    failure::{Failure, warn},
    prompt,
};

/// Log in to a server and remember it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl login\n  \
                        mcpctl login --daemon-url https://mcp.example.com --email me@example.com\n  \
                        mcpctl login --email ci@example.com --password-stdin < password.txt")]
pub(crate) struct Login {
    /// Your e-mail address; asked for when missing
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// Read the password from standard input and do not ask for it
    #[arg(long)]
    password_stdin: bool,
}

impl Login {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let url = context.url()?;
        // Without a credential: a login needs none, and an expired one must not get in its way.
        let client = Client::new(&url, None)?;
        warn_if_readable_on_the_way(&url);
        let email = match self.email {
            Some(email) => email,
            None if prompt::can_ask() && !self.password_stdin => prompt::line("E-mail: ")?,
            None => return Err(Failure::usage("no e-mail address: expected --email EMAIL")),
        };
        let password = if self.password_stdin {
            prompt::piped()?
        } else if prompt::can_ask() {
            prompt::hidden("Password: ")?
        } else {
            return Err(Failure::usage("no terminal to ask for the password on").hint("use --password-stdin"));
        };
        let session = client.login(email.trim(), &password).await.map_err(|error| {
            let wrong = error.kind() == ErrorKind::Unauthenticated;
            let failure = Failure::from(error).context("login failed");
            if wrong { failure.hint("check the e-mail address and the password") } else { failure }
        })?;
        let user = name_of(&session.user).unwrap_or_else(|| email.trim().to_owned());
        keep(context, &url, &user, session)?;
        let mut config = Config::load(&context.home)?;
        config.remember(&url)?;
        config.save(&context.home)?;
        if std::env::var_os("MCPCTL_TOKEN").is_some_and(|token| !token.is_empty()) {
            warn("MCPCTL_TOKEN is set and goes before this login");
        }
        context.out.line(format!("Logged in to {url} as {user}"))
    }
}

/// Keeps a new session's token for the server at `url`.
pub(super) fn keep(context: &Context, url: &str, user: &str, session: LoggedIn) -> Result<(), Failure> {
    let credential =
        Credential { token: session.token, user: user.to_owned(), expires_at: session.expires_at };
    credentials::store(&context.home, url, &credential)
}

fn warn_if_readable_on_the_way(url: &str) {
    let Ok(url) = parse_base_url(url) else { return };
    if url.scheme() == "http" && !is_loopback(&url) {
        warn(format!("{url} is not encrypted: your password can be read on the way"));
    }
}
