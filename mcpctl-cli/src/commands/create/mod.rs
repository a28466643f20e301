//! `mcpctl create`, a file per kind: only flags are particular to a kind.

mod group;
mod llm;
mod mcptoken;
mod project;
mod rbac;
mod secret;
mod secretbackend;
mod user;

use clap::{
    Subcommand,
    builder::{PossibleValuesParser, StyledStr},
};
use mcpctl_core::resource::{FieldType, Kind, Spec, text_of};

use super::apply::find;
use crate::{
    context::Context,
    failure::{Failure, note},
    output::{Format, List, text::inline},
};

/// Create a resource
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
            mcpctl create secret openai --from-stdin api-key\n  \
            mcpctl create llm gpt --type openai --model gpt-4o \\\n    \
            --api-key-ref openai/api-key\n  \
            mcpctl create user ann@example.com")]
pub(crate) enum Create {
    Secret(secret::CreateSecret),
    #[command(alias = "sb")]
    Secretbackend(secretbackend::CreateSecretBackend),
    Llm(llm::CreateLlm),
    User(user::CreateUser),
    Group(group::CreateGroup),
    #[command(alias = "proj")]
    Project(project::CreateProject),
    Rbac(rbac::CreateRbac),
    Mcptoken(mcptoken::CreateMcpToken),
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Secret(command) => command.run(context).await,
            Self::Secretbackend(command) => command.run(context).await,
            Self::Llm(command) => command.run(context).await,
            Self::User(command) => command.run(context).await,
            Self::Group(command) => command.run(context).await,
            Self::Project(command) => command.run(context).await,
            Self::Rbac(command) => command.run(context).await,
            Self::Mcptoken(command) => command.run(context).await,
        }
    }
}

/// Creates a resource, or with `force` updates the one of this name.
async fn create(
    context: &Context,
    kind: Kind,
    name: &str,
    mut body: Spec,
    force: bool,
) -> Result<(), Failure> {
    let client = context.client()?;
    let failed =
        |doing: &str, error| Failure::from(error).context(format!("{doing} {} '{name}'", kind.singular));
    if force && find(&client, kind, name).await.map_err(|error| failed("creating", error))?.is_some() {
        let updated = client.put(kind, name, body, None).await.map_err(|error| failed("updating", error))?;
        return report(context, kind, &updated, "updated");
    }
    body.insert("name".into(), name.into());
    match client.create(kind, body).await {
        Ok(created) => report(context, kind, &created, "created"),
        Err(error) if error.is_conflict() && !force => {
            Err(failed("creating", error).hint("--force updates the one that exists"))
        }
        Err(error) => Err(failed("creating", error)),
    }
}

/// `llm 'gpt' created (id: …)`, or the resource in the format that was asked for.
pub(super) fn report(context: &Context, kind: Kind, resource: &Spec, done: &str) -> Result<(), Failure> {
    if let Some(format) = context.chosen_format() {
        List::of(kind, std::slice::from_ref(resource), false).print(&context.out, format)?;
        return show_token(context, resource, format != Format::Json);
    }
    let text = |name: &str| resource.get(name).map(text_of).unwrap_or_default();
    let line = format!("{} '{}' {done} (id: {})", kind.singular, text("name"), text("id"));
    context.out.line(inline(&line))?;
    show_token(context, resource, false)
}

/// Shows the value of a token that was just made: nothing ever shows it again.
pub(super) fn show_token(context: &Context, resource: &Spec, beside: bool) -> Result<(), Failure> {
    let Some(token) = resource.get("token").map(text_of) else { return Ok(()) };
    match (beside, context.chosen_format()) {
        // What else is printed has a form of its own, which the token must not break.
        (true, _) => note(format!("token: {}", inline(&token))),
        (false, Some(_)) => {}
        (false, None) => context.out.line(format!("token: {}", inline(&token)))?,
    }
    note("Keep the token now: it is not shown again.");
    Ok(())
}

/// The help of a flag that sets a field: what the kind says of it.
fn about(kind: Kind, field: &str) -> StyledStr {
    let about = kind.def().field(field).map(|field| field.about).unwrap_or_default();
    let mut letters = about.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect::<String>())
        .unwrap_or_default()
        .into()
}

/// The values that a field accepts.
fn choices(kind: Kind, field: &str) -> PossibleValuesParser {
    match kind.def().field(field).map(|field| &field.ty) {
        Some(FieldType::Choice(options)) => PossibleValuesParser::new(options.iter().copied()),
        _ => PossibleValuesParser::new([""; 0]),
    }
}

/// Adds what was given.
fn put(body: &mut Spec, field: &str, value: Option<impl Into<serde_json::Value>>) {
    body.extend(value.map(|value| (field.to_owned(), value.into())));
}
