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

/// The version of the API that this program speaks.
const API: &str = "v1";

/// The parts of a version within which nothing that worked stops working.
fn series(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).take(2).map(|part| part.parse().unwrap_or_default()).collect()
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
        let theirs = |name: &str| server.as_ref()?.get(name)?.as_str();
        if let Some(api) = theirs("api").filter(|api| *api != API) {
            warn(format!("the server speaks {api} of the API, and this program speaks {API}"));
        } else if let Some(version) = theirs("version").filter(|version| series(version) < series(own)) {
            warn(format!("the server ({version}) is older than this program: some commands will fail"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(series("0.9.7") < series("0.10.0"));
        assert_eq!(series("1.2.3"), series("1.2.9-rc.1"));
    }
}
