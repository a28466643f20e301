//! `mcpctl get`

use clap::Args;
use mcpctl_core::{
    ErrorKind,
    resource::{Column, ColumnValue, Kind, Spec, text_of},
};
use serde_json::Value;

use super::{
    auditlogs::{self, AuditQuery},
    watch::Watcher,
};
use crate::{
    context::Context,
    failure::{Failure, note},
    kinds::{parse_targets, suggest},
    output::{Format, List, Out, Path},
};

/// List resources, or show some
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcpctl get llms\n  mcpctl get llm gpt -o yaml > gpt.yaml\n  mcpctl get all\n  \
                        mcpctl get llms --sort-by model --no-headers\n  mcpctl get llms -o jsonpath='{.items[*].name}'\n  \
                        mcpctl get llms --watch\n  \
                        mcpctl get auditlogs --llm gpt --since 1h\n  mcpctl get auditlogs --kind login --follow"
)]
pub(crate) struct Get {
    /// What to show: KIND, KIND NAME…, KIND/NAME…, `all`, `auditlogs` or `auditlog ID…`
    #[arg(required = true, value_name = "KIND [NAME]")]
    target: Vec<String>,
    /// Go on printing what is new or changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    audit: AuditQuery,
}

/// How lists look.
#[derive(Clone, Debug, Args)]
pub(super) struct Shape {
    /// Leave out the tables' headers
    #[arg(long)]
    no_headers: bool,
    /// Sort by a column or a field: AGE, model, {.apiKeyRef.name}
    #[arg(long, value_name = "FIELD")]
    sort_by: Option<String>,
}

impl Shape {
    /// Sorts the things of a list; returns what prints it.
    pub(super) fn apply(&self, out: &Out, columns: &[Column], items: &mut [Spec]) -> Result<Out, Failure> {
        if let Some(by) = &self.sort_by {
            sort(by, columns, items)?;
        }
        Ok(out.with_headers(!self.no_headers))
    }
}

/// Sorts by what a column or a path shows: numbers as such, the rest as text, and what is not there first.
fn sort(by: &str, columns: &[Column], items: &mut [Spec]) -> Result<(), Failure> {
    let column = columns.iter().find(|column| column.header.eq_ignore_ascii_case(by));
    let path = match column.map(|column| &column.value) {
        Some(ColumnValue::Field(name) | ColumnValue::Age(name)) => Path::parse(name)?,
        Some(ColumnValue::With(make)) => {
            items.sort_by_cached_key(make);
            return Ok(());
        }
        None => Path::parse(by)?,
    };
    let key = |item: &Spec| path.find(&Value::Object(item.clone())).into_iter().next();
    if !items.is_empty() && items.iter().all(|item| key(item).is_none()) {
        let headers: Vec<&str> = columns.iter().map(|column| column.header).collect();
        return Err(Failure::usage(format!("nothing has a field `{by}` to sort by"))
            .hint(format!("columns are {}; `mcpctl explain` shows a kind's fields", headers.join(", "))));
    }
    let order = |one: &Option<Value>, other: &Option<Value>| match (one, other) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            one.as_f64().unwrap_or_default().total_cmp(&other.as_f64().unwrap_or_default())
        }
        _ => one.as_ref().map(text_of).cmp(&other.as_ref().map(text_of)),
    };
    items.sort_by(|one, other| order(&key(one), &key(other)));
    Ok(())
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let first = self.target.first().map(String::as_str).unwrap_or_default().to_lowercase();
        if let Some(ids) = auditlogs::targets(&self.target)? {
            if self.shape.sort_by.is_some() {
                return Err(Failure::usage(
                    "--sort-by is for resources: audit events are in the order of their time",
                ));
            }
            let context = context.with_headers(!self.shape.no_headers);
            return self.audit.following(self.watch).run(&context, &ids).await;
        }
        if self.audit.is_used() {
            return Err(Failure::usage(
                "--kind, --llm, --user, --since, --until, --limit and --follow go with `get auditlogs`",
            ));
        }
        if first == "all" && self.target.len() == 1 {
            if self.watch {
                return Err(Failure::usage("--watch goes with one kind"));
            }
            return self.all(context).await;
        }
        let targets = parse_targets(&self.target)?;
        let client = context.client()?;
        if let [(kind, None)] = targets.as_slice() {
            let mut items = client.list(*kind, &[]).await?;
            if items.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
                note(format!("No {kind} found."));
            }
            let out = self.shape.apply(&context.out, kind.def().columns, &mut items)?;
            if self.watch {
                return Watcher::new(context, out, *kind, Vec::new())?.run(items).await;
            }
            return List::of(*kind, &items, true).print(&out, context.format());
        }
        let many = targets.len() > 1;
        let names = targets.iter().filter_map(|(_, name)| name.clone()).collect();
        let mut found: Vec<(Kind, Vec<Spec>)> = Vec::new();
        for (kind, name) in targets {
            let name = name.unwrap_or_default();
            let item = client.get(kind, &name, false).await;
            let item = match item {
                Ok(item) => item,
                Err(error) => return Err(suggest(&client, kind, &name, error).await),
            };
            match found.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, items)) => items.push(item),
                None => found.push((kind, vec![item])),
            }
        }
        if self.watch {
            let [(kind, _)] = found.as_slice() else {
                return Err(Failure::usage("--watch goes with one kind"));
            };
            let kind = *kind;
            let mut items = found.pop().map(|(_, items)| items).unwrap_or_default();
            let out = self.shape.apply(&context.out, kind.def().columns, &mut items)?;
            return Watcher::new(context, out, kind, names)?.run(items).await;
        }
        self.print_kinds(context, found, many)
    }

    /// Every kind that the caller may view.
    async fn all(&self, context: &Context) -> Result<(), Failure> {
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
        self.print_kinds(context, found, true)
    }

    /// Several kinds one after the other, so that each format stays one valid whole.
    fn print_kinds(
        &self,
        context: &Context,
        mut found: Vec<(Kind, Vec<Spec>)>,
        many: bool,
    ) -> Result<(), Failure> {
        let mut out = context.out.clone();
        for (kind, items) in &mut found {
            out = self.shape.apply(&context.out, kind.def().columns, items)?;
        }
        if let ([(kind, items)], false) = (found.as_slice(), many && context.format() == Format::Json) {
            return List::of(*kind, items, many).print(&out, context.format());
        }
        if context.format() == Format::Json {
            let tagged = |kind: &Kind, item: &Spec| {
                let tag = [("kind".to_owned(), Value::from(kind.singular))];
                Value::Object(tag.into_iter().chain(item.clone()).collect())
            };
            let items =
                found.iter().flat_map(|(kind, items)| items.iter().map(move |item| tagged(kind, item)));
            return context.out.json(&items.collect());
        }
        for (index, (kind, items)) in found.iter().enumerate() {
            match context.format() {
                Format::Table | Format::Wide => {
                    let gap = if index > 0 { "\n" } else { "" };
                    if found.len() > 1 {
                        context.out.line(format!("{gap}{}:", kind.plural.to_uppercase()))?;
                    }
                }
                Format::Yaml if index > 0 => context.out.line("---")?,
                Format::Yaml | Format::Json | Format::Name => {}
            }
            List::of(*kind, items, true).print(&out, context.format())?;
        }
        Ok(())
    }
}
