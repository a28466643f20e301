//! `mcpctl diff`

use clap::Args;

use super::apply::find;
use crate::{
    context::Context,
    document,
    failure::{Failure, note},
    output::text::inline,
    plan,
};

/// Show what `apply` would change, as a unified diff
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing differs, 1 something differs or failed\n\nExample:\n  mcpctl diff -f catalogue.yaml"
)]
pub(crate) struct Diff {
    /// YAML or JSON files, folders of them, or - for standard input
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<String>,
}

impl Diff {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let mut differs = false;
        for document in document::load(&self.files)? {
            let stored = find(&client, document.kind, &document.name).await?;
            let text = plan::diff(&document, stored.as_ref())?;
            if plan::hides(&document) && stored.is_some() {
                note(format!(
                    "The values in {} '{}' are not compared.",
                    document.kind.singular,
                    inline(&document.name)
                ));
            }
            differs |= !text.is_empty();
            context.out.print(&text)?;
        }
        if differs { Err(Failure::silent(1)) } else { Ok(()) }
    }
}
