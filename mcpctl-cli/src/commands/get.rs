//! `mcpctl get`

use clap::Args;
use mcpctl_core::{
    ErrorKind,
    resource::{Column, Kind, Spec, text_of},
};
use serde_json::Value;

use crate::{
    context::Context,
    failure::{Failure, note},
    flags,
    kinds::parse_targets,
    output::{Format, List},
};

/// List resources, or show some
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl get llms\n  mcpctl get llm gpt -o yaml > gpt.yaml\n  mcpctl get all\n  \
                        mcpctl get auditlogs --llm gpt --since 1h"
)]
pub(crate) struct Get {
    /// What to show: KIND, KIND NAME…, KIND/NAME…, `all` or `auditlogs`
    #[arg(required = true, value_name = "KIND [NAME]")]
    target: Vec<String>,
    #[command(flatten)]
    audit: AuditQuery,
}

/// Which audit events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of `get auditlogs`")]
struct AuditQuery {
    /// Only events of this kind, such as llm_inference_call or resource_change
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only calls of this Llm
    #[arg(long, value_name = "NAME")]
    llm: Option<String>,
    /// Only what this user did
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Only events after this time: 1h, 7d, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most this many events, newest first [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let first = self.target.first().map(String::as_str).unwrap_or_default().to_lowercase();
        if ["auditlogs", "auditlog"].contains(&first.as_str()) {
            if self.target.len() > 1 {
                return Err(Failure::usage(
                    "audit events have no names; use --kind, --llm, --user or --since",
                ));
            }
            return self.audit.run(context).await;
        }
        if self.audit.is_used() {
            return Err(Failure::usage(
                "--kind, --llm, --user, --since, --until and --limit go with `get auditlogs`",
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

const AUDIT_COLUMNS: &[Column] = &[
    Column::with("TIME", |event| event.get("at").map(text_of).unwrap_or_default().chars().take(19).collect()),
    Column::field("KIND", "kind").wide(),
    Column::with("USER", |event| first_of(event, &["user", "email", "userId"])),
    Column::with("ACTION", action),
    Column::with("RESULT", |event| match event.get("kind").and_then(Value::as_str) {
        Some("denied") => "denied".to_owned(),
        _ => first_of(event, &["status", "result"]),
    }),
    Column::with("TOOK", |event| {
        event.get("durationMs").map(|ms| format!("{} ms", text_of(ms))).unwrap_or_default()
    }),
    Column::with("TOKENS", tokens).wide(),
    Column::field("ERROR", "error").wide(),
    Column::field("REQUEST", "requestId").wide(),
];

fn first_of(event: &Spec, names: &[&str]) -> String {
    let texts = names.iter().filter_map(|name| event.get(*name)).map(text_of);
    texts.filter(|text| !text.is_empty()).chain(["-".to_owned()]).next().unwrap_or_default()
}

/// What happened to what: `run llm/gpt`, `edit llms/gpt`, `view:secrets`.
fn action(event: &Spec) -> String {
    let text = |name: &str| event.get(name).map(text_of).unwrap_or_default();
    match text("kind").as_str() {
        "llm_inference_call" => format!("run llms/{}", text("llmName")),
        "resource_change" => format!("{} {}/{}", text("action"), text("resource"), text("name")),
        "denied" => text("permission"),
        "secret_reveal" => format!("reveal secrets/{}", text("name")),
        other => other.to_owned(),
    }
}

/// `PROMPT+COMPLETION`.
fn tokens(event: &Spec) -> String {
    let count = |name: &str| event.get(name).map(text_of);
    match (count("promptTokens"), count("completionTokens")) {
        (None, None) => String::new(),
        (prompt, completion) => format!("{}+{}", prompt.unwrap_or_default(), completion.unwrap_or_default()),
    }
}

impl AuditQuery {
    fn is_used(&self) -> bool {
        let texts = [&self.kind, &self.llm, &self.user, &self.since, &self.until];
        self.limit.is_some() || texts.iter().any(|text| text.is_some())
    }

    async fn run(self, context: &Context) -> Result<(), Failure> {
        const DEFAULT_LIMIT: usize = 100;
        const PAGE: usize = 500;
        let now = jiff::Timestamp::now();
        let since = self.since.map(|text| flags::instant("--since", &text, now)).transpose()?;
        let until = self.until.map(|text| flags::instant("--until", &text, now)).transpose()?;
        let named =
            [("kind", self.kind), ("llm", self.llm), ("user", self.user), ("since", since), ("until", until)];
        let client = context.client()?;
        let wanted = self.limit.unwrap_or(DEFAULT_LIMIT);
        let mut events: Vec<Spec> = Vec::new();
        let mut next: Option<String> = None;
        while events.len() < wanted {
            let limit = (wanted - events.len()).min(PAGE).to_string();
            let mut query: Vec<(&str, &str)> =
                named.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
            query.push(("limit", &limit));
            query.extend(next.as_deref().map(|next| ("continue", next)));
            let (page, more) = client.audit_logs(&query).await?;
            let empty = page.is_empty();
            events.extend(page);
            next = more;
            if next.is_none() || empty {
                break;
            }
        }
        if events.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
            note("No audit events found.");
        } else if next.is_some() && self.limit.is_none() {
            note(format!("The newest {} events; --limit shows more.", events.len()));
        }
        List { kind: None, columns: AUDIT_COLUMNS, items: &events, many: true }
            .print(&context.out, context.format())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_events_are_told_in_words() {
        let event = |value: Value| action(value.as_object().unwrap());
        assert_eq!(
            event(serde_json::json!({"kind": "llm_inference_call", "llmName": "gpt"})),
            "run llms/gpt"
        );
        assert_eq!(
            event(
                serde_json::json!({"kind": "resource_change", "action": "edit", "resource": "llms", "name": "a"})
            ),
            "edit llms/a"
        );
        assert_eq!(event(serde_json::json!({"kind": "login"})), "login");
    }
}
