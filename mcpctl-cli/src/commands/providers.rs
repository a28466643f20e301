//! `mcpctl providers`

use std::time::Duration;

use clap::{Args, Subcommand};
use mcpctl_core::resource::{Column, ColumnValue, Spec, text_of};
use serde_json::{Value, json};

use crate::{
    context::Context,
    failure::{Failure, note},
    output::{Format, List, text::inline},
    proxy::{Done, Remote, of_config, shown, try_out},
};

/// How often a provider that starts is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show and steer the local providers, which stand in for the server
#[derive(Debug, Subcommand)]
#[command(after_help = "They are listed under `providers` in ~/.mcpctl/config.json.\n\nExamples:\n  \
                        mcpctl providers list\n  mcpctl providers test local")]
pub(crate) enum Providers {
    List(ListThem),
    Test(Test),
    Start(Start),
    Stop(Stop),
}

/// List the local providers and their states
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl providers list\n  mcpctl providers list -o json")]
pub(crate) struct ListThem {}

/// Have a local provider say one token, and see how long that takes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl providers test local")]
pub(crate) struct Test {
    /// The provider's name
    #[arg(value_name = "PROVIDER")]
    name: String,
}

/// Start a local provider of type vllm-managed, before it is needed
#[derive(Debug, Args)]
#[command(after_help = "The proxy that runs starts it, and stops it when it is idle.\n\nExample:\n  \
                        mcpctl providers start local")]
pub(crate) struct Start {
    /// The provider's name
    #[arg(value_name = "PROVIDER")]
    name: String,
}

/// Stop a local provider of type vllm-managed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl providers stop local")]
pub(crate) struct Stop {
    /// The provider's name
    #[arg(value_name = "PROVIDER")]
    name: String,
}

const COLUMNS: &[Column] = &[
    Column { header: "NAME", value: ColumnValue::Field("name"), wide: false },
    Column { header: "TYPE", value: ColumnValue::Field("type"), wide: false },
    Column { header: "MODEL", value: ColumnValue::Field("model"), wide: false },
    Column { header: "TIER", value: ColumnValue::With(|item| or_dash(item, "tier")), wide: false },
    Column { header: "URL", value: ColumnValue::With(|item| or_dash(item, "url")), wide: false },
    Column {
        header: "STANDS-IN-FOR",
        value: ColumnValue::With(|item| or_dash(item, "standsInFor")),
        wide: false,
    },
    Column { header: "STATE", value: ColumnValue::Field("state"), wide: false },
    Column { header: "DETAIL", value: ColumnValue::Field("detail"), wide: true },
];

fn or_dash(item: &Spec, field: &str) -> String {
    let text = item.get(field).map(text_of).unwrap_or_default();
    if text.is_empty() { "-".to_owned() } else { text }
}

impl Providers {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List(ListThem {}) => list(context).await,
            Self::Test(Test { name }) => test(context, &name).await,
            Self::Start(Start { name }) => start(context, &name).await,
            Self::Stop(Stop { name }) => {
                proxy(context, "stop").await?.act(&name, "stop").await?;
                context.out.line(format!("provider '{}' stopped", inline(&name)))
            }
        }
    }
}

/// All of them, as the proxy that runs has them, else as the configuration does.
pub(crate) async fn all(context: &Context, running: Option<&Done>) -> Result<Vec<Value>, Failure> {
    match running {
        Some(status) => Ok(status.providers()),
        None => Ok(shown(&*of_config(&context.home)?, false).await),
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let running = Remote::find(&context.home).await?;
    let items = all(context, running.as_ref().map(|(_, status)| status)).await?;
    let items: Vec<Spec> = items.into_iter().filter_map(|item| item.as_object().cloned()).collect();
    if context.format() == Format::Name {
        return items.iter().try_for_each(|item| {
            context.out.line(inline(&item.get("name").map(text_of).unwrap_or_default()))
        });
    }
    if items.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
        note("there are no local providers; `providers` in ~/.mcpctl/config.json lists them");
    }
    List { kind: None, columns: COLUMNS, items: &items, many: true }.print(&context.out, context.format())
}

async fn proxy(context: &Context, what: &str) -> Result<Remote, Failure> {
    let running = Remote::find(&context.home).await?;
    running.map(|(remote, _)| remote).ok_or_else(|| {
        Failure::new(format!(
            "no proxy runs that could {what} it: a provider belongs to the program that starts it"
        ))
        .hint("run `mcpctl proxy`, which starts providers when they are needed")
    })
}

async fn test(context: &Context, name: &str) -> Result<(), Failure> {
    let providers = of_config(&context.home)?;
    let provider = providers.get(name).ok_or_else(|| {
        let names: Vec<String> = providers.list().iter().map(|known| known.settings().name.clone()).collect();
        let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        Failure::new(format!("no local provider is called `{}`; known: {known}", inline(name)))
    })?;
    let took = if provider.managed().is_some() {
        let remote = proxy(context, "start").await?;
        let watched = watch(&remote, name, false);
        let done = tokio::select! {
            done = remote.act(name, "test") => done?,
            Err(failure) = watched => return Err(failure),
        };
        done.0.get("tookMs").and_then(Value::as_u64).unwrap_or_default()
    } else {
        u64::try_from(try_out(&provider).await?.as_millis()).unwrap_or(u64::MAX)
    };
    if context.format() == Format::Json {
        return context.out.json(&json!({"name": name, "ok": true, "tookMs": took}));
    }
    context.out.line(format!("provider '{}' works: it answered in {took} ms", inline(name)))
}

async fn start(context: &Context, name: &str) -> Result<(), Failure> {
    let remote = proxy(context, "start").await?;
    remote.act(name, "start").await?;
    watch(&remote, name, true).await?;
    context.out.line(format!("provider '{}' is ready", inline(name)))
}

/// Shows the last line of a provider that starts, until it is ready if `is_enough`.
async fn watch(remote: &Remote, name: &str, is_enough: bool) -> Result<(), Failure> {
    let (mut last, mut has_begun) = (String::new(), false);
    loop {
        let status = remote.status().await?;
        let provider = status.provider(name).cloned().unwrap_or_default();
        let text = |field: &str| provider.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("state").as_str() {
            "ready" if is_enough => return Ok(()),
            "failed" if is_enough => {
                return Err(Failure::new(format!("provider `{}`: {}", inline(name), text("detail"))));
            }
            "starting" => {
                has_begun = true;
                if text("detail") != last {
                    last = text("detail");
                    note(format!("{}: {}", inline(name), inline(&last)));
                }
            }
            "stopped" if is_enough && has_begun => {
                return Err(Failure::new(format!("provider `{}` was stopped meanwhile", inline(name))));
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
