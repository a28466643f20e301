//! `mcpctl status`

use clap::Args;
use mcpctl_core::{
    ErrorKind,
    client::{Client, Unreachable},
};
use serde_json::{Value, json};

use super::whoami::name_of;
use crate::{
    context::Context,
    failure::Failure,
    output::{Format, block},
    yaml,
};

/// Show the server, whether it is up, and who you are
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl status")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let url = context.url()?;
        let client = context.client()?;
        let version = match client.version().await {
            Ok(version) => version.get("version").and_then(Value::as_str).unwrap_or_default().to_owned(),
            Err(error) => {
                show(context, &url, "unreachable", "", "")?;
                return Err(error.into());
            }
        };
        let ready = match client.readyz().await {
            Ok(()) => "ready".to_owned(),
            Err(error) => format!("not ready: {error}"),
        };
        let user = who(context, &client, &url).await?;
        show(context, &url, &ready, &version, &user)?;
        if ready == "ready" { Ok(()) } else { Err(Failure::silent(1)) }
    }
}

async fn who(context: &Context, client: &Client, url: &str) -> Result<String, Failure> {
    if context.token(url)?.is_none() {
        return Ok("not logged in".to_owned());
    }
    Ok(match client.whoami().await {
        Ok(me) => name_of(&me).unwrap_or_else(|| "unknown".to_owned()),
        Err(error) if error.kind() == ErrorKind::Unauthenticated => {
            "not logged in (the token is not valid)".to_owned()
        }
        Err(error) => {
            match std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Unreachable>()) {
                Some(cause) => format!("unknown ({cause})"),
                None => format!("unknown ({error})"),
            }
        }
    })
}

fn show(context: &Context, url: &str, status: &str, version: &str, user: &str) -> Result<(), Failure> {
    let facts = [("server", url), ("status", status), ("version", version), ("user", user)];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let object = || facts.clone().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    match context.format() {
        Format::Json => context.out.json(&Value::Object(object())),
        Format::Yaml => context.out.print(&yaml::write(&object())?),
        Format::Table | Format::Wide | Format::Name => {
            let title = |key: &str| match key {
                "server" => "Server",
                "status" => "Status",
                "version" => "Version",
                _ => "User",
            };
            let lines: Vec<_> = facts.map(|(key, value)| (title(key).to_owned(), value.to_owned())).collect();
            context.out.print(&block(&lines, ""))
        }
    }
}
