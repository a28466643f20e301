//! `mcpctl get`

use clap::Args;
use mcpctl_core::{
    ErrorKind,
    resource::{Kind, Spec},
};
use serde_json::Value;

use super::auditlogs::{self, AuditQuery};
use crate::{
    context::Context,
    failure::{Failure, note},
    kinds::parse_targets,
    output::{Format, List},
};

/// List resources, or show some
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl get llms\n  mcpctl get llm gpt -o yaml > gpt.yaml\n  mcpctl get all\n  \
                        mcpctl get auditlogs --llm gpt --since 1h\n  mcpctl get auditlogs --kind login --follow"
)]
pub(crate) struct Get {
    /// What to show: KIND, KIND NAME…, KIND/NAME…, `all`, `auditlogs` or `auditlog ID…`
    #[arg(required = true, value_name = "KIND [NAME]")]
    target: Vec<String>,
    #[command(flatten)]
    audit: AuditQuery,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let first = self.target.first().map(String::as_str).unwrap_or_default().to_lowercase();
        if let Some(ids) = auditlogs::targets(&self.target)? {
            return self.audit.run(context, &ids).await;
        }
        if self.audit.is_used() {
            return Err(Failure::usage(
                "--kind, --llm, --user, --since, --until, --limit and --follow go with `get auditlogs`",
            ));
        }
        if first == "all" && self.target.len() == 1 {
            return all(context).await;
        }
        let targets = parse_targets(&self.target)?;
        let client = context.client()?;
        if let [(kind, None)] = targets.as_slice() {
            let items = client.list(*kind, &[]).await?;
            if items.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
                note(format!("No {kind} found."));
            }
            return List::of(*kind, &items, true).print(&context.out, context.format());
        }
        let many = targets.len() > 1;
        let mut found: Vec<(Kind, Vec<Spec>)> = Vec::new();
        for (kind, name) in targets {
            let item = client.get(kind, name.as_deref().unwrap_or_default(), false).await?;
            match found.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, items)) => items.push(item),
                None => found.push((kind, vec![item])),
            }
        }
        print_kinds(context, &found, many)
    }
}

/// Every kind that the caller may view.
async fn all(context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let mut found = Vec::new();
    for kind in Kind::in_apply_order() {
        match client.list(kind, &[]).await {
            Ok(items) if items.is_empty() => {}
            Ok(items) => found.push((kind, items)),
            Err(error) if error.kind() == ErrorKind::Forbidden => {}
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
        note("No resources found.");
    }
    print_kinds(context, &found, true)
}

/// Several kinds one after the other, so that each format stays one valid whole.
fn print_kinds(context: &Context, found: &[(Kind, Vec<Spec>)], many: bool) -> Result<(), Failure> {
    if let ([(kind, items)], false) = (found, many && context.format() == Format::Json) {
        return List::of(*kind, items, many).print(&context.out, context.format());
    }
    if context.format() == Format::Json {
        let tagged = |kind: &Kind, item: &Spec| {
            let tag = [("kind".to_owned(), Value::from(kind.singular))];
            Value::Object(tag.into_iter().chain(item.clone()).collect())
        };
        let items = found.iter().flat_map(|(kind, items)| items.iter().map(move |item| tagged(kind, item)));
        return context.out.json(&items.collect());
    }
    for (index, (kind, items)) in found.iter().enumerate() {
        match context.format() {
            Format::Table | Format::Wide => {
                let gap = if index > 0 { "\n" } else { "" };
                context.out.line(format!("{gap}{}:", kind.plural.to_uppercase()))?;
            }
            Format::Yaml if index > 0 => context.out.line("---")?,
            Format::Yaml | Format::Json | Format::Name => {}
        }
        List::of(*kind, items, true).print(&context.out, context.format())?;
    }
    Ok(())
}
