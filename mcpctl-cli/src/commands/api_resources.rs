//! `mcpctl api-resources`

use clap::Args;
use mcpctl_core::resource::{Behaviour, Column, Kind, Spec};
use serde_json::Value;

use super::get::Shape;
use crate::{
    context::Context,
    failure::Failure,
    kinds::title,
    output::{Format, List},
};

/// List the kinds of resources, their other names and what can be done to them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl api-resources\n  mcpctl api-resources -o json\n  \
                        mcpctl api-resources -o name")]
pub(crate) struct ApiResources {
    #[command(flatten)]
    shape: Shape,
}

const COLUMNS: &[Column] = &[
    Column::field("NAME", "name"),
    Column::with("SHORTNAMES", |item| joined(item, "shortNames")),
    Column::field("KIND", "kind"),
    Column::with("VERBS", |item| joined(item, "verbs")),
    Column::field("DESCRIPTION", "description"),
];

/// Without spaces, as terminals are narrow.
fn joined(item: &Spec, name: &str) -> String {
    let words = item.get(name).and_then(Value::as_array).into_iter().flatten();
    words.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

impl ApiResources {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut items: Vec<Spec> = Kind::all().map(row).collect();
        items.push(spec(
            "auditlogs",
            &["auditlog"],
            "AuditLog",
            &["view"],
            "what happened: calls, changes, logins",
        ));
        let out = self.shape.apply(&context.out, COLUMNS, &mut items)?;
        if context.format() == Format::Name {
            let names = items.iter().filter_map(|item| item.get("name")?.as_str());
            return names.into_iter().try_for_each(|name| out.line(name));
        }
        List { kind: None, columns: COLUMNS, items: &items, many: true }.print(&out, context.format())
    }
}

fn row(kind: Kind) -> Spec {
    let other: Vec<&str> = kind.names().filter(|name| *name != kind.plural).collect();
    let mut verbs = vec!["view", "create", "edit", "delete"];
    if kind.behaviour == Behaviour::Llm {
        verbs.push("run");
    }
    spec(kind.plural, &other, &title(kind), &verbs, kind.def().about)
}

fn spec(name: &str, other: &[&str], kind: &str, verbs: &[&str], about: &str) -> Spec {
    let list = |words: &[&str]| words.iter().copied().collect::<Value>();
    let fields: [(&str, Value); 5] = [
        ("name", name.into()),
        ("shortNames", list(other)),
        ("kind", kind.into()),
        ("verbs", list(verbs)),
        ("description", about.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
