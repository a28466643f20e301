//! `mcpctl docs`: the reference and the man pages, written from the command line's own definition.

use std::{fs, path::PathBuf};

use clap::{Arg, Args, Command, CommandFactory as _, Subcommand};

use crate::{cli::Cli, context::Context, failure::Failure};

/// Write the reference of all commands, and man pages
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  mcpctl docs markdown > docs/cli.md\n  mcpctl docs man /usr/local/share/man/man1"
)]
pub(crate) enum Docs {
    Markdown(Markdown),
    Man(Man),
}

/// Print the reference of all commands
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl docs markdown > docs/cli.md")]
pub(crate) struct Markdown {}

/// Write a man page for each command into a folder
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl docs man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The folder, which is made if need be
    folder: PathBuf,
}

const HEAD: &str = "# The command line\n\n\
    Every command with its flags, as `mcpctl help` has them. `make docs` writes this page.\n\n\
    Exit status: 0 done, 1 the server or the input said no, 2 wrong usage. Results go to standard output, everything \
    else to\nstandard error. `MCPCTL_URL` and `MCPCTL_TOKEN` choose the server and the credential, `MCPCTL_HOME` \
    another folder than\n`~/.mcpctl`, and `NO_COLOR` turns colour off.\n";

impl Docs {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Markdown(Markdown {}) => context.out.print(&reference()),
            Self::Man(Man { folder }) => {
                let failed = |error: std::io::Error| {
                    Failure::new(format!("writing man pages to {}: {error}", folder.display()))
                };
                fs::create_dir_all(&folder).map_err(failed)?;
                clap_mangen::generate_to(whole(), &folder).map_err(failed)
            }
        }
    }
}

/// The command line without what is hidden and without the `help` commands.
fn whole() -> Command {
    fn plain(command: Command) -> Command {
        command.disable_help_subcommand(true).mut_subcommands(plain)
    }
    let mut command = plain(Cli::command());
    command.build();
    command
}

/// The reference.
fn reference() -> String {
    let command = whole();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Global options\n\nEvery command takes them.\n\n");
    let global = command.get_arguments().filter(|argument| argument.is_global_set());
    text.push_str(&table(global));
    command.get_subcommands().for_each(|inner| section(inner, "mcpctl", &mut text));
    text
}

fn section(command: &Command, above: &str, text: &mut String) {
    if command.is_hide_set() {
        return;
    }
    let path = format!("{above} {}", command.get_name());
    text.push_str(&format!("\n## {path}\n\n"));
    if let Some(about) = command.get_about() {
        text.push_str(&format!("{about}.\n\n"));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let usage = usage.strip_prefix(&path).unwrap_or(usage).trim();
    text.push_str(&format!("```text\n{path} {usage}\n```\n"));
    let own = |argument: &&Arg| {
        !argument.is_global_set()
            && !argument.is_hide_set()
            && !["help", "version"].contains(&argument.get_id().as_str())
    };
    if command.get_arguments().any(|argument| own(&argument)) {
        text.push('\n');
        text.push_str(&table(command.get_arguments().filter(own)));
    }
    if let Some(after) = command.get_after_help() {
        text.push_str(&format!("\n```text\n{}\n```\n", after.to_string().trim_end()));
    }
    command.get_subcommands().for_each(|inner| section(inner, &path, text));
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = "| argument | meaning |\n| --- | --- |\n".to_owned();
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> = match argument.is_hide_possible_values_set() || !takes_value(argument) {
            true => Vec::new(),
            false => {
                argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect()
            }
        };
        let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        text.push_str(&format!("| `{}` | {}{values} |\n", cell(&spelling(argument)), cell(&help)));
    }
    text
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// `-f, --file FILE`, or `NAME`.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut spelling: Vec<String> = vec![[short, long].into_iter().flatten().collect::<Vec<_>>().join(", ")];
    spelling.extend(Some(value).filter(|_| takes_value(argument)));
    spelling.retain(|part| !part.is_empty());
    spelling.join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "docs/cli.md is not what the command line says: run `make docs`");
    }

    #[test]
    fn every_command_has_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(whole(), folder.path()).unwrap();
        for page in ["mcpctl.1", "mcpctl-get.1", "mcpctl-create-llm.1"] {
            let text = fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH") && text.contains("Examples"), "{page}: {text}");
        }
        assert!(!folder.path().join("mcpctl-__complete.1").exists());
    }
}
