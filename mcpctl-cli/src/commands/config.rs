//! `mcpctl config`

use clap::{Args, Subcommand};
use mcpctl_core::resource::text_of;

use crate::{
    config::{Config, mask},
    context::Context,
    failure::Failure,
    output::{Format, text::inline},
    yaml,
};

/// Show and change which servers this program knows
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  mcpctl config set url http://127.0.0.1:3100\n  \
                        mcpctl config use-context prod --url https://mcp.example.com\n  mcpctl config view")]
pub(crate) enum ConfigCommand {
    Get(Get),
    Set(Set),
    View(View),
    UseContext(UseContext),
    Impersonate(Impersonate),
}

/// Print a value: `url`, `current-context`, or a path such as `contexts.prod.url`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl config get url")]
pub(crate) struct Get {
    /// What to print
    key: String,
}

/// Set `url` (of the context in use), `current-context` or `contexts.NAME.url`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl config set url http://127.0.0.1:3100")]
pub(crate) struct Set {
    /// What to set
    key: String,
    /// Its value
    value: String,
}

/// Print the whole configuration, with credentials masked
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl config view -o json")]
pub(crate) struct View {}

/// Choose the server to talk to
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl config use-context prod\n  \
                        mcpctl config use-context prod --url https://mcp.example.com")]
pub(crate) struct UseContext {
    /// The context's name
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// Its server, to make the context or to change it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Act for another user in this context, which needs the operation impersonate there
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl config impersonate ann@example.com\n  \
                        mcpctl config impersonate --stop\n  mcpctl get llms --as ann@example.com")]
pub(crate) struct Impersonate {
    /// The user's e-mail address
    #[arg(required_unless_present = "stop")]
    email: Option<String>,
    /// Act for nobody else again
    #[arg(long, conflicts_with = "email")]
    stop: bool,
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut config = Config::load(&context.home)?;
        match self {
            Self::Get(Get { key }) => {
                let value = config.get(&key).ok_or_else(|| Failure::new(format!("`{key}` is not set")))?;
                // Under its last name, so that a credential is masked here as it is in the view.
                let name = key.rsplit('.').next().unwrap_or(&key).to_owned();
                let masked = mask(serde_json::Value::Object([(name.clone(), value)].into_iter().collect()));
                context.out.line(inline(&masked.get(&name).map(text_of).unwrap_or_default()))
            }
            Self::Set(Set { key, value }) => {
                config.set(&key, &value)?;
                config.save(&context.home)
            }
            Self::View(View {}) => match (context.format(), config.masked()) {
                (Format::Yaml, serde_json::Value::Object(shown)) => context.out.print(&yaml::write(&shown)?),
                (_, shown) => context.out.json(&shown),
            },
            Self::Impersonate(Impersonate { email, .. }) => {
                config.impersonate(email.as_deref())?;
                config.save(&context.home)?;
                context.out.line(match email {
                    Some(email) => format!("{} now acts for {}", config.current(), inline(&email)),
                    None => format!("{} now acts for nobody else", config.current()),
                })
            }
            Self::UseContext(UseContext { name, url }) => {
                if let Some(url) = url {
                    config.set_url(&name, &url)?;
                }
                config.use_context(&name)?;
                config.save(&context.home)?;
                context.out.line(format!("Now using {name} ({})", config.url().unwrap_or_default()))
            }
        }
    }
}
