//! Results on standard output: one printer for every kind.

mod describe;
mod list;
mod table;
pub(crate) mod text;

pub(crate) use describe::{Notes, block, describe};
pub(crate) use list::{List, SoFar, manifest};

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The main columns.
    Table,
    /// All columns.
    Wide,
    /// As the server has it.
    Json,
    /// As `apply` takes it.
    Yaml,
    /// `KIND/NAME` only.
    Name,
}

/// Standard output.
pub(crate) struct Out {
    terminal: bool,
}

impl Out {
    /// The process's own.
    pub(crate) fn stdout() -> Self {
        Self { terminal: io::stdout().is_terminal() }
    }

    /// Whether a person is watching.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints text as it is, except that nothing in it can steer a terminal.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if self.terminal {
            stdout.write_all(text::harmless(text).as_bytes())?;
        } else {
            stdout.write_all(text.as_bytes())?;
        }
        stdout.flush()?;
        Ok(())
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.print(&format!("{}\n", text.as_ref()))
    }

    /// Prints JSON, indented.
    pub(crate) fn json(&self, value: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?;
        self.line(text::escape_json(&text))
    }
}
