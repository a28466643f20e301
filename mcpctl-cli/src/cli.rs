//! The command line: global flags and commands.

use clap::{
    Args, CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use crate::{commands, context::Context, failure::Failure, output::Chosen};

/// Manage a catalogue of LLMs and their keys on one server, and talk to them.
#[derive(Debug, Parser)]
#[command(
    name = "mcpctl",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:\n  mcpctl login --email admin@localhost\n  mcpctl create secret openai --from-stdin key\n  \
                  mcpctl create llm gpt --type openai --model gpt-4o --api-key-ref openai/key\n  mcpctl chat gpt 'Hello'"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server to talk to; MCPCTL_URL sets it too
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) daemon_url: Option<String>,
    /// Act for another user, if you may; see `config impersonate`
    #[arg(long = "as", global = true, value_name = "EMAIL")]
    pub(crate) acting_for: Option<String>,
    /// How to print results: table, wide, json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, global = true, value_name = "FORMAT", value_parser = Chosen::parse)]
    pub(crate) output: Option<Chosen>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Login(commands::login::Login),
    Logout(commands::logout::Logout),
    Status(commands::status::Status),
    Whoami(commands::whoami::Whoami),
    Get(commands::get::Get),
    Describe(commands::describe::Describe),
    #[command(subcommand)]
    Create(commands::create::Create),
    Apply(commands::apply::Apply),
    Diff(commands::diff::Diff),
    Edit(commands::edit::Edit),
    Patch(commands::patch::Patch),
    Delete(commands::delete::Delete),
    Explain(commands::explain::Explain),
    ApiResources(commands::api_resources::ApiResources),
    #[command(subcommand)]
    Migrate(commands::migrate::Migrate),
    #[command(subcommand)]
    Backup(commands::backup::Backup),
    /// The same as `backup restore`
    #[command(hide = true)]
    Restore(commands::backup::Restore),
    Test(commands::test::Test),
    Chat(commands::chat::Chat),
    Proxy(commands::proxy::Proxy),
    #[command(subcommand)]
    Providers(commands::providers::Providers),
    #[command(subcommand)]
    Auth(commands::auth::Auth),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Completion(commands::completion::Completion),
    #[command(name = "__complete", hide = true)]
    Complete(commands::completion::Complete),
    #[command(subcommand, hide = true)]
    Docs(commands::docs::Docs),
    Version(commands::version::Version),
}

/// A mistake in the command line; where clap has no suggestion for a command, with all that could be meant.
pub(crate) fn told(mut error: clap::Error) -> clap::Error {
    let is_known = error.get(ContextKind::SuggestedSubcommand).is_some();
    let Some(ContextValue::String(typo)) = error.get(ContextKind::InvalidSubcommand).cloned() else {
        return error;
    };
    if is_known {
        return error;
    }
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    for word in std::env::args().skip(1).take_while(|word| *word != typo) {
        at = at.find_subcommand(&word).unwrap_or(at);
    }
    let names: Vec<&str> =
        at.get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name).collect();
    let tip = match near(&typo, &names) {
        Some(name) => format!("a similar subcommand exists: '{name}'"),
        None => format!("subcommands are {}", names.join(", ")),
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// The only name that is one letter away.
fn near<'a>(typo: &str, names: &[&'a str]) -> Option<&'a str> {
    let mut close = names.iter().filter(|name| strsim::osa_distance(typo, name) == 1);
    close.next().copied().filter(|_| close.next().is_none())
}

impl Cli {
    /// Runs the command.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let context = Context::new(self.global)?;
        match self.command {
            Command::Login(command) => command.run(&context).await,
            Command::Logout(command) => command.run(&context).await,
            Command::Status(command) => command.run(&context).await,
            Command::Whoami(command) => command.run(&context).await,
            Command::Get(command) => command.run(&context).await,
            Command::Describe(command) => command.run(&context).await,
            Command::Create(command) => command.run(&context).await,
            Command::Apply(command) => command.run(&context).await,
            Command::Diff(command) => command.run(&context).await,
            Command::Edit(command) => command.run(&context).await,
            Command::Patch(command) => command.run(&context).await,
            Command::Delete(command) => command.run(&context).await,
            Command::Explain(command) => command.run(&context),
            Command::ApiResources(command) => command.run(&context),
            Command::Migrate(command) => command.run(&context).await,
            Command::Backup(command) => command.run(&context).await,
            Command::Restore(command) => command.run(&context).await,
            Command::Test(command) => command.run(&context).await,
            Command::Chat(command) => command.run(&context).await,
            Command::Proxy(command) => command.run(&context).await,
            Command::Providers(command) => command.run(&context).await,
            Command::Auth(command) => command.run(&context).await,
            Command::Config(command) => command.run(&context),
            Command::Completion(command) => command.run(&context),
            Command::Complete(command) => command.run(&context),
            Command::Docs(command) => command.run(&context),
            Command::Version(command) => command.run(&context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_screen_and_every_command_has_an_example() {
        let help = Cli::command().render_help().to_string();
        assert!(help.lines().count() <= 45, "{help}");
        fn check(command: &mut clap::Command) {
            let name = command.get_name().to_owned();
            let help = command.render_help().to_string();
            let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{name} has no example"));
            assert!(examples.lines().all(|line| line.chars().count() <= 80), "{name}: {examples}");
            command.get_subcommands_mut().filter(|inner| inner.get_name() != "help").for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        command.get_subcommands_mut().filter(|inner| inner.get_name() != "help").for_each(check);
    }
}
