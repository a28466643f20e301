//! `mcpctl version`

use clap::Args;
use mcpctl_core::client::Client;
use serde_json::{Value, json};

use crate::{
    context::Context,
    failure::{Failure, warn},
    output::{Format, text::inline},
};

/// Show the versions of this program and of the server
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl version\n  mcpctl version --client")]
pub(crate) struct Version {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
}

impl Version {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let own = env!("CARGO_PKG_VERSION");
        let url = context.url()?;
        let server = if self.client {
            None
        } else {
            match Client::new(&url, None)?.version().await {
                Ok(server) => Some(server),
                Err(error) => {
                    warn(error.message());
                    None
                }
            }
        };
        if context.format() == Format::Json {
            return context.out.json(&json!({"client": own, "server": server}));
        }
        context.out.line(format!("Client: {own}"))?;
        match server.as_ref().and_then(|server| server.get("version")).and_then(Value::as_str) {
            Some(version) => context.out.line(format!("Server: {} ({url})", inline(version))),
            None => Ok(()),
        }
    }
}
