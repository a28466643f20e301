//! `mcpctl delete`

use clap::Args;

use crate::{context::Context, failure::Failure, kinds::parse_targets};

/// Delete resources
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl delete llm gpt\n  mcpctl delete secret a b c\n  \
                        mcpctl get llms -o name | xargs mcpctl delete")]
pub(crate) struct Delete {
    /// What to delete: KIND NAME…, or KIND/NAME…
    #[arg(required = true, value_name = "KIND NAME")]
    target: Vec<String>,
    /// Accepted for scripts: nothing is asked in any case
    #[arg(long)]
    force: bool,
}

impl Delete {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let targets = parse_targets(&self.target)?;
        let client = context.client()?;
        let mut failed = None;
        for (kind, name) in targets {
            let Some(name) = name else {
                return Err(Failure::usage(format!("which {}? expected a name", kind.singular)));
            };
            match client.delete(kind, &name).await {
                Ok(()) => context.out.line(format!("{} '{name}' deleted", kind.singular))?,
                Err(error) => {
                    let failure =
                        Failure::from(error).context(format!("deleting {} '{name}'", kind.singular));
                    // All are tried; the last failure is reported by main.
                    if let Some(earlier) = failed.replace(failure) {
                        let _: std::process::ExitCode = Failure::report(&earlier);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
