//! `mcpctl backup restore`, which is `mcpctl restore` as well

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use mcpctl_core::resource::{Spec, text_of};
use serde_json::json;

use super::{Passphrase, open};
use crate::{
    context::Context,
    failure::{Failure, note},
    output::{
        Format, spinner,
        text::{inline, safe},
    },
};

/// Write a backup back to a server, all of it or nothing
///
/// The whole file is proven first. Then all of it becomes one transaction: what is the same already stays, and what
/// differs is up to --on-conflict. On a new server, the backup takes the place of what the first start made. Tokens
/// that were revoked at the server stay so, and your own password stays what it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl backup restore monday.backup --dry-run\n  \
                        mcpctl backup restore monday.backup --on-conflict replace\n  \
                        mcpctl restore monday.backup --passphrase-file key.txt")]
pub(crate) struct Restore {
    /// The backup, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// What to do where something of the same name differs
    #[arg(long, value_enum, default_value = "fail", value_name = "HOW")]
    on_conflict: OnConflict,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnConflict {
    /// Change nothing at all
    Fail,
    /// Leave what is there
    Skip,
    /// Put the backup's in its place
    Replace,
}

impl Restore {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let contents = open(&self.file, &self.passphrase)?;
        let client = context.client()?;
        let how = match self.on_conflict {
            OnConflict::Fail => "fail",
            OnConflict::Skip => "skip",
            OnConflict::Replace => "replace",
        };
        let count = contents.resources.len();
        let order = json!({"resources": contents.resources, "onConflict": how, "dryRun": self.dry_run});
        let restoring = spinner(format!("restoring {count} resources"));
        let results = client.restore(&order).await;
        restoring.finish_and_clear();
        self.report(context, &results?)
    }

    fn report(&self, context: &Context, results: &[Spec]) -> Result<(), Failure> {
        if context.format() == Format::Json {
            context.out.json(&json!(results))?;
        }
        let text = |result: &Spec, field: &str| result.get(field).map(text_of).unwrap_or_default();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for result in results {
            let (kind, name) = (text(result, "kind"), text(result, "name"));
            let (kind, name) = (inline(&kind), inline(&name));
            let (outcome, remark) = (text(result, "outcome"), text(result, "note"));
            *counts.entry(outcome.clone()).or_default() += 1;
            if outcome == "error" {
                note(format!("Error restoring {kind} '{name}': {}", safe(&text(result, "error"))));
            } else if outcome != "held" && (!remark.is_empty() || outcome == "skipped" || self.dry_run) {
                let remark = if remark.is_empty() { remark } else { format!(" ({})", safe(&remark)) };
                note(format!("{} {kind}: {name}{remark}", self.word(&outcome)));
            }
        }
        let count = |outcome: &str| counts.get(outcome).copied().unwrap_or_default();
        if count("error") > 0 {
            return Err(Failure::new(format!(
                "{} of {} resources were refused, and nothing was changed",
                count("error"),
                results.len()
            ))
            .hint("--on-conflict skip leaves what is there, --on-conflict replace takes the backup's"));
        }
        if context.format() == Format::Json {
            return Ok(());
        }
        context.out.line(format!(
            "{} {}: created {}, updated {}, unchanged {}, skipped {}",
            if self.dry_run { "Dry run - would restore" } else { "Restored" },
            inline(&self.file),
            count("created"),
            count("updated"),
            count("unchanged"),
            count("skipped")
        ))
    }

    fn word(&self, outcome: &str) -> &'static str {
        match (outcome, self.dry_run) {
            ("created", false) => "Created",
            ("created", true) => "Would create",
            ("updated", false) => "Updated",
            ("updated", true) => "Would update",
            ("unchanged", _) => "Unchanged",
            _ => "Skipped",
        }
    }
}
