//! Results on standard output: one printer for every kind.

mod describe;
mod jsonpath;
mod list;
mod progress;
mod table;
pub(crate) mod text;

pub(crate) use describe::{Notes, block, describe};
pub(crate) use jsonpath::{Path, Template};
pub(crate) use list::{List, SoFar, manifest};
pub(crate) use progress::{bar, spinner};

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::{failure::Failure, kinds::nearest};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The formats' names and what they are, for completion.
pub(crate) const FORMATS: &[(&str, &str)] = &[
    ("table", "the main columns"),
    ("wide", "all columns, whole"),
    ("json", "as the server has it"),
    ("yaml", "as apply takes it"),
    ("name", "KIND/NAME only"),
    ("jsonpath=", "what a JSONPath finds"),
];

/// The format that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) format: Format,
    template: Option<Template>,
}

impl Chosen {
    /// Reads the value of `-o`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let plain = |format| Ok(Self { format, template: None });
        match text {
            "table" => plain(Format::Table),
            "wide" => plain(Format::Wide),
            "json" => plain(Format::Json),
            "yaml" => plain(Format::Yaml),
            "name" => plain(Format::Name),
            _ => {
                if let Some(path) =
                    text.strip_prefix("jsonpath").filter(|rest| rest.is_empty() || rest.starts_with('='))
                {
                    let template = Template::parse(path.trim_start_matches('='));
                    let template = template.map_err(|failure| failure.message().to_owned())?;
                    return Ok(Self { format: Format::Json, template: Some(template) });
                }
                let names = FORMATS.iter().map(|(name, _)| *name);
                let known = names.clone().collect::<Vec<_>>().join(", ");
                Err(match nearest(text, names) {
                    Some(name) => format!("did you mean `{name}`? Formats are {known}"),
                    None => format!("formats are {known}"),
                })
            }
        }
    }
}

/// Standard output.
#[derive(Clone)]
pub(crate) struct Out {
    terminal: bool,
    /// What is made of JSON, if it is not printed as it is.
    template: Option<Template>,
    /// Whether tables begin with their headers.
    headers: bool,
}

impl Out {
    /// The process's own.
    pub(crate) fn stdout() -> Self {
        Self { terminal: io::stdout().is_terminal(), template: None, headers: true }
    }

    /// The same for the format that was asked for.
    pub(crate) fn for_format(self, chosen: Option<&Chosen>) -> Self {
        Self { template: chosen.and_then(|chosen| chosen.template.clone()), ..self }
    }

    /// The same, with or without headers above tables.
    pub(crate) fn with_headers(&self, headers: bool) -> Self {
        Self { headers, ..self.clone() }
    }

    /// Whether tables begin with their headers.
    fn has_headers(&self) -> bool {
        self.headers
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

    /// Prints JSON, indented; or what the template that was asked for makes of it.
    pub(crate) fn json(&self, value: &Value) -> Result<(), Failure> {
        if let Some(template) = &self.template {
            let text = template.fill(value);
            return self.print(&if text.is_empty() || text.ends_with('\n') {
                text
            } else {
                format!("{text}\n")
            });
        }
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?;
        self.line(text::escape_json(&text))
    }
}
