//! `proxy.json`: where the proxy of this user is, for the user's other commands.

use std::fmt;

use jiff::Timestamp;
use mcpctl_core::client::Token;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{failure::Failure, home::Home};

const FILE: &str = "proxy.json";

/// What is written down of a proxy that runs.
#[derive(Clone)]
pub(crate) struct Note {
    /// Its URL.
    pub(crate) url: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Since when it runs.
    pub(crate) since: Timestamp,
    /// What it wants to be shown, if anything.
    pub(crate) token: Option<Token>,
}

impl Note {
    /// What the file has; `None` when there is none that can be read as one.
    pub(crate) fn load(home: &Home) -> Result<Option<Self>, Failure> {
        let Some(file) = home.read(FILE)? else { return Ok(None) };
        let text = |name: &str| file.get(name).and_then(Value::as_str);
        let pid = file.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
        let since = text("since").and_then(|since| since.parse().ok());
        let (Some(url), Some(pid), Some(since)) = (text("url"), pid, since) else { return Ok(None) };
        Ok(Some(Self { url: url.to_owned(), pid, since, token: text("token").map(Token::new) }))
    }

    /// Writes the file, which its owner alone may read.
    pub(crate) fn save(&self, home: &Home) -> Result<(), Failure> {
        let token = self.token.as_ref().map(Token::reveal);
        home.write(FILE, &json!({"url": self.url, "pid": self.pid, "since": self.since, "token": token}))
    }

    /// Takes the file away, if it is still this proxy's.
    pub(crate) fn remove(&self, home: &Home) {
        if matches!(Self::load(home), Ok(Some(known)) if known.pid == self.pid) {
            let _ = std::fs::remove_file(home.file(FILE));
        }
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").field("url", &self.url).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A token of 256 random bits.
pub(crate) fn random_token() -> Result<Zeroizing<String>, Failure> {
    let mut bits = Zeroizing::new([0_u8; 32]);
    getrandom::fill(bits.as_mut())
        .map_err(|fault| Failure::new(format!("the system gives no random numbers: {fault}")))?;
    let mut token = Zeroizing::new("mcpctl-proxy-".to_owned());
    bits.iter().for_each(|byte| token.push_str(&format!("{byte:02x}")));
    Ok(token)
}
