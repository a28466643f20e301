//! `mcpctl backup create`

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::{Timestamp, Unit};
use mcpctl_core::{
    backup::{self, Contents},
    resource::kinds,
};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::Passphrase;
use crate::{
    context::Context,
    failure::{Failure, note, warn},
    output::{Format, bar, spinner},
};

/// Write all that the server holds to an encrypted file
///
/// Resources of every kind are in it with their ids, and the hashes of passwords and tokens; not sessions, and not the
/// audit log. Without --with-values, Secrets are in it without their values.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl backup create\n  mcpctl backup create -f monday.backup --with-values\n  \
                        mcpctl backup create -f - --passphrase-file key.txt | ssh vault 'cat > b'"
)]
pub(crate) struct Create {
    /// The file to write, or - for standard output; else one named after the time
    #[arg(short, long = "file", value_name = "FILE")]
    file: Option<String>,
    /// With the values of Secrets: for this you must be allowed to edit each
    #[arg(long)]
    with_values: bool,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let file = self.file.clone().unwrap_or_else(named_after_the_time);
        if file == "-" && io::stdout().is_terminal() {
            return Err(Failure::usage("a backup is not for a terminal: expected -f FILE, or a pipe"));
        }
        if file != "-" && !self.force && Path::new(&file).exists() {
            return Err(there_already(&file));
        }
        let client = context.client()?;
        let passphrase = self.passphrase.choose()?;
        let asking = spinner("asking the server");
        let answer = client.backup(self.with_values).await;
        asking.finish_and_clear();
        let contents = read(answer?)?;
        let count = contents.resources.len();
        let bar = bar(count, "resources");
        if file == "-" {
            drop(backup::write(io::stdout().lock(), passphrase.expose(), &contents, || bar.inc(1))?);
        } else {
            let out = beside(Path::new(&file))?;
            let out = backup::write(out, passphrase.expose(), &contents, || bar.inc(1))?;
            self.keep(out, &file)?;
        }
        bar.finish_and_clear();
        let secrets = contents.manifest.counts.get(kinds::SECRETS.plural).copied().unwrap_or_default();
        if !self.with_values && secrets > 0 {
            warn(format!(
                "the values of {secrets} Secrets are not in it: those that the server itself keeps would come back \
                 empty, the others as references; --with-values takes them along"
            ));
        }
        if file == "-" {
            // Standard output is the backup.
            note(format!("Backed up {count} resources"));
            return Ok(());
        }
        if context.format() == Format::Json {
            return context.out.json(&serde_json::json!({"file": file, "manifest": contents.manifest}));
        }
        context.out.line(format!("Backed up {count} resources to {file}"))
    }

    /// Gives the finished file its name.
    fn keep(&self, out: NamedTempFile, file: &str) -> Result<(), Failure> {
        let failed = |error: &io::Error| Failure::new(format!("writing {file}: {error}"));
        out.as_file().sync_all().map_err(|error| failed(&error))?;
        if self.force {
            out.persist(file).map_err(|fault| failed(&fault.error))?;
        } else {
            out.persist_noclobber(file).map_err(|fault| match fault.error.kind() {
                io::ErrorKind::AlreadyExists => there_already(file),
                _ => failed(&fault.error),
            })?;
        }
        Ok(())
    }
}

/// What the server answered, as a backup.
fn read(mut answer: mcpctl_core::resource::Spec) -> Result<Contents, Failure> {
    let mut part = |name: &str| answer.remove(name).unwrap_or(Value::Null);
    let manifest = serde_json::from_value(part("manifest"));
    let resources = serde_json::from_value(part("resources"));
    match (manifest, resources) {
        (Ok(manifest), Ok(resources)) => Ok(Contents { manifest, resources }),
        _ => Err(Failure::new("the server's answer is no backup")),
    }
}

/// A file in the folder of `path` that nobody else may read, and that is gone unless it is kept.
fn beside(path: &Path) -> Result<NamedTempFile, Failure> {
    let folder: PathBuf = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    NamedTempFile::new_in(&folder)
        .map_err(|error| Failure::new(format!("writing to {}: {error}", folder.display())))
}

fn there_already(file: &str) -> Failure {
    Failure::new(format!("{file} is there already")).hint("--force overwrites it")
}

fn named_after_the_time() -> String {
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    format!("mcpctl-{}.backup", now.strftime("%Y%m%dT%H%M%SZ"))
}
