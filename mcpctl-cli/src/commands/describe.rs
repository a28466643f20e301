//! `mcpctl describe`

use clap::Args;
use mcpctl_core::{
    client::Client,
    resource::{FieldType, Kind, Spec},
};
use serde_json::Value;

use super::auditlogs;
use crate::{
    context::Context,
    failure::Failure,
    kinds::{parse_target, suggest, title},
    output::{Format, Notes, describe},
};

/// Show one resource in full
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl describe llm gpt\n  mcpctl describe secret openai --show-values")]
pub(crate) struct Describe {
    /// What to show: KIND NAME, or KIND/NAME
    #[arg(required = true, num_args = 1..=2, value_name = "KIND NAME")]
    target: Vec<String>,
    /// Show a secret's values too, which needs the right to edit it and is audited
    #[arg(long)]
    show_values: bool,
}

impl Describe {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(ids) = auditlogs::targets(&self.target)? {
            return auditlogs::describe(context, &ids).await;
        }
        let (kind, name) = parse_target(&self.target)?;
        if !matches!(context.chosen_format(), None | Some(Format::Table)) {
            let hint = format!("`mcpctl get {} {name} -o …` prints other formats", kind.singular);
            return Err(Failure::usage("describe has one format").hint(hint));
        }
        if self.show_values && !kind.def().fields.iter().any(|field| matches!(field.ty, FieldType::TextMap)) {
            return Err(Failure::usage(format!("--show-values is for secrets, not {kind}")));
        }
        let client = context.client()?;
        let resource = match client.get(kind, &name, self.show_values).await {
            Ok(resource) => resource,
            Err(error) => return Err(suggest(&client, kind, &name, error).await),
        };
        let notes = notes(&client, kind, &resource).await;
        context.out.print(&describe(kind, &resource, &notes))
    }
}

/// Warnings about references that lead nowhere.
async fn notes(client: &Client, kind: Kind, resource: &Spec) -> Notes {
    let mut notes = Notes::new();
    for field in kind.def().fields {
        if let Some(mention) = field.mention
            && let Some(Value::String(name)) = resource.get(field.name)
            && let Some(target) = Kind::parse(mention.kind)
            && !name.is_empty()
            && name != mention.off
        {
            // What cannot be a name is nobody's; who may not view the kind learns nothing of it.
            let is_missing = match target.name_rule.fault(name) {
                Some(_) => true,
                None => matches!(client.get(target, name, false).await, Err(error) if error.is_not_found()),
            };
            notes.extend(is_missing.then(|| (field.name, mention.missing.to_owned())));
        }
        let FieldType::Reference { kind: target, keyed: true, .. } = &field.ty else { continue };
        let Some(Value::Object(parts)) = resource.get(field.name) else { continue };
        let part = |name: &str| parts.get(name).and_then(Value::as_str);
        let (Some(target), Some(name), Some(key)) = (Kind::parse(target), part("name"), part("key")) else {
            continue;
        };
        // Who may not view the other resource learns nothing of it.
        let warning = match client.get(target, name, false).await {
            Ok(found) => match found.get("keys").and_then(Value::as_array) {
                Some(keys) if !keys.iter().any(|known| known == key) => {
                    format!("warning: {} `{name}` has no key `{key}`", title(target))
                }
                _ => continue,
            },
            Err(error) if error.is_not_found() => format!("warning: there is no {} `{name}`", title(target)),
            Err(_) => continue,
        };
        notes.insert(field.name, warning);
    }
    notes
}
