//! `mcpctl status`

use clap::Args;
use jiff::Timestamp;
use mcpctl_core::{
    ErrorKind,
    client::{Client, Unreachable},
    resource::text_of,
};
use serde_json::{Map, Value, json};

use super::{providers, whoami::name_of};
use crate::{
    context::Context,
    failure::{Failure, warn},
    output::{Format, block, text::inline},
    proxy::Remote,
    yaml,
};

/// Show the server, who you are, the proxy, local providers and failovers
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl status")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let url = context.url()?;
        let client = context.client()?;
        let mut facts = Map::new();
        facts.insert("server".into(), url.as_str().into());
        let verdict = server(context, &client, &url, &mut facts).await;
        // What is here is shown above all when the server is not.
        here(context, &mut facts).await;
        show(context, facts)?;
        verdict
    }
}

/// What is known of the server.
async fn server(
    context: &Context,
    client: &Client,
    url: &str,
    facts: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let version = match client.version().await {
        Ok(version) => version.get("version").cloned().unwrap_or_default(),
        Err(error) => {
            facts.insert("status".into(), "unreachable".into());
            return Err(error.into());
        }
    };
    let ready = match client.readyz().await {
        Ok(()) => "ready".to_owned(),
        Err(error) => format!("not ready: {error}"),
    };
    let is_ready = ready == "ready";
    facts.insert("status".into(), ready.into());
    facts.insert("version".into(), version);
    facts.insert("user".into(), who(context, client, url).await?.into());
    if is_ready { Ok(()) } else { Err(Failure::silent(1)) }
}

/// What is known of this machine: the proxy, and who stands in for the server.
async fn here(context: &Context, facts: &mut Map<String, Value>) {
    let running = Remote::find(&context.home).await.unwrap_or_else(|failure| {
        warn(failure.message());
        None
    });
    let running = running.map(|(_, status)| status);
    let proxy = match &running {
        Some(status) => {
            let field = |name: &str| status.0.get(name).cloned().unwrap_or_default();
            json!({"running": true, "url": field("url"), "pid": field("pid"), "since": field("since"),
                   "server": field("server")})
        }
        None => json!({"running": false}),
    };
    facts.insert("proxy".into(), proxy);
    match providers::all(context, running.as_ref()).await {
        Ok(providers) => drop(facts.insert("providers".into(), providers.into())),
        Err(failure) => warn(failure.message()),
    }
    if let Some(failovers) = running.and_then(|status| status.0.get("failovers").cloned()) {
        facts.insert("failovers".into(), failovers);
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

fn show(context: &Context, facts: Map<String, Value>) -> Result<(), Failure> {
    match context.format() {
        Format::Json => context.out.json(&Value::Object(facts)),
        Format::Yaml => context.out.print(&yaml::write(&facts)?),
        Format::Table | Format::Wide | Format::Name => context.out.print(&block(&lines(&facts), "")),
    }
}

fn lines(facts: &Map<String, Value>) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (title, name) in
        [("Server", "server"), ("Status", "status"), ("Version", "version"), ("User", "user")]
    {
        let text = facts.get(name).map(text_of).unwrap_or_default();
        if !text.is_empty() {
            lines.push((title.to_owned(), text));
        }
    }
    let proxy = facts.get("proxy").unwrap_or(&Value::Null);
    let field = |name: &str| proxy.get(name).map(text_of).unwrap_or_default();
    let proxy = match field("running").as_str() {
        "true" => format!("{}, pid {}, since {}", field("url"), field("pid"), field("since")),
        _ => "not running".to_owned(),
    };
    lines.push(("Proxy".to_owned(), proxy));
    let providers = facts.get("providers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !providers.is_empty() {
        lines.push(("Providers".to_owned(), providers.iter().map(provider).collect::<Vec<_>>().join("\n")));
    }
    if let Some(failovers) = facts.get("failovers") {
        lines.extend(told(failovers));
    }
    lines
}

fn provider(provider: &Value) -> String {
    let field = |name: &str| provider.get(name).map(text_of).unwrap_or_default();
    let detail = Some(field("detail")).filter(|detail| !detail.is_empty());
    let detail = detail.map(|detail| format!(" ({})", inline(&detail))).unwrap_or_default();
    let llms = Some(field("standsInFor")).filter(|llms| !llms.is_empty());
    let llms = llms.map(|llms| format!(", for {llms}")).unwrap_or_default();
    // A newline would be a line of its own.
    inline(&format!("{}: {}{detail}{llms}", field("name"), field("state"))).into_owned()
}

/// How many failovers there were, and the last of them.
fn told(failovers: &Value) -> Option<(String, String)> {
    let number = |name: &str| failovers.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut text = format!("{}, and {} refused", number("count"), number("refused"));
    for event in failovers.get("last")?.as_array()?.iter().take(5) {
        let field = |name: &str| event.get(name).map(text_of).unwrap_or_default();
        let time = field("time").parse::<Timestamp>().map(|time| time.strftime("%FT%TZ").to_string());
        let via = Some(field("via")).filter(|via| !via.is_empty());
        let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
        let line = format!(
            "{} {}{via}: {}; {}",
            time.unwrap_or_default(),
            field("llm"),
            field("why"),
            field("decision")
        );
        text.push_str(&format!("\n{}", inline(&line)));
    }
    Some(("Failovers".to_owned(), text))
}
