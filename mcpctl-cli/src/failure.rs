//! What the user is told when a command fails, and the exit status.

use std::{
    error::Error as _,
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
};

use mcpctl_core::{Error, ErrorKind, client::Unreachable};

use crate::output::text::safe;

/// Why a command failed: `error: <what failed>: <why>`, and perhaps what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The server or the input said no: exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: 1 }
    }

    /// Wrong usage: exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(message) }
    }

    /// The same, as a fault of the input and not of the command line: exit status 1.
    pub(crate) fn in_input(self) -> Self {
        Self { code: 1, ..self }
    }

    /// A failure that was reported already, or needs no words: only the exit status is left.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, ..Self::new("") }
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what failed in front: `what: why`.
    pub(crate) fn context(mut self, what: impl std::fmt::Display) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// What went wrong, without `error:`.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Tells the user, on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            note(format!("{} {}", label("error:", "31"), safe(&self.message)));
        }
        if let Some(hint) = &self.hint {
            note(format!("{} {}", label("hint:", "36"), safe(hint)));
        }
        ExitCode::from(self.code)
    }
}

/// A remark on stderr that fails nothing.
pub(crate) fn warn(message: impl AsRef<str>) {
    note(format!("{} {}", label("warning:", "33"), safe(message.as_ref())));
}

/// A line on stderr as it is. Nobody may be reading any more, which is no reason to stop.
pub(crate) fn note(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}

/// `text` in bold and the colour of this code, if stderr is a terminal that wants colour.
fn label(text: &str, colour: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !plain {
        format!("\x1b[1;{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(error.message());
        match hint_for(&error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn hint_for(error: &Error) -> Option<String> {
    if error.source().is_some_and(|cause| cause.is::<Unreachable>()) {
        return Some(
            "--daemon-url, MCPCTL_URL or `mcpctl config set url URL` choose another server".to_owned(),
        );
    }
    if let Some(wait) = error.retry_after() {
        return Some(format!("try again in {} s", wait.as_secs().max(1)));
    }
    if error.is_not_found() && error.message() == "no such route" {
        return Some(format!(
            "the server is likely older than this program ({}), or the URL has a path that it should not have: \
             `mcpctl version` shows both",
            env!("CARGO_PKG_VERSION")
        ));
    }
    match error.kind() {
        ErrorKind::Unauthenticated => Some("log in with `mcpctl login`".to_owned()),
        ErrorKind::Forbidden => {
            Some("ask an administrator for the permission, or `mcpctl whoami`".to_owned())
        }
        ErrorKind::Sealed => Some("the server needs its master key".to_owned()),
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::RateLimited
        | ErrorKind::Unavailable
        | ErrorKind::SecretUnavailable
        | ErrorKind::NotImplemented
        | ErrorKind::Provider
        | ErrorKind::ProviderTimeout
        | ErrorKind::Internal => None,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has had enough, as `head` does: no failure.
        if error.kind() == io::ErrorKind::BrokenPipe { Self::silent(0) } else { Self::new(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do_next() {
        let hint = |kind| Failure::from(Error::new(kind, "no")).hint.unwrap_or_default();
        assert!(hint(ErrorKind::Unauthenticated).contains("mcpctl login"));
        assert_eq!(hint(ErrorKind::NotFound), "");
        let old = Failure::from(Error::new(ErrorKind::NotFound, "no such route"));
        assert!(old.hint.unwrap_or_default().contains("older than this program"));
        let unreachable = Error::new(ErrorKind::Unavailable, "no").caused_by(Unreachable::Refused);
        assert!(Failure::from(unreachable).hint.unwrap_or_default().contains("--daemon-url"));
        let busy = Error::rate_limited("slow down", std::time::Duration::from_secs(7));
        assert_eq!(Failure::from(busy).hint.as_deref(), Some("try again in 7 s"));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert_eq!((failure.code, failure.message()), (0, ""));
    }
}
