//! `mcpctl edit`

use std::{io::Write as _, path::Path, process::Command};

use clap::Args;
use serde_json::Value;

use crate::{
    context::Context,
    document,
    failure::{Failure, note},
    kinds::parse_target,
    output::manifest,
    yaml,
};

/// Change a resource in your editor
#[derive(Debug, Args)]
#[command(
    after_help = "The editor is $VISUAL, $EDITOR or vi.\n\nExample:\n  EDITOR=nano mcpctl edit llm gpt"
)]
pub(crate) struct Edit {
    /// What to edit: KIND NAME, or KIND/NAME
    #[arg(required = true, num_args = 1..=2, value_name = "KIND NAME")]
    target: Vec<String>,
}

impl Edit {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (kind, name) = parse_target(&self.target)?;
        let client = context.client()?;
        let stored = client.get(kind, &name, false).await?;
        let before = yaml::write(&manifest(kind, &stored))?;
        // Private from its first instant: somebody may write a secret value into it.
        let mut file = tempfile::Builder::new().prefix("mcpctl-").suffix(".yaml").tempfile()?;
        file.write_all(before.as_bytes())?;
        file.flush()?;
        run_editor(file.path())?;
        let after = std::fs::read_to_string(file.path())?;
        if after == before {
            note("Nothing was changed.");
            return Ok(());
        }
        let kept = |failure: Failure| match file.keep() {
            Ok((_, path)) => failure.hint(format!("your text is kept in {}", path.display())),
            Err(_) => failure,
        };
        let mut documents = match document::parse("edited text", &after) {
            Ok(documents) => documents,
            Err(failure) => return Err(kept(failure)),
        };
        let document = match (documents.pop(), documents.is_empty()) {
            (Some(document), true) if document.kind == kind => document,
            _ => return Err(kept(Failure::new(format!("edited text: expected one {}", kind.singular)))),
        };
        // Somebody else's change since then must not be lost.
        let version = stored.get("version").and_then(Value::as_i64);
        match client.put(kind, &name, document.body, version).await {
            Ok(now) => super::create::report(context, kind, &now, "updated"),
            Err(error) => {
                Err(kept(Failure::from(error).context(format!("editing {} '{name}'", kind.singular))))
            }
        }
    }
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
