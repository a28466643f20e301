//! `mcpctl delete`

use clap::Args;
use mcpctl_core::{client::Client, resource::Kind};

use crate::{
    context::Context,
    document,
    failure::{Failure, note},
    kinds::{parse_targets, suggest},
    output::text::inline,
};

/// Delete resources
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl delete llm gpt\n  mcpctl delete secret a b c\n  \
                        mcpctl delete -f catalogue.yaml\n  mcpctl get llms -o name | xargs mcpctl delete")]
pub(crate) struct Delete {
    /// What to delete: KIND NAME…, or KIND/NAME…
    #[arg(required_unless_present = "files", value_name = "KIND NAME")]
    target: Vec<String>,
    /// Delete what these YAML or JSON files, folders of them, or - for standard input, name
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE", conflicts_with = "target")]
    files: Vec<String>,
    /// What is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Accepted for scripts: nothing is asked in any case
    #[arg(long)]
    force: bool,
}

impl Delete {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let targets = self.targets()?;
        let client = context.client()?;
        let mut failed = None;
        for (kind, name) in targets {
            match self.delete(&client, kind, &name).await {
                Ok(true) => context.out.line(format!("{} '{}' deleted", kind.singular, inline(&name)))?,
                Ok(false) => note(format!("There is no {} '{}'.", kind.singular, inline(&name))),
                Err(failure) => {
                    let failure = failure.context(format!("deleting {} '{name}'", kind.singular));
                    // All are tried; the last failure is reported by main.
                    if let Some(earlier) = failed.replace(failure) {
                        let _: std::process::ExitCode = Failure::report(&earlier);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What to delete. Of files, what refers to others comes first.
    fn targets(&self) -> Result<Vec<(Kind, String)>, Failure> {
        if !self.files.is_empty() {
            let documents = document::load(&self.files)?;
            return Ok(documents.into_iter().rev().map(|document| (document.kind, document.name)).collect());
        }
        let named = |(kind, name): (Kind, Option<String>)| match name {
            Some(name) => Ok((kind, name)),
            None => Err(Failure::usage(format!("which {}? expected a name", kind.singular))),
        };
        parse_targets(&self.target)?.into_iter().map(named).collect()
    }

    /// Whether there was one to delete.
    async fn delete(&self, client: &Client, kind: Kind, name: &str) -> Result<bool, Failure> {
        match client.delete(kind, name).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() && self.ignore_not_found => Ok(false),
            Err(error) => Err(suggest(client, kind, name, error).await),
        }
    }
}
