//! `mcpctl create group`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::GROUPS};

use super::{about, create, put};
use crate::{context::Context, failure::Failure};

/// Create a group of users
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create group devs --member ann@example.com --member bob@example.com\n  \
            mcpctl create rbac devs --subject Group:devs --binding run:llms")]
pub(crate) struct CreateGroup {
    /// Its name
    name: String,
    /// A user's e-mail address; may be repeated
    #[arg(long, value_name = "EMAIL")]
    member: Vec<String>,
    #[arg(long, short, value_name = "TEXT", help = about(GROUPS, "description"))]
    description: Option<String>,
    /// Update it when it exists: members become those given here
    #[arg(long)]
    force: bool,
}

impl CreateGroup {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut body = Spec::new();
        put(&mut body, "description", self.description);
        put(&mut body, "members", (!self.member.is_empty()).then_some(self.member));
        create(context, GROUPS, &self.name, body, self.force).await
    }
}
