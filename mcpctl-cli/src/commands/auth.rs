//! `mcpctl auth`

use clap::{Args, Subcommand};

use crate::{
    context::Context,
    failure::{Failure, note},
    kinds::parse_kind,
    output::{Format, text::inline},
};

/// Ask what you may do
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  mcpctl auth can-i run llms gpt")]
pub(crate) enum Auth {
    CanI(CanI),
}

/// Ask whether you may do something; exit status 1 when you may not
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl auth can-i create llms\n  mcpctl auth can-i run llms gpt\n  mcpctl auth can-i audit"
)]
pub(crate) struct CanI {
    /// view, create, edit, delete, run or expose; or an operation, such as audit
    action: String,
    /// A kind
    resource: Option<String>,
    /// One resource
    name: Option<String>,
}

impl Auth {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::CanI(CanI { action, resource, name }) = self;
        let resource = resource.map(|kind| parse_kind(&kind)).transpose()?.map(|kind| kind.def().plural);
        let answer = context.client()?.can_i(&action, resource, name.as_deref()).await?;
        if context.format() == Format::Json {
            context.out.json(&serde_json::json!({
                "allowed": answer.allowed, "reason": answer.reason, "binding": answer.binding,
            }))?;
        } else {
            context.out.line(if answer.allowed { "yes" } else { "no" })?;
            if !answer.reason.is_empty() {
                note(inline(&answer.reason));
            }
        }
        if answer.allowed { Ok(()) } else { Err(Failure::silent(1)) }
    }
}
