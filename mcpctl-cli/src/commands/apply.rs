//! `mcpctl apply`

use std::error::Error as _;

use clap::{Args, ValueEnum};
use mcpctl_core::{
    Error, ErrorKind,
    client::{Client, Unreachable},
    resource::{Kind, Spec, text_of},
};
use serde_json::Value;

use super::create::show_token;
use crate::{
    context::Context,
    document::{self, Document},
    failure::{Failure, note, warn},
    output::text::{inline, safe},
    plan::{self, Plan},
    sets::Set,
};

/// Create and update resources as files describe them
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl apply -f catalogue.yaml\n  mcpctl apply -f ./manifests -f extra.json --dry-run\n  \
                        mcpctl apply -f ./manifests --dry-run=server --atomic\n  mcpctl apply -f ./manifests --set team --prune\n  \
                        mcpctl get llms -o yaml | mcpctl --daemon-url https://other.example apply -f -"
)]
pub(crate) struct Apply {
    /// YAML or JSON files, folders of them, or - for standard input
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<String>,
    /// Say what would change and change nothing: as compared here, or as the server would decide
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<Decider>,
    /// All or nothing, in one transaction: when one is refused, nothing changes
    #[arg(long, conflicts_with = "set")]
    atomic: bool,
    /// Remember what this makes as the set of this name, in ~/.mcpctl/sets, for --prune
    #[arg(long, value_name = "SET")]
    set: Option<String>,
    /// Delete what an earlier apply of the set made and the files no longer hold, and nothing else
    #[arg(long, requires = "set")]
    prune: bool,
}

/// Who says what would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Decider {
    /// This command: it compares the files with what is stored.
    Client,
    /// The server: it tries everything out, permissions and references too, and keeps nothing.
    Server,
}

/// What became of a document.
enum Outcome {
    /// As the server answered: a token's value is in it.
    Created(Spec),
    Updated(Spec),
    Unchanged(Spec),
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let documents = document::load(&self.files)?;
        let client = context.client()?;
        match (self.dry_run, self.atomic) {
            (Some(Decider::Client), true) => {
                return Err(Failure::usage("only the server can try out --atomic: --dry-run=server"));
            }
            (Some(Decider::Server), _) if self.set.is_some() => {
                return Err(Failure::usage("--set goes with --dry-run=client"));
            }
            (Some(Decider::Server), _) | (None, true) => {
                return at_once(context, &client, documents, self.atomic, self.dry_run.is_some()).await;
            }
            (Some(Decider::Client) | None, false) => {}
        }
        let mut set = self.set.as_deref().map(|name| Set::open(context, name)).transpose()?;
        if self.dry_run.is_some() {
            dry_run(context, &client, &documents).await?;
            return match set {
                Some(set) if self.prune => set.preview(context, &client, &documents).await,
                _ => Ok(()),
            };
        }
        let failed = apply_all(context, &client, &documents, set.as_mut()).await?;
        if failed > 0 {
            let failure = Failure::new(format!("{failed} of {} resources failed", documents.len()));
            return Err(if self.prune { failure.hint("nothing was pruned") } else { failure });
        }
        match set {
            Some(set) if self.prune => set.prune(context, &client, &documents).await,
            _ => Ok(()),
        }
    }
}

/// Lets the server apply the documents in one request: all of them or none, or only in thought.
async fn at_once(
    context: &Context,
    client: &Client,
    documents: Vec<Document>,
    atomic: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    if dry_run {
        count(context, &documents)?;
    }
    let total = documents.len();
    let [created, updated] = if dry_run { ["Would create", "Would update"] } else { ["Created", "Updated"] };
    let resources = documents.into_iter().map(|document| {
        let mut resource = document.body;
        resource.insert("kind".to_owned(), document.kind.singular.into());
        resource
    });
    let results = client.apply(resources.collect(), atomic, dry_run).await?;
    let text = |result: &Spec, field: &str| result.get(field).map(text_of).unwrap_or_default();
    let failed = results.iter().filter(|result| text(result, "outcome") == "error").count();
    for result in &results {
        let (what, name) = (text(result, "kind"), text(result, "name"));
        let (what, name) = (inline(&what), inline(&name));
        match text(result, "outcome").as_str() {
            "created" => context.out.line(format!("{created} {what}: {name}"))?,
            "updated" => context.out.line(format!("{updated} {what}: {name}"))?,
            "unchanged" => context.out.line(format!("Unchanged {what}: {name}"))?,
            _ => note(format!("Error applying {what} '{name}': {}", safe(&text(result, "error")))),
        }
        show_token(context, result, false)?;
    }
    match (failed, dry_run) {
        (0, _) => Ok(()),
        (_, true) => Err(Failure::new(format!("{failed} of {total} resources would fail"))),
        (_, false) => Err(Failure::new("nothing was changed")),
    }
}

/// Says how many resources of each kind there are.
fn count(context: &Context, documents: &[Document]) -> Result<(), Failure> {
    context.out.line("Dry run - would apply:")?;
    for kind in Kind::in_apply_order() {
        let count = documents.iter().filter(|document| document.kind == kind).count();
        if count > 0 {
            context.out.line(format!("  {count} {}(s)", kind.singular))?;
        }
    }
    Ok(())
}

/// Applies all of the documents; says how many failed.
async fn apply_all(
    context: &Context,
    client: &Client,
    documents: &[Document],
    mut set: Option<&mut Set>,
) -> Result<usize, Failure> {
    let mut failed = 0_usize;
    for document in documents {
        let (what, name) = (document.kind.singular, inline(&document.name));
        match apply(client, document).await {
            Ok(Outcome::Created(made)) => {
                if let Some(set) = set.as_deref_mut() {
                    set.made(document, &made)?;
                }
                context.out.line(format!("Created {what}: {name}"))?;
                show_token(context, &made, false)?;
            }
            Ok(Outcome::Updated(now)) => {
                context.out.line(format!("Updated {what}: {name}"))?;
                set.as_deref_mut().map_or(Ok(()), |set| set.met(document, &now))?;
            }
            Ok(Outcome::Unchanged(now)) => {
                context.out.line(format!("Unchanged {what}: {name}"))?;
                set.as_deref_mut().map_or(Ok(()), |set| set.met(document, &now))?;
            }
            // The others would fail for the same reason.
            Err(error) if is_hopeless(&error) => {
                return Err(Failure::from(error).context(format!("applying {what} '{name}'")));
            }
            Err(error) => {
                failed += 1;
                note(format!("Error applying {what} '{name}': {}", safe(error.message())));
            }
        }
    }
    Ok(failed)
}

/// Whether there is no talking to the server at all.
fn is_hopeless(error: &Error) -> bool {
    error.kind() == ErrorKind::Unauthenticated
        || error.source().is_some_and(|cause| cause.is::<Unreachable>())
}

async fn apply(client: &Client, document: &Document) -> Result<Outcome, Error> {
    let Document { kind, name, body } = document;
    let stored = match find(client, *kind, name).await? {
        Some(stored) => stored,
        None => match client.create(*kind, body.clone()).await {
            Ok(made) => return Ok(Outcome::Created(made)),
            // Somebody was quicker, or an apply that was interrupted got further than it looked.
            Err(error) if error.is_conflict() => find(client, *kind, name).await?.ok_or(error)?,
            Err(error) => return Err(error),
        },
    };
    let now = client.put(*kind, name, body.clone(), None).await?;
    let version = |resource: &Spec| resource.get("version").and_then(Value::as_i64);
    let is_same = version(&now) == version(&stored);
    Ok(if is_same { Outcome::Unchanged(now) } else { Outcome::Updated(now) })
}

/// What is stored under a name, if anything is.
pub(super) async fn find(client: &Client, kind: Kind, name: &str) -> Result<Option<Spec>, Error> {
    match client.get(kind, name, false).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn dry_run(context: &Context, client: &Client, documents: &[Document]) -> Result<(), Failure> {
    count(context, documents)?;
    let mut failed = 0_usize;
    for document in documents {
        let (what, name) = (document.kind.singular, inline(&document.name));
        let plan = match find(client, document.kind, &document.name).await {
            Ok(stored) => plan::plan(document, stored.as_ref()),
            Err(error) if is_hopeless(&error) => {
                warn(format!("not compared with what is stored: {error}"));
                return Ok(());
            }
            Err(error) => {
                failed += 1;
                note(format!("Error comparing {what} '{name}': {}", safe(error.message())));
                continue;
            }
        };
        match plan {
            Ok(Plan::Create) => context.out.line(format!("Would create {what}: {name}"))?,
            Ok(Plan::Update(fields)) => {
                context.out.line(format!("Would update {what}: {name} ({})", fields.join(", ")))?;
            }
            Ok(Plan::Unchanged) => context.out.line(format!("Unchanged {what}: {name}"))?,
            Err(failure) => {
                failed += 1;
                note(format!("Error applying {what} '{name}': {}", safe(failure.message())));
            }
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("{failed} of {} resources would fail", documents.len())))
    }
}
