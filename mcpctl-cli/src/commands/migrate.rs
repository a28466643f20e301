//! `mcpctl migrate`

use std::collections::HashSet;

use clap::{Args, Subcommand};
use mcpctl_core::{
    client::Client,
    resource::{Spec, kinds::SECRETS},
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    failure::{Failure, warn},
    output::{Format, bar, text::inline},
};

/// Move what the server keeps to another place
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  mcpctl migrate secrets --from default --to bao --dry-run\n  \
                        mcpctl migrate secrets --from default --to bao")]
pub(crate) enum Migrate {
    Secrets(MigrateSecrets),
}

/// Move Secrets from one SecretBackend to another
///
/// Each Secret's values are written to the target, read back and compared, and only then deleted at the source. When it
/// is stopped, run it again: it finishes the work.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl migrate secrets --from default --to bao\n  \
                        mcpctl migrate secrets --from bao --to default --names openai,anthropic")]
pub(crate) struct MigrateSecrets {
    /// The SecretBackend that holds them
    #[arg(long, value_name = "BACKEND")]
    from: String,
    /// The SecretBackend that shall hold them
    #[arg(long, value_name = "BACKEND")]
    to: String,
    /// Only these Secrets, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,
    /// Leave the values at the source as well
    #[arg(long)]
    keep_source: bool,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
}

/// So many are asked for at a time, so that there is progress to show.
const BATCH: usize = 32;

/// What became of the Secrets.
#[derive(Default)]
struct Totals {
    migrated: Vec<Value>,
    skipped: Vec<Value>,
    failed: Vec<Value>,
}

impl Migrate {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Secrets(command) = self;
        command.run(context).await
    }
}

impl MigrateSecrets {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let mut totals = Totals::default();
        if self.dry_run {
            totals.add(client.migrate_secrets(&self.order(self.only())).await?);
        } else {
            let names = match self.names.is_empty() {
                true => self.names_at_source(&client).await?,
                false => self.names.clone(),
            };
            let bar = bar(names.len(), "secrets");
            for batch in names.chunks(BATCH) {
                let moved = client.migrate_secrets(&self.order(Some(batch))).await;
                // What is moved is moved: the summary is worth having.
                let moved = moved.inspect_err(|_| bar.abandon())?;
                totals.add(moved);
                bar.inc(batch.len() as u64);
            }
            bar.finish_and_clear();
            if self.names.is_empty() {
                // What an earlier run left at the source, and what has come meanwhile.
                totals.add_new(client.migrate_secrets(&self.order(None)).await?);
            }
        }
        self.summary(context, totals)
    }

    fn only(&self) -> Option<&[String]> {
        (!self.names.is_empty()).then_some(self.names.as_slice())
    }

    fn order(&self, names: Option<&[String]>) -> Value {
        let mut order = json!({"from": self.from, "to": self.to, "keepSource": self.keep_source,
                               "dryRun": self.dry_run});
        if let (Some(names), Some(order)) = (names, order.as_object_mut()) {
            order.insert("names".into(), names.into());
        }
        order
    }

    async fn names_at_source(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let secrets = client.list(SECRETS, &[]).await?;
        let text = |secret: &Spec, field: &str| secret.get(field).and_then(Value::as_str).map(str::to_owned);
        let there = secrets.iter().filter(|secret| text(secret, "backend").as_deref() == Some(&self.from));
        Ok(there.filter_map(|secret| text(secret, "name")).collect())
    }

    fn summary(&self, context: &Context, totals: Totals) -> Result<(), Failure> {
        let Totals { migrated, skipped, failed } = totals;
        for failure in &failed {
            let text = |name: &str| inline(failure.get(name).and_then(Value::as_str).unwrap_or_default());
            warn(format!("secret '{}': {}", text("name"), text("error")));
        }
        let counts = (migrated.len(), skipped.len(), failed.len());
        if context.format() == Format::Json {
            context.out.json(&json!({"migrated": migrated, "skipped": skipped, "failed": failed}))?;
        } else {
            let verb = if self.dry_run { "Dry run - would migrate" } else { "Migrated" };
            context.out.line(format!(
                "{verb} {} from '{}' to '{}', skipped {}, failed {}",
                counts.0, self.from, self.to, counts.1, counts.2
            ))?;
        }
        if counts.2 == 0 { Ok(()) } else { Err(Failure::silent(1)) }
    }
}

impl Totals {
    fn add(&mut self, mut answer: Spec) {
        let mut take = |name: &str| answer.remove(name).and_then(|list| list.as_array().cloned());
        self.migrated.extend(take("migrated").unwrap_or_default());
        self.skipped.extend(take("skipped").unwrap_or_default());
        self.failed.extend(take("failed").unwrap_or_default());
    }

    /// The same, for a second look: what that moved or finished has not failed.
    fn add_new(&mut self, answer: Spec) {
        let earlier = std::mem::take(&mut self.failed);
        self.add(answer);
        let name = |failure: &Value| failure.get("name").and_then(Value::as_str).map(str::to_owned);
        let mut settled: HashSet<String> = self.failed.iter().filter_map(name).collect();
        let done = self.migrated.iter().chain(&self.skipped);
        settled.extend(done.filter_map(Value::as_str).map(str::to_owned));
        self.failed.extend(
            earlier.into_iter().filter(|failure| !name(failure).is_some_and(|name| settled.contains(&name))),
        );
    }
}
