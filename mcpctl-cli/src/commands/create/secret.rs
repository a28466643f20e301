//! `mcpctl create secret`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::SECRETS};
use serde_json::Value;

use super::{about, create, put};
use crate::{
    context::Context,
    failure::{Failure, warn},
    flags, prompt,
};

/// Create a Secret: values under keys, which only the server can read back
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcpctl create secret openai --from-stdin api-key < key.txt\n  \
                        mcpctl create secret tls --from-file cert=./cert.pem --from-file key=./key.pem\n  \
                        mcpctl create secret demo --data user=ann --data pin=1234")]
pub(crate) struct CreateSecret {
    /// Its name
    name: String,
    /// A value, which other users of this machine can see while the command runs; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    data: Vec<String>,
    /// A value that is a file's content, byte by byte; may be repeated
    #[arg(long, value_name = "KEY=PATH")]
    from_file: Vec<String>,
    /// A value that is read from standard input, or asked for; the newline at its end is no part of it
    #[arg(long, value_name = "KEY")]
    from_stdin: Option<String>,
    #[arg(long, value_name = "BACKEND", help = about(SECRETS, "backend"))]
    backend: Option<String>,
    #[arg(long, short, value_name = "TEXT", help = about(SECRETS, "description"))]
    description: Option<String>,
    /// Update it when it exists: its values become those given here
    #[arg(long)]
    force: bool,
}

impl CreateSecret {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = self.body()?;
        create(context, SECRETS, &self.name, body, self.force).await
    }

    fn body(&self) -> Result<Spec, Failure> {
        let mut body = Spec::new();
        put(&mut body, "backend", self.backend.clone());
        put(&mut body, "description", self.description.clone());
        let mut data = Spec::new();
        let mut add = |key: &str, value: String| match data.insert(key.to_owned(), value.into()) {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!("the key `{key}` is given twice"))),
        };
        for text in &self.data {
            let (key, value) = flags::secret_pair("--data", text)?;
            add(key, value.to_owned())?;
        }
        for text in &self.from_file {
            let (key, path) = flags::pair("--from-file", text)?;
            let value = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("reading {path}: {error}")))?;
            if value.ends_with('\n') && value.lines().count() == 1 {
                warn(format!(
                    "{path} ends in a newline, which is part of the value; --from-stdin leaves it off"
                ));
            }
            add(key, value)?;
        }
        if let Some(key) = &self.from_stdin {
            let value = match prompt::can_ask() {
                true => prompt::hidden(&format!("Value of {key}: "))?,
                false => prompt::piped()?,
            };
            add(key, value)?;
        }
        if !data.is_empty() {
            body.insert("data".into(), Value::Object(data));
        }
        Ok(body)
    }
}
