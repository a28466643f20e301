//! `mcpctl backup`

mod create;
mod restore;
mod verify;

use std::{fs, fs::File, io, path::PathBuf};

use clap::{Args, Subcommand};
use mcpctl_core::{
    backup::{self, Contents},
    secret::SecretValue,
};

use crate::{context::Context, failure::Failure, output::spinner, prompt};
pub(crate) use restore::Restore;

/// Keep all that a server holds in one encrypted file, and write it back
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  mcpctl backup create -f monday.backup --with-values\n  \
                        mcpctl backup verify monday.backup\n  mcpctl backup restore monday.backup --dry-run")]
pub(crate) enum Backup {
    Create(create::Create),
    Restore(Restore),
    Verify(verify::Verify),
}

impl Backup {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Restore(command) => command.run(context).await,
            Self::Verify(command) => command.run(context),
        }
    }
}

/// A file can be tried out without anybody noticing, so its passphrase must stand more than a login's password.
const SHORTEST: usize = 12;

/// Where the passphrase comes from; it is asked for when neither is given.
#[derive(Debug, Args)]
struct Passphrase {
    /// Read the passphrase from standard input and do not ask for it
    #[arg(long, conflicts_with = "passphrase_file")]
    passphrase_stdin: bool,
    /// Read the passphrase from this file and do not ask for it
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// The passphrase for a new file.
    fn choose(&self) -> Result<SecretValue, Failure> {
        let chosen = self.get(|| prompt::twice("Passphrase for the backup: "))?;
        if chosen.expose().chars().count() < SHORTEST {
            return Err(Failure::new(format!("the passphrase must have at least {SHORTEST} characters")));
        }
        Ok(chosen)
    }

    /// The passphrase of a file that is there.
    fn of_file(&self) -> Result<SecretValue, Failure> {
        self.get(|| prompt::hidden("Passphrase of the backup: "))
    }

    fn get(&self, ask: impl FnOnce() -> Result<String, Failure>) -> Result<SecretValue, Failure> {
        let text = if self.passphrase_stdin {
            prompt::piped()?
        } else if let Some(path) = &self.passphrase_file {
            let text = fs::read_to_string(path);
            let text = text.map_err(|error| Failure::new(format!("reading {}: {error}", path.display())))?;
            text.strip_suffix('\n')
                .map_or_else(|| text.clone(), |line| line.trim_end_matches('\r').to_owned())
        } else if prompt::can_ask() {
            ask()?
        } else {
            return Err(Failure::usage("no terminal to ask for the passphrase on")
                .hint("use --passphrase-stdin or --passphrase-file FILE"));
        };
        Ok(SecretValue::new(text))
    }
}

/// Reads the whole of a backup, and proves that it is one.
fn open(file: &str, passphrase: &Passphrase) -> Result<Contents, Failure> {
    if file == "-" && passphrase.passphrase_stdin {
        return Err(Failure::usage("standard input cannot be both the backup and the passphrase")
            .hint("use --passphrase-file FILE"));
    }
    let opened = match file {
        "-" => None,
        path => Some(File::open(path).map_err(|error| Failure::new(format!("reading {path}: {error}")))?),
    };
    let passphrase = passphrase.of_file()?;
    let reading = spinner("reading the backup");
    let read = || reading.tick();
    let contents = match opened {
        Some(opened) => backup::read(io::BufReader::new(opened), passphrase.expose(), read),
        None => backup::read(io::stdin().lock(), passphrase.expose(), read),
    };
    reading.finish_and_clear();
    contents.map_err(|error| Failure::from(error).context(if file == "-" { "standard input" } else { file }))
}
