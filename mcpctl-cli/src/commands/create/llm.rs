//! `mcpctl create llm`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::LLMS};
use serde_json::Value;

use super::{about, choices, create, put};
use crate::{context::Context, failure::Failure, flags};

/// Create an Llm: a model endpoint under a name
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create llm gpt --type openai --model gpt-4o \\\n    \
            --api-key-ref openai/api-key\n  \
            mcpctl create llm local --type vllm --model qwen3 \\\n    \
            --url http://10.0.0.5:8000 --extra maxTokens=4096")]
pub(crate) struct CreateLlm {
    /// Its name
    name: String,
    #[arg(long = "type", value_name = "TYPE", help = about(LLMS, "type"), value_parser = choices(LLMS, "type"),
          required_unless_present = "force")]
    ty: Option<String>,
    #[arg(long, help = about(LLMS, "model"), required_unless_present = "force")]
    model: Option<String>,
    #[arg(long, help = about(LLMS, "url"))]
    url: Option<String>,
    #[arg(long, help = about(LLMS, "tier"), value_parser = choices(LLMS, "tier"))]
    tier: Option<String>,
    #[arg(long, short, value_name = "TEXT", help = about(LLMS, "description"))]
    description: Option<String>,
    #[arg(long, value_name = "SECRET/KEY", help = about(LLMS, "apiKeyRef"))]
    api_key_ref: Option<String>,
    /// A setting, as text or JSON; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<String>,
    /// Update it when it exists
    #[arg(long)]
    force: bool,
}

impl CreateLlm {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = self.body()?;
        create(context, LLMS, &self.name, body, self.force).await
    }

    fn body(&self) -> Result<Spec, Failure> {
        let mut body = Spec::new();
        put(&mut body, "type", self.ty.clone());
        put(&mut body, "model", self.model.clone());
        put(&mut body, "url", self.url.clone());
        put(&mut body, "tier", self.tier.clone());
        put(&mut body, "description", self.description.clone());
        let reference =
            self.api_key_ref.as_deref().map(|text| flags::key_ref("--api-key-ref", text)).transpose()?;
        put(&mut body, "apiKeyRef", reference);
        if !self.extra.is_empty() {
            body.insert("extraConfig".into(), Value::Object(flags::loose_map("--extra", &self.extra)?));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, error::ErrorKind};
    use serde_json::json;

    use super::*;

    fn parse(line: &str) -> Result<CreateLlm, clap::Error> {
        let command = CreateLlm::augment_args(clap::Command::new("llm"));
        let words = std::iter::once("llm").chain(line.split_whitespace());
        command.try_get_matches_from(words).and_then(|found| CreateLlm::from_arg_matches(&found))
    }

    #[test]
    fn only_what_was_given_is_sent() {
        let command = parse(
            "gpt --type openai --model m --api-key-ref s/k --extra maxTokens=5 --extra anthropicVersion=2023-06-01",
        );
        assert_eq!(
            Value::Object(command.unwrap().body().unwrap()),
            json!({"type": "openai", "model": "m", "apiKeyRef": {"name": "s", "key": "k"},
                   "extraConfig": {"maxTokens": 5, "anthropicVersion": "2023-06-01"}})
        );
        assert!(parse("gpt --force --tier heavy").is_ok());
    }

    #[test]
    fn wrong_usage() {
        assert_eq!(parse("gpt --type openai").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("gpt --type nope --model m").unwrap_err().kind(), ErrorKind::InvalidValue);
        let bad = parse("gpt --type openai --model m --api-key-ref x").unwrap().body().unwrap_err();
        assert_eq!(bad.message(), "invalid --api-key-ref 'x': expected SECRET_NAME/KEY_NAME");
        let bad = parse("gpt --type openai --model m --extra x").unwrap().body().unwrap_err();
        assert_eq!(bad.message(), "invalid --extra 'x': expected key=value");
    }
}
