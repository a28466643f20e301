//! `mcpctl test`

use clap::Args;
use mcpctl_core::resource::kinds::SECRET_BACKENDS;
use serde_json::Value;

use crate::{
    context::Context,
    failure::Failure,
    kinds::parse_targets,
    output::{Format, text::inline},
};

/// Try a SecretBackend: whether it can be reached, read and written
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl test secretbackend bao\n  mcpctl test secretbackend/bao -o json")]
pub(crate) struct Test {
    /// What to try: secretbackend NAME, or secretbackend/NAME
    #[arg(required = true, value_name = "KIND NAME")]
    target: Vec<String>,
}

impl Test {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let targets = parse_targets(&self.target)?;
        let client = context.client()?;
        let mut is_fine = true;
        for (kind, name) in targets {
            if kind != SECRET_BACKENDS {
                return Err(Failure::usage(format!("a {} cannot be tried", kind.singular)));
            }
            let Some(name) = name else {
                return Err(Failure::usage("which secretbackend? expected a name"));
            };
            let answer = client.test_secret_backend(&name).await?;
            let ok = answer.get("ok") == Some(&Value::Bool(true));
            is_fine &= ok;
            if context.format() == Format::Json {
                context.out.json(&Value::Object(answer))?;
                continue;
            }
            let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
            let verdict = if ok { "works" } else { "does not work" };
            context.out.line(format!("secretbackend '{name}' {verdict}: {}", inline(message)))?;
        }
        if is_fine { Ok(()) } else { Err(Failure::silent(1)) }
    }
}
