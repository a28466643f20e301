//! `mcpctl logout`

use clap::Args;
use mcpctl_core::{ErrorKind, client::Client};

use crate::{
    context::Context,
    credentials,
    failure::{Failure, warn},
};

/// End the session and forget its token
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl logout")]
pub(crate) struct Logout {}

impl Logout {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let url = context.url()?;
        let Some(credential) = credentials::load(&context.home, &url)? else {
            return context.out.line(format!("Not logged in to {url}"));
        };
        let ended = Client::new(&url, Some(credential.token))?.logout().await;
        // The token goes in any case: a user who logs out does not want it on this machine.
        credentials::forget(&context.home, &url)?;
        match ended {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {}
            Err(error) => warn(format!("the session was not ended at the server: {error}")),
        }
        context.out.line(format!("Logged out of {url}"))
    }
}
