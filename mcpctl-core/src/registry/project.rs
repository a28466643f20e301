//! Which Llm a project's reference leads to.

use std::sync::Arc;

use super::{LlmEntry, Registry, Snapshot, query::missing};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Action, Permission},
    resource::{Object, ProjectSpec, kinds},
};

/// Where a project's reference to an Llm leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LlmStatus {
    /// To an Llm.
    Registered,
    /// Nowhere, on purpose: LLM features are off.
    Disabled,
    /// Nowhere: it is empty, or nothing has the name. The registry's default stands in.
    Unregistered,
    /// That cannot be told: the caller may neither view nor run an Llm of that name, whether there is one or not.
    Unreachable,
}

impl LlmStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Registered, Self::Disabled, Self::Unregistered, Self::Unreachable];

    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Disabled => "disabled",
            Self::Unregistered => "unregistered",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What a project's reference to an Llm comes to, for one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectLlm {
    /// Where it leads.
    pub status: LlmStatus,
    /// The name of the Llm that is used: the one referred to, or the default if the caller may run one.
    pub llm: Option<String>,
    /// The model that it is asked for.
    pub model: Option<String>,
}

/// A reference, resolved.
struct Resolved {
    status: LlmStatus,
    /// The Llm referred to, or the default.
    llm: Option<Arc<LlmEntry>>,
    /// The name in the reference.
    name: String,
    /// The model to ask for, when the project says one.
    model: Option<String>,
}

impl Registry {
    /// Where a project's reference to an Llm leads.
    ///
    /// # Errors
    ///
    /// Forbidden, without the right to view the project; not found.
    pub async fn project_llm(&self, who: &Principal, id_or_name: &str) -> Result<ProjectLlm> {
        self.require_on(who, Action::View, kinds::PROJECTS, id_or_name).await?;
        let snapshot = self.snapshot();
        let project = snapshot.shelf(kinds::PROJECTS).resolve(id_or_name);
        let project = project.ok_or_else(|| missing(kinds::PROJECTS, id_or_name))?;
        let Resolved { status, llm, model, .. } = resolve(&snapshot, who, project)?;
        let model = llm.as_ref().map(|llm| model.unwrap_or_else(|| llm.spec.model.clone()));
        Ok(ProjectLlm { status, llm: llm.map(|llm| llm.name.clone()), model })
    }

    /// The Llm that a project's reference leads to, for a call, and the model to ask for when the project says one.
    ///
    /// It takes the right to run that Llm, and nothing else; who may not even view the project is told the same
    /// whether it exists or not.
    ///
    /// # Errors
    ///
    /// Forbidden; not found, also when the reference leads nowhere and there is no default; conflict, when LLM
    /// features are off.
    pub async fn run_project_llm(
        &self,
        who: &Principal,
        id_or_name: &str,
    ) -> Result<(Arc<LlmEntry>, Option<String>)> {
        let snapshot = self.snapshot();
        let project = snapshot.shelf(kinds::PROJECTS).resolve(id_or_name);
        let resolved = project.map(|project| resolve(&snapshot, who, project)).transpose()?;
        if let Some(Resolved { llm: Some(llm), model, .. }) = &resolved
            && may(who, Action::Run, &llm.name, Some(llm))
        {
            return Ok((llm.clone(), model.clone()));
        }
        // From here on something is told of the project.
        self.require_on(who, Action::View, kinds::PROJECTS, id_or_name).await?;
        let Resolved { status, name, .. } = resolved.ok_or_else(|| missing(kinds::PROJECTS, id_or_name))?;
        let may_run = match name.as_str() {
            "" => who.rights().may_list(Action::Run, kinds::LLMS),
            name => may(who, Action::Run, name, None),
        };
        match status {
            LlmStatus::Disabled => Err(Error::conflict("the project has switched LLM features off")),
            LlmStatus::Unregistered if may_run => Err(Error::not_found(
                "the project refers to no registered llm, and there is none of the fast tier that you may run",
            )),
            LlmStatus::Unregistered if name.is_empty() => {
                Err(self.refuse(who, Permission::Kind(Action::Run, kinds::LLMS).to_string()).await?)
            }
            _ => Err(self.refuse(who, format!("run:llms:{name}")).await?),
        }
    }
}

fn resolve(snapshot: &Snapshot, who: &Principal, project: &Object) -> Result<Resolved> {
    let ProjectSpec { llm_provider: name, llm_model } = project.typed()?;
    let model = Some(llm_model).filter(|model| !model.is_empty());
    let found = snapshot.shelf(kinds::LLMS).named(&name).and_then(|llm| snapshot.llm(llm.id.as_str()));
    let is_known = [Action::View, Action::Run].into_iter().any(|action| may(who, action, &name, found));
    let (status, llm) = match found {
        _ if name == ProjectSpec::NO_LLM => (LlmStatus::Disabled, None),
        _ if !name.is_empty() && !is_known => (LlmStatus::Unreachable, None),
        Some(llm) => (LlmStatus::Registered, Some(llm)),
        None => (LlmStatus::Unregistered, default_llm(snapshot, who)),
    };
    Ok(Resolved { status, llm: llm.cloned(), name, model })
}

/// The registry's default: the first Llm of the fast tier that the caller may run, by name.
fn default_llm<'a>(snapshot: &'a Snapshot, who: &Principal) -> Option<&'a Arc<LlmEntry>> {
    snapshot.llms().find(|llm| llm.spec.tier == "fast" && may(who, Action::Run, &llm.name, Some(llm)))
}

fn may(who: &Principal, action: Action, name: &str, llm: Option<&Arc<LlmEntry>>) -> bool {
    who.rights().allow_on(action, kinds::LLMS, name, llm.map(|llm| &llm.id))
}
