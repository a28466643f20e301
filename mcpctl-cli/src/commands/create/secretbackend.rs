//! `mcpctl create secretbackend`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::SECRET_BACKENDS};
use serde_json::Value;

use super::{about, choices, create, put};
use crate::{context::Context, failure::Failure, flags};

/// Create a SecretBackend: a place where secret values live
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create secretbackend bao --type openbao \\\n    \
            --url https://bao.example:8200 --token-secret bao/token\n  \
            mcpctl create secretbackend here --type plaintext --default")]
pub(crate) struct CreateSecretBackend {
    /// Its name
    name: String,
    #[arg(long = "type", value_name = "TYPE", help = about(SECRET_BACKENDS, "type"),
          value_parser = choices(SECRET_BACKENDS, "type"), required_unless_present = "force")]
    ty: Option<String>,
    #[arg(long, short, value_name = "TEXT", help = about(SECRET_BACKENDS, "description"))]
    description: Option<String>,
    /// Keep Secrets that name no backend here from now on
    #[arg(long)]
    default: bool,
    /// The OpenBao server's URL
    #[arg(long)]
    url: Option<String>,
    /// The OpenBao namespace
    #[arg(long)]
    namespace: Option<String>,
    /// The mount of its KV v2 engine [default: secret]
    #[arg(long)]
    mount: Option<String>,
    /// The path below the mount [default: mcpctl]
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,
    /// The Secret, of another backend, that holds the OpenBao token
    #[arg(long, value_name = "SECRET/KEY")]
    token_secret: Option<String>,
    /// Any other setting, as text or JSON; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Update it when it exists
    #[arg(long)]
    force: bool,
}

impl CreateSecretBackend {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = self.body()?;
        create(context, SECRET_BACKENDS, &self.name, body, self.force).await
    }

    fn body(&self) -> Result<Spec, Failure> {
        let mut config = flags::loose_map("--config", &self.config)?;
        put(&mut config, "url", self.url.clone());
        put(&mut config, "namespace", self.namespace.clone());
        put(&mut config, "mount", self.mount.clone());
        put(&mut config, "pathPrefix", self.path_prefix.clone());
        let token =
            self.token_secret.as_deref().map(|text| flags::key_ref("--token-secret", text)).transpose()?;
        put(&mut config, "tokenRef", token);
        let mut body = Spec::new();
        put(&mut body, "type", self.ty.clone());
        put(&mut body, "description", self.description.clone());
        put(&mut body, "isDefault", self.default.then_some(true));
        put(&mut body, "config", (!config.is_empty()).then_some(Value::Object(config)));
        Ok(body)
    }
}
