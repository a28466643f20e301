//! Projects: a team's settings, among them the Llm its consumers use.

use serde::Deserialize;

use super::{Behaviour, Column, Field, FieldType, KindDef, Mention, NameRule};

pub(super) static DEF: KindDef = KindDef {
    plural: "projects",
    singular: "project",
    aliases: &["proj"],
    about: "a team's settings: its servers, its prompt, and the Llm that its consumers use",
    apply_order: 70,
    name_rule: NameRule::Label,
    fields: &[
        Field::description(),
        Field::new(
            "proxyModel",
            "Plugin",
            FieldType::Text { min: 0, max: 200 },
            "the plugin that serves the project; empty for the default one",
        )
        .in_section(PLUGIN_CONFIG)
        .empty_is("default"),
        Field::new(
            "llmProvider",
            "LLM",
            FieldType::Text { min: 0, max: 200 },
            "the Llm that its consumers use, or `none` to switch LLM features off; else the first of the fast tier",
        )
        .in_section(PLUGIN_CONFIG)
        .mentions(Mention {
            kind: "llms",
            off: ProjectSpec::NO_LLM,
            missing: "warning: no Llm registered with this name — will fall back to registry default",
        }),
        Field::new(
            "llmModel",
            "LLM Model",
            FieldType::Text { min: 0, max: 200 },
            "the model to ask that Llm for, in place of its own",
        )
        .in_section(PLUGIN_CONFIG)
        .remarked("(override)"),
        Field::new(
            "gated",
            "Gated",
            FieldType::Flag,
            "whether its servers' tools are shown only after a first prompt has been given",
        ),
        Field::new("servers", "Servers", FieldType::TextList, "the names of its servers"),
        Field::new("prompt", "Prompt", FieldType::Text { min: 0, max: 10_000 }, "what to say first"),
    ],
    columns: &[
        Column::field("NAME", "name"),
        Column::field("LLM", "llmProvider"),
        Column::field("PLUGIN", "proxyModel"),
        Column::field("SERVERS", "servers"),
        Column::field("DESCRIPTION", "description"),
        Column::field("ID", "id"),
        Column::age("AGE", "createdAt").wide(),
    ],
    check: |_, _, _| {},
    behaviour: Behaviour::Plain,
};

const PLUGIN_CONFIG: &str = "Plugin Config";

/// A Project's fields, as far as the server acts on them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    /// The name of an Llm, or [`NO_LLM`](Self::NO_LLM). It need not exist.
    #[serde(default)]
    pub llm_provider: String,
    /// The model to ask it for; empty for the Llm's own.
    #[serde(default)]
    pub llm_model: String,
}

impl ProjectSpec {
    /// In place of an Llm's name: LLM features are off.
    pub const NO_LLM: &'static str = "none";
}
