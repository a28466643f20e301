//! `mcpctl create mcptoken`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::MCP_TOKENS};

use super::{
    about, choices, create, put,
    rbac::{binding, operation},
};
use crate::{context::Context, failure::Failure};

/// Create a token for a program; its value is shown this once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create mcptoken ci --bind run:llms:gpt --ttl 30d\n  \
            mcpctl create mcptoken laptop --rbac clone\n  \
            export MCPCTL_TOKEN=$(mcpctl create mcptoken x -o json | jq -r .token)")]
pub(crate) struct CreateMcpToken {
    /// Its name
    name: String,
    #[arg(long, value_name = "HOW", value_parser = choices(MCP_TOKENS, "rbac"), help = about(MCP_TOKENS, "rbac"))]
    rbac: Option<String>,
    /// A role on a kind (or *), perhaps on one resource; may be repeated
    #[arg(long, value_name = "ROLE:RESOURCE[:NAME]")]
    bind: Vec<String>,
    /// An operation that it may run; may be repeated
    #[arg(long, value_name = "OPERATION")]
    operation: Vec<String>,
    #[arg(long, value_name = "DURATION", help = about(MCP_TOKENS, "ttl"))]
    ttl: Option<String>,
    #[arg(long, value_name = "EMAIL", help = about(MCP_TOKENS, "owner"))]
    owner: Option<String>,
    #[arg(long, value_name = "PROJECT", help = about(MCP_TOKENS, "project"))]
    project: Option<String>,
    #[arg(long, short, value_name = "TEXT", help = about(MCP_TOKENS, "description"))]
    description: Option<String>,
    /// Update it when it exists: bindings become those given here; its value stays
    #[arg(long)]
    force: bool,
}

impl CreateMcpToken {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let bindings = self.bind.iter().map(|text| binding("--bind", text));
        let mut bindings = bindings.collect::<Result<Vec<_>, _>>()?;
        bindings.extend(self.operation.iter().map(|name| operation(name)));
        let mut body = Spec::new();
        put(&mut body, "description", self.description);
        put(&mut body, "owner", self.owner);
        put(&mut body, "project", self.project);
        put(&mut body, "rbac", self.rbac);
        put(&mut body, "roleBindings", (!bindings.is_empty()).then_some(bindings));
        put(&mut body, "ttl", self.ttl);
        create(context, MCP_TOKENS, &self.name, body, self.force).await
    }
}
