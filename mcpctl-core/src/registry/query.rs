//! Reading resources.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Registry, access::permission_on};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::Action,
    resource::{Behaviour, FieldType, Kind, Object, text_of},
};

/// Which resources to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// At most so many; none for all.
    pub limit: Option<usize>,
    /// Where an earlier page ended: its [`Page::next`].
    pub after: Option<String>,
    /// Only those whose field of this name has this value. The field must be a choice: `tier=fast`.
    pub fields: Vec<(String, String)>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to go on with; `None` when there is no more.
    pub next: Option<String>,
}

impl Registry {
    /// A resource.
    ///
    /// # Errors
    ///
    /// Forbidden, whether it exists or not; not found.
    pub async fn get(&self, who: &Principal, kind: Kind, id_or_name: &str) -> Result<Arc<Object>> {
        self.require_on(who, Action::View, kind, id_or_name).await?;
        let found = self.snapshot().shelf(kind).resolve(id_or_name).cloned();
        let found = found.ok_or_else(|| missing(kind, id_or_name))?;
        match kind.behaviour {
            Behaviour::McpToken => Ok(self.with_last_use(&found).await),
            _ => Ok(found),
        }
    }

    /// The resources of a kind that `who` may view, by name.
    ///
    /// # Errors
    ///
    /// Forbidden, when nothing of the kind may be viewed; invalid, for an unknown field or a bad `after`.
    pub async fn list(&self, who: &Principal, kind: Kind, query: &ListQuery) -> Result<Page<Arc<Object>>> {
        self.require_list(who, kind).await?;
        check_fields(kind, query)?;
        let after = query.after.as_deref().map(parse_continue).transpose()?;
        let most = query.limit.unwrap_or(usize::MAX);
        let snapshot = self.snapshot();
        let mut matching = snapshot.shelf(kind).after(after.as_deref()).filter(|object| {
            selects(query, object) && who.rights().decide(&permission_on(Action::View, object)).allowed()
        });
        let mut items: Vec<_> = matching.by_ref().take(most).cloned().collect();
        let more = matching.next().is_some();
        if kind.behaviour == Behaviour::McpToken {
            self.with_last_uses(&mut items).await;
        }
        let next = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(&last.name));
        Ok(Page { items, next })
    }
}

pub(super) fn check_fields(kind: Kind, query: &ListQuery) -> Result<()> {
    for (name, _) in &query.fields {
        if !kind.field(name).is_some_and(|field| matches!(field.ty, FieldType::Choice(_))) {
            return Err(Error::invalid(format!("{name}: {kind} cannot be selected by this parameter")));
        }
    }
    Ok(())
}

fn parse_continue(text: &str) -> Result<String> {
    let name = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| Error::invalid("continue: is not the `continue` of an earlier page"))
}

/// Whether a resource has what the query asks of its fields.
pub(super) fn selects(query: &ListQuery, object: &Object) -> bool {
    let fits =
        |(field, wanted): &(String, String)| object.spec.get(field).map(text_of).as_ref() == Some(wanted);
    query.fields.iter().all(fits)
}

/// The error for a resource that is not there.
pub(super) fn missing(kind: Kind, id_or_name: &str) -> Error {
    let given: String = id_or_name.chars().filter(|letter| !letter.is_control()).take(254).collect();
    Error::not_found(format!("no {} named `{given}`", kind.singular))
}
