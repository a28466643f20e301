//! `mcpctl backup verify`

use clap::Args;
use serde_json::json;

use super::{Passphrase, open};
use crate::{
    context::Context,
    failure::Failure,
    output::{Format, text::inline},
};

/// Prove that a backup is whole, and say what is in it
///
/// All of the file is decrypted and read. No server is asked, and nothing is written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl backup verify monday.backup\n  \
                        mcpctl backup verify monday.backup --passphrase-file key.txt -o json")]
pub(crate) struct Verify {
    /// The backup, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let manifest = open(&self.file, &self.passphrase)?.manifest;
        if context.format() == Format::Json {
            return context.out.json(&json!(manifest));
        }
        let values = if manifest.with_values { "included" } else { "not included" };
        context.out.line(format!("File:     {} (whole)", inline(&self.file)))?;
        context.out.line(format!("Made:     {}", manifest.created_at))?;
        context.out.line(format!("Server:   {}", inline(&manifest.server_version)))?;
        context.out.line(format!("Values:   {values}\n"))?;
        context.out.line(format!("{:<16}COUNT", "KIND"))?;
        for (kind, count) in &manifest.counts {
            context.out.line(format!("{:<16}{count}", inline(kind)))?;
        }
        Ok(())
    }
}
