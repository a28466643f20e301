//! `mcpctl edit`

use std::{fs, path::Path, process::Command};

use clap::Args;
use mcpctl_core::{
    Error, ErrorKind,
    client::Client,
    resource::{Kind, Spec},
};
use serde_json::Value;
use similar::TextDiff;
use tempfile::NamedTempFile;

use crate::{
    context::Context,
    document,
    failure::{Failure, note},
    kinds::{parse_target, suggest},
    output::manifest,
    yaml,
};

/// Change a resource in your editor
#[derive(Debug, Args)]
#[command(
    after_help = "The editor is $VISUAL, $EDITOR or vi. A text that is refused is opened again, with the reason on top.\n\n\
                  Example:\n  EDITOR=nano mcpctl edit llm gpt"
)]
pub(crate) struct Edit {
    /// What to edit: KIND NAME, or KIND/NAME
    #[arg(required = true, num_args = 1..=2, value_name = "KIND NAME")]
    target: Vec<String>,
}

/// Lines that begin so are ours: they go before a text is opened again.
const REMARK: &str = "#! ";
/// An editor that changes the text each time, and never for the better, must come to an end.
const MOST_TRIES: usize = 20;

/// A resource in the editor.
struct Session<'a> {
    client: &'a Client,
    kind: Kind,
    name: &'a str,
    /// The version that the text will replace.
    version: Option<i64>,
}

/// Why a text was not taken.
enum Refusal {
    /// It can be mended: this is told on top of the text.
    Mend(Failure, String),
    /// No text would be taken.
    Stop(Failure),
}

impl Edit {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (kind, name) = parse_target(&self.target)?;
        let client = context.client()?;
        let stored = match client.get(kind, &name, false).await {
            Ok(stored) => stored,
            Err(error) => return Err(suggest(&client, kind, &name, error).await),
        };
        let before = yaml::write(&manifest(kind, &stored))?;
        let mut session = Session { client: &client, kind, name: &name, version: version(&stored) };
        // Private from its first instant: somebody may write a secret value into it.
        let file = tempfile::Builder::new().prefix("mcpctl-").suffix(".yaml").tempfile()?;
        let (mut offered, mut last) = (before.clone(), None);
        for _ in 0..MOST_TRIES {
            fs::write(file.path(), &offered)?;
            let edited = run_editor(file.path());
            let text = fs::read_to_string(file.path())?;
            if let Err(failure) = edited {
                return Err(if text == before { failure } else { keep(file, failure) });
            }
            let bare = without_remarks(&text);
            if bare == before && last.is_none() || bare.trim().is_empty() {
                note("Nothing was changed.");
                return Ok(());
            }
            if let Some(failure) = last.take().filter(|_| text == offered) {
                return Err(keep(file, failure));
            }
            match session.save(&bare).await {
                Ok(now) => return super::create::report(context, kind, &now, "updated"),
                Err(Refusal::Stop(failure)) => return Err(keep(file, failure)),
                Err(Refusal::Mend(failure, remark)) => {
                    offered = format!("{}{bare}", remarks(&remark));
                    last = Some(failure);
                }
            }
        }
        fs::write(file.path(), without_remarks(&offered))?;
        Err(keep(file, last.unwrap_or_else(|| Failure::new("too many tries"))))
    }
}

impl Session<'_> {
    /// Puts the text in place of what is stored.
    async fn save(&mut self, text: &str) -> Result<Spec, Refusal> {
        let mend = |failure: Failure| {
            let remark = failure.message().to_owned();
            Refusal::Mend(failure, remark)
        };
        let mut documents = document::parse("edited text", text).map_err(mend)?;
        let document = match (documents.pop(), documents.is_empty()) {
            (Some(document), true) if document.kind == self.kind => document,
            _ => return Err(mend(Failure::new(format!("edited text: expected one {}", self.kind.singular)))),
        };
        // Somebody else's change since then must not be lost.
        match self.client.put(self.kind, self.name, document.body, self.version).await {
            Ok(now) => Ok(now),
            Err(error) if error.is_conflict() => Err(self.conflict(error, text).await),
            Err(error) => {
                let can_be_mended = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge);
                let failure = self.failed(error);
                Err(if can_be_mended { mend(failure) } else { Refusal::Stop(failure) })
            }
        }
    }

    /// What to do about a conflict: when somebody else was quicker, both versions are shown, and the next text replaces
    /// theirs.
    async fn conflict(&mut self, error: Error, text: &str) -> Refusal {
        let failure = self.failed(error);
        let stored = match self.client.get(self.kind, self.name, false).await {
            Ok(stored) => stored,
            Err(error) => return Refusal::Stop(self.failed(error)),
        };
        let message = failure.message().to_owned();
        if version(&stored) == self.version {
            return Refusal::Mend(failure, message);
        }
        self.version = version(&stored);
        let theirs = match yaml::write(&manifest(self.kind, &stored)) {
            Ok(theirs) => theirs,
            Err(failure) => return Refusal::Stop(failure),
        };
        let diff = TextDiff::from_lines(theirs.as_str(), text);
        let diff = diff.unified_diff().context_radius(1).header("stored now", "your text").to_string();
        let advice = "Your text is below. Once you save it with a change (taking these lines out is one), it replaces \
                      what is stored now.";
        Refusal::Mend(failure, format!("{message}\n\n{diff}\n{advice}"))
    }

    fn failed(&self, error: Error) -> Failure {
        Failure::from(error).context(format!("editing {} '{}'", self.kind.singular, self.name))
    }
}

fn version(stored: &Spec) -> Option<i64> {
    stored.get("version").and_then(Value::as_i64)
}

/// The failure, with the place where the user's text stays.
fn keep(file: NamedTempFile, failure: Failure) -> Failure {
    let text = fs::read_to_string(file.path()).map(|text| without_remarks(&text));
    if let Ok(text) = text {
        let _ = fs::write(file.path(), text);
    }
    match file.keep() {
        Ok((_, path)) => failure.hint(format!("your text is kept in {}", path.display())),
        Err(_) => failure,
    }
}

fn remarks(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", format!("{REMARK}{line}").trim_end())).collect()
}

fn without_remarks(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(REMARK.trim_end())).collect()
}

/// Runs the user's editor, which may be given with arguments: `code --wait`.
fn run_editor(path: &Path) -> Result<(), Failure> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(path).status().map_err(|error| {
        Failure::new(format!("starting the editor `{program}`: {error}")).hint("set EDITOR")
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("the editor `{program}` failed: {status}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_come_and_go() {
        let text = "kind: llm\n# mine\nname: a\n";
        let remarked = format!("{}{text}", remarks("no\n\nnever"));
        assert_eq!(remarked, format!("#! no\n#!\n#! never\n{text}"));
        assert_eq!(without_remarks(&remarked), text);
    }
}
