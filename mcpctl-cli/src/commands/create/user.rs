//! `mcpctl create user`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::USERS};

use super::{about, create, put};
use crate::{context::Context, failure::Failure, prompt};

/// Create a user
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl create user ann@example.com --name Ann\n  \
                        mcpctl create user ci@example.com --password-stdin < password.txt")]
pub(crate) struct CreateUser {
    /// The e-mail address to log in with
    email: String,
    /// The password, which other users of this machine can see while the command runs; asked for when missing
    #[arg(long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[arg(long, help = about(USERS, "displayName"))]
    name: Option<String>,
    #[arg(long, short, value_name = "TEXT", help = about(USERS, "description"))]
    description: Option<String>,
    /// Update the user when it exists
    #[arg(long)]
    force: bool,
}

impl CreateUser {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let password = if self.password_stdin {
            Some(prompt::piped()?)
        } else if self.password.is_none() && prompt::can_ask() && !self.force {
            Some(prompt::twice("Password (empty for none): ")?)
        } else {
            self.password
        };
        let mut body = Spec::new();
        put(&mut body, "displayName", self.name);
        put(&mut body, "description", self.description);
        put(&mut body, "password", password.filter(|password| !password.is_empty()));
        create(context, USERS, &self.email, body, self.force).await
    }
}
