//! `mcpctl completion`

use clap::{Args, CommandFactory as _, ValueEnum};

use crate::{cli::Cli, context::Context, failure::Failure};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(mcpctl completion bash)\n  \
                        mcpctl completion zsh > \"${fpath[1]}/_mcpctl\"\n  \
                        mcpctl completion fish > ~/.config/fish/completions/mcpctl.fish")]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "mcpctl", &mut script);
        context.out.print(&String::from_utf8_lossy(&script))
    }
}
