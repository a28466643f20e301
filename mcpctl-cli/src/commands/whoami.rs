//! `mcpctl whoami`

use clap::Args;
use mcpctl_core::resource::Spec;
use serde_json::Value;

use crate::{context::Context, failure::Failure, output::Format, yaml};

/// Show who you are logged in as
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl whoami\n  mcpctl whoami -o json")]
pub(crate) struct Whoami {}

impl Whoami {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let me = context.client()?.whoami().await?;
        match context.format() {
            Format::Json => context.out.json(&Value::Object(me)),
            Format::Yaml => context.out.print(&yaml::write(&me)?),
            Format::Table | Format::Wide | Format::Name => {
                let name = name_of(&me).ok_or_else(|| Failure::new("the server does not say who you are"))?;
                context.out.line(crate::output::text::inline(&name))
            }
        }
    }
}

/// The name in what the server says of a user, which may be wrapped in `user`.
pub(crate) fn name_of(answer: &Spec) -> Option<String> {
    let user = answer.get("user").and_then(Value::as_object).unwrap_or(answer);
    let text = |key: &str| user.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("name").or_else(|| text("email")).map(str::to_owned)
}
