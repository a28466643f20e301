//! `mcpctl patch`

use clap::Args;
use mcpctl_core::resource::Spec;

use crate::{
    context::Context,
    failure::Failure,
    flags,
    kinds::{parse_kind, parse_target, suggest},
};

/// Change some fields of a resource
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl patch llm gpt tier=heavy extraConfig.maxTokens=4096\n  \
                        mcpctl patch llm gpt apiKeyRef=openai/api-key\n  \
                        mcpctl patch llm gpt --json '{\"extraConfig\": {\"maxTokens\": null}}'")]
pub(crate) struct Patch {
    /// The kind, or KIND/NAME
    kind: String,
    /// The name, then `field=value` or `field.key=value` for each change; an apiKeyRef is SECRET/KEY
    #[arg(value_name = "NAME FIELD=VALUE")]
    words: Vec<String>,
    /// A JSON merge patch (RFC 7396): null removes
    #[arg(long, value_name = "JSON")]
    json: Option<String>,
}

impl Patch {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut words = self.words.into_iter();
        let target = match self.kind.contains('/') {
            true => vec![self.kind],
            false => {
                let kind = parse_kind(&self.kind)?;
                let name = words
                    .next()
                    .ok_or_else(|| Failure::usage(format!("which {}? expected a name", kind.singular)))?;
                vec![self.kind, name]
            }
        };
        let (kind, name) = parse_target(&target)?;
        let mut patch = match &self.json {
            Some(text) => serde_json::from_str::<Spec>(text).map_err(|error| {
                Failure::usage(format!("invalid --json: expected a JSON object: {error}"))
            })?,
            None => Spec::new(),
        };
        for word in words {
            flags::assign(kind, &mut patch, &word)?;
        }
        if patch.is_empty() {
            return Err(Failure::usage("nothing to change: expected field=value or --json"));
        }
        let what = format!("patching {} '{name}'", kind.singular);
        let client = context.client()?;
        let changed = match client.patch(kind, &name, patch, None).await {
            Ok(changed) => changed,
            Err(error) => return Err(suggest(&client, kind, &name, error).await.context(what)),
        };
        super::create::report(context, kind, &changed, "updated")
    }
}
