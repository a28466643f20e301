//! What a caller asks, and of which Llm.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::destination::CallerHeaders;
use crate::{
    adapter::Api,
    auth::Principal,
    error::Result,
    registry::{LlmEntry, Registry},
    wire::{ChatRequest, Edits},
};

/// Which Llm is called.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The one of this id or name; the body's `model` is the provider's business.
    Named(&'a str),
    /// The one that the body's `model` names.
    FromBody,
    /// The one that the project of this id or name refers to, or else the registry's default; the body's `model` is
    /// the provider's business, and the project's where the body names none.
    Project(&'a str),
}

/// What a caller asks.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub(super) target: Target<'a>,
    pub(super) api: Api,
    pub(super) body: Bytes,
    pub(super) headers: CallerHeaders,
}

impl<'a> Ask<'a> {
    /// A request of `api` to an Llm.
    pub fn new(target: Target<'a>, api: Api, body: Bytes) -> Self {
        Self { target, api, body, headers: CallerHeaders::default() }
    }

    /// Takes along what the caller's headers say to Anthropic's API: its version and its betas, and nothing else.
    /// They are sent only where that API is spoken from end to end.
    #[must_use]
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        if self.api.is_anthropic() {
            self.headers = CallerHeaders::of(headers);
        }
        self
    }
}

/// The Llm of a project, if the caller may run it, and then what is asked of it.
pub(super) async fn of_project(
    registry: &Registry,
    who: &Principal,
    project: &str,
    api: Api,
    body: &Bytes,
) -> Result<(Arc<LlmEntry>, Result<ChatRequest>)> {
    let (llm, model) = registry.run_project_llm(who, project).await?;
    let scanned = ChatRequest::scan_for(body, api.required()).and_then(|request| {
        let names_none = request.model().is_none_or(|name| name.is_empty() || name == llm.name);
        match model.as_deref().filter(|_| names_none) {
            None => Ok(request),
            model => {
                let edits = Edits { model, ..Edits::default() };
                ChatRequest::scan_for(&request.rewrite(&edits), api.required())
            }
        }
    });
    Ok((llm, scanned))
}
