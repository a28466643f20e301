//! `mcpctl create project`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::PROJECTS};

use super::{about, create, put};
use crate::{
    context::Context,
    failure::{Failure, note},
};

/// Create a project: a team's settings
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create project docs --llm gpt --llm-model gpt-4o-mini\n  \
            mcpctl create project quiet --llm none\n  \
            mcpctl create project docs --server files --server search --force")]
pub(crate) struct CreateProject {
    /// Its name
    name: String,
    #[arg(long, short, value_name = "TEXT", help = about(PROJECTS, "description"))]
    description: Option<String>,
    #[arg(long, value_name = "PLUGIN", help = about(PROJECTS, "proxyModel"))]
    proxy_model: Option<String>,
    #[arg(long, value_name = "TEXT", help = about(PROJECTS, "prompt"))]
    prompt: Option<String>,
    #[arg(long, value_name = "NAME|none", help = about(PROJECTS, "llmProvider"))]
    llm: Option<String>,
    #[arg(long, value_name = "MODEL", help = about(PROJECTS, "llmModel"))]
    llm_model: Option<String>,
    /// The name of a server; may be repeated
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Deprecated: the plugin decides; see --proxy-model
    #[arg(long, overrides_with = "no_gated", hide_short_help = true)]
    gated: bool,
    /// Deprecated: the plugin decides; see --proxy-model
    #[arg(long, overrides_with = "gated", hide_short_help = true)]
    no_gated: bool,
    /// Update it when it exists: servers become those given here
    #[arg(long)]
    force: bool,
}

impl CreateProject {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.gated || self.no_gated {
            let flag = if self.gated { "--gated" } else { "--no-gated" };
            note(format!("note: {flag} is deprecated: --proxy-model chooses the plugin, which decides"));
        }
        let force = self.force;
        let (name, body) = self.body();
        create(context, PROJECTS, &name, body, force).await
    }

    fn body(self) -> (String, Spec) {
        let mut body = Spec::new();
        put(&mut body, "description", self.description);
        put(&mut body, "proxyModel", self.proxy_model);
        put(&mut body, "llmProvider", self.llm);
        put(&mut body, "llmModel", self.llm_model);
        put(&mut body, "gated", (self.gated || self.no_gated).then_some(self.gated));
        put(&mut body, "servers", (!self.server.is_empty()).then_some(self.server));
        put(&mut body, "prompt", self.prompt);
        (self.name, body)
    }
}
