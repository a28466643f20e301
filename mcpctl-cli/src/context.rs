//! What every command needs: where the server is, the credential for it, and how to print.

use mcpctl_core::client::{Client, Token};

use crate::{
    cli::Global,
    config::{Config, DEFAULT_URL, normal_url},
    credentials,
    failure::{Failure, note, warn},
    home::Home,
    output::{Format, Out, text::inline},
};

/// The surroundings of a command.
#[derive(Clone)]
pub(crate) struct Context {
    /// The CLI's files.
    pub(crate) home: Home,
    /// Standard output.
    pub(crate) out: Out,
    chosen_url: Option<String>,
    format: Option<Format>,
    acting_for: Option<String>,
}

impl Context {
    /// The surroundings that the global flags ask for.
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        // Not clap's `env`: that would put the flag into every usage line.
        let chosen_url = global.daemon_url.or_else(|| std::env::var("MCPCTL_URL").ok());
        let chosen_url = chosen_url.filter(|url| !url.trim().is_empty());
        Ok(Self {
            home: Home::find()?,
            out: Out::stdout().for_format(global.output.as_ref()),
            chosen_url,
            format: global.output.map(|chosen| chosen.format),
            acting_for: global.acting_for,
        })
    }

    /// The same, with or without headers above tables.
    pub(crate) fn with_headers(&self, headers: bool) -> Self {
        Self { out: self.out.with_headers(headers), ..self.clone() }
    }

    /// The format asked for, or the table.
    pub(crate) fn format(&self) -> Format {
        self.format.unwrap_or(Format::Table)
    }

    /// The format asked for, if any.
    pub(crate) fn chosen_format(&self) -> Option<Format> {
        self.format
    }

    /// The server's URL: the flag or `MCPCTL_URL`, else the context in use, else this machine.
    pub(crate) fn url(&self) -> Result<String, Failure> {
        match &self.chosen_url {
            Some(url) => normal_url(url),
            None => normal_url(Config::load(&self.home)?.url().unwrap_or(DEFAULT_URL)),
        }
    }

    /// A client of the server with the credential for it, if there is one.
    ///
    /// It acts for the user of `--as`, or of the context in use: that is said each time, lest it be forgotten.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let client = self.own_client()?;
        if let Some(user) = &self.acting_for {
            return Ok(client.acting_for(user)?);
        }
        let config = Config::load(&self.home)?;
        // Only at the server that it was said of.
        let is_there = config.url().and_then(|url| normal_url(url).ok()) == Some(self.url()?);
        match config.impersonated().filter(|_| is_there) {
            Some(user) => {
                note(format!("Acting for {} (`mcpctl config impersonate --stop` ends that)", inline(user)));
                Ok(client.acting_for(user)?)
            }
            None => Ok(client),
        }
    }

    /// As [`client`](Self::client), for nobody but the user in person.
    pub(crate) fn own_client(&self) -> Result<Client, Failure> {
        let url = self.url()?;
        Ok(Client::new(&url, self.token(&url)?)?)
    }

    /// `MCPCTL_TOKEN`, else the token that was stored for this very URL.
    pub(crate) fn token(&self, url: &str) -> Result<Option<Token>, Failure> {
        if let Ok(token) = std::env::var("MCPCTL_TOKEN")
            && !token.trim().is_empty()
        {
            return Ok(Some(Token::new(token)));
        }
        let Some(credential) = credentials::load(&self.home, url)? else { return Ok(None) };
        let expired =
            credential.expires_at.parse::<jiff::Timestamp>().is_ok_and(|end| end <= jiff::Timestamp::now());
        if expired {
            warn(format!("the session of {} has expired; log in again with `mcpctl login`", credential.user));
        }
        Ok(Some(credential.token))
    }
}
