//! `mcpctl create rbac`

use clap::Args;
use mcpctl_core::resource::{Spec, kinds::RBAC};
use serde_json::{Value, json};

use super::{about, create, put};
use crate::{context::Context, failure::Failure};

/// Create an RBAC definition: roles for subjects
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
            mcpctl create rbac readers --subject User:ann@example.com \\\n    \
            --binding view:llms --binding run:llms:gpt\n  \
            mcpctl create rbac auditors --subject User:bob@example.com --operation audit")]
pub(crate) struct CreateRbac {
    /// Its name
    name: String,
    /// Who gets the roles; may be repeated
    #[arg(long, value_name = "KIND:NAME", required_unless_present = "force")]
    subject: Vec<String>,
    /// A role on a kind (or *), perhaps on one resource; may be repeated
    #[arg(long, value_name = "ROLE:RESOURCE[:NAME]")]
    binding: Vec<String>,
    /// An operation that may be run: migrate-secrets, backup, restore, audit, impersonate; may be repeated
    #[arg(long, value_name = "OPERATION")]
    operation: Vec<String>,
    #[arg(long, short, value_name = "TEXT", help = about(RBAC, "description"))]
    description: Option<String>,
    /// Update it when it exists: subjects and bindings become those given here
    #[arg(long)]
    force: bool,
}

impl CreateRbac {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = self.body()?;
        create(context, RBAC, &self.name, body, self.force).await
    }

    fn body(&self) -> Result<Spec, Failure> {
        let subjects = self.subject.iter().map(|text| subject(text)).collect::<Result<Vec<_>, _>>()?;
        let mut bindings =
            self.binding.iter().map(|text| binding("--binding", text)).collect::<Result<Vec<_>, _>>()?;
        bindings.extend(self.operation.iter().map(|name| operation(name)));
        if bindings.is_empty() && !self.force {
            return Err(Failure::usage(
                "no roles: expected --binding ROLE:RESOURCE[:NAME] or --operation OPERATION",
            ));
        }
        let mut body = Spec::new();
        put(&mut body, "description", self.description.clone());
        put(&mut body, "subjects", (!subjects.is_empty()).then_some(subjects));
        put(&mut body, "roleBindings", (!bindings.is_empty()).then_some(bindings));
        Ok(body)
    }
}

fn subject(text: &str) -> Result<Value, Failure> {
    const KINDS: [&str; 3] = ["User", "Group", "McpToken"];
    let invalid =
        || Failure::usage(format!("invalid --subject '{text}': expected KIND:NAME, as User:ann@example.com"));
    let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(invalid)?;
    let kind = KINDS.into_iter().find(|known| known.eq_ignore_ascii_case(kind)).ok_or_else(invalid)?;
    Ok(json!({"kind": kind, "name": name}))
}

/// Reads `ROLE:RESOURCE[:NAME]`, as it was given for `flag`.
pub(super) fn binding(flag: &str, text: &str) -> Result<Value, Failure> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(role), Some(resource), None) if !role.is_empty() && !resource.is_empty() => {
            Ok(json!({"role": role, "resource": resource}))
        }
        (Some(role), Some(resource), Some(name)) if ![role, resource, name].contains(&"") => {
            Ok(json!({"role": role, "resource": resource, "name": name}))
        }
        _ => Err(Failure::usage(format!(
            "invalid {flag} '{text}': expected ROLE:RESOURCE or ROLE:RESOURCE:NAME"
        ))),
    }
}

/// The role binding that an operation is.
pub(super) fn operation(name: &str) -> Value {
    json!({"role": "run", "action": name})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_bindings() {
        assert_eq!(subject("user:a@b:c").unwrap(), json!({"kind": "User", "name": "a@b:c"}));
        assert_eq!(binding("--binding", "view:*").unwrap(), json!({"role": "view", "resource": "*"}));
        assert_eq!(
            binding("--binding", "run:llms:gpt*").unwrap(),
            json!({"role": "run", "resource": "llms", "name": "gpt*"})
        );
        for bad in ["", "User", "User:", "Robot:x"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
        for bad in ["", "view", "view:", ":llms", "view:llms:"] {
            assert!(binding("--binding", bad).is_err(), "{bad}");
        }
    }
}
