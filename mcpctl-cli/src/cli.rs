//! The command line: global flags and commands.

use clap::{Args, Parser, Subcommand};

use crate::{commands, context::Context, failure::Failure, output::Format};

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
    /// How to print results: table, wide, json, yaml or name
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub(crate) output: Option<Format>,
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
    #[command(subcommand)]
    Migrate(commands::migrate::Migrate),
    Test(commands::test::Test),
    Chat(commands::chat::Chat),
    #[command(subcommand)]
    Auth(commands::auth::Auth),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Completion(commands::completion::Completion),
    Version(commands::version::Version),
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
            Command::Migrate(command) => command.run(&context).await,
            Command::Test(command) => command.run(&context).await,
            Command::Chat(command) => command.run(&context).await,
            Command::Auth(command) => command.run(&context).await,
            Command::Config(command) => command.run(&context),
            Command::Completion(command) => command.run(&context),
            Command::Version(command) => command.run(&context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_screen_and_every_command_has_an_example() {
        let help = Cli::command().render_help().to_string();
        assert!(help.lines().count() <= 40, "{help}");
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
