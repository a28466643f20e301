//! `mcpctl auth`

use clap::{Args, Subcommand};
use mcpctl_core::{
    client::Able,
    resource::{Column, Spec},
};

use super::{login::keep, whoami::name_of};
use crate::{
    context::Context,
    failure::{Failure, note},
    kinds::parse_kind,
    output::{Format, List, text::inline},
    prompt,
};

/// Ask who may do what, and change your password
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  mcpctl auth can-i run llms gpt\n  mcpctl auth who-can edit secrets\n  \
                        mcpctl auth change-password")]
pub(crate) enum Auth {
    CanI(CanI),
    WhoCan(WhoCan),
    ChangePassword(ChangePassword),
}

/// Ask whether you may do something; exit status 1 when you may not
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl auth can-i create llms\n  mcpctl auth can-i run llms gpt\n  \
                  mcpctl auth can-i audit\n  mcpctl auth can-i run llms gpt --as ann@example.com")]
pub(crate) struct CanI {
    #[command(flatten)]
    question: Question,
}

/// Ask who may do something: users, groups and tokens, each with the definition that gives it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl auth who-can run llms gpt\n  mcpctl auth who-can create secrets\n  \
                        mcpctl auth who-can audit -o json"
)]
pub(crate) struct WhoCan {
    #[command(flatten)]
    question: Question,
}

#[derive(Debug, Args)]
struct Question {
    /// view, create, edit, delete, run or expose; or an operation, such as audit
    action: String,
    /// A kind
    resource: Option<String>,
    /// One resource
    name: Option<String>,
}

/// Change your own password; your other sessions end
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl auth change-password\n  \
                        printf '%s\\n%s\\n' \"$OLD\" \"$NEW\" | mcpctl auth change-password --password-stdin")]
pub(crate) struct ChangePassword {
    /// Read the current and the new password from standard input, a line each
    #[arg(long)]
    password_stdin: bool,
}

const SUBJECTS: &[Column] = &[
    Column::field("KIND", "kind"),
    Column::field("NAME", "name"),
    Column::field("BINDING", "binding"),
    Column::field("GROUP", "group"),
];

fn spec(able: Able) -> Spec {
    let Able { kind, name, binding, group } = able;
    let fields = [("kind", Some(kind)), ("name", Some(name)), ("binding", Some(binding)), ("group", group)];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

impl Auth {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::CanI(command) => command.run(context).await,
            Self::WhoCan(command) => command.run(context).await,
            Self::ChangePassword(command) => command.run(context).await,
        }
    }
}

impl Question {
    /// The plural of the kind in question, if there is one.
    fn resource(&self) -> Result<Option<&'static str>, Failure> {
        let kind = self.resource.as_deref().map(parse_kind).transpose()?;
        Ok(kind.map(|kind| kind.def().plural))
    }
}

impl CanI {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { question } = self;
        let resource = question.resource()?;
        let answer = context.client()?.can_i(&question.action, resource, question.name.as_deref()).await?;
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

impl WhoCan {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { question } = self;
        let resource = question.resource()?;
        let able = context.client()?.who_can(&question.action, resource, question.name.as_deref()).await?;
        if able.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
            note("Nobody may.");
            return Ok(());
        }
        if context.format() == Format::Name {
            let path = |one: &Able| format!("{}/{}", one.kind.to_lowercase(), inline(&one.name));
            return able.iter().try_for_each(|one| context.out.line(path(one)));
        }
        let items: Vec<Spec> = able.into_iter().map(spec).collect();
        List { kind: None, columns: SUBJECTS, items: &items, many: true }
            .print(&context.out, context.format())
    }
}

impl ChangePassword {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let (current, new) = if self.password_stdin {
            let lines = prompt::piped()?;
            let pair = lines.split_once('\n').map(|(current, new)| (current.to_owned(), new.to_owned()));
            pair.ok_or_else(|| Failure::usage("expected two lines: the current password and the new one"))?
        } else if prompt::can_ask() {
            (prompt::hidden("Current password: ")?, prompt::twice("New password: ")?)
        } else {
            return Err(Failure::usage("no terminal to ask on").hint("use --password-stdin"));
        };
        let session = context.own_client()?.change_password(&current, &new).await?;
        let user = name_of(&session.user).unwrap_or_default();
        keep(context, &context.url()?, &user, session)?;
        context.out.line(format!("Password of {} changed; its other sessions have ended", inline(&user)))
    }
}
