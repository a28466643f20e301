//! Watching the resources of a kind: what comes, changes and goes, as far as the caller may view it.

use std::{sync::Arc, time::Duration};

use foldhash::{HashMap, HashMapExt as _};
use tokio::{sync::watch, time::timeout};

use super::{
    Registry,
    query::{ListQuery, check_fields, selects},
};
use crate::{
    auth::Principal,
    error::Result,
    rbac::Action,
    resource::{Id, Kind, Object, Revision},
};

/// How often it is looked whether the caller may still see what it watches, while nothing changes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What happened to a resource, for one who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It is there; of what was there from the beginning, it is said first of all.
    Added,
    /// It changed.
    Modified,
    /// It is gone, at least for the caller.
    Deleted,
}

impl Happened {
    /// The name, as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Follows the resources of a kind. It keeps nothing but which of them were last told.
pub struct Watch {
    registry: Registry,
    who: Principal,
    kind: Kind,
    query: ListQuery,
    told: HashMap<Id, Arc<Object>>,
    published: watch::Receiver<Revision>,
    is_new: bool,
}

impl Registry {
    /// Watches the resources of a kind that `who` may view. First of all it tells those that are there.
    ///
    /// # Errors
    ///
    /// Forbidden, when nothing of the kind may be viewed; invalid, for an unknown field.
    pub async fn watch(&self, who: &Principal, kind: Kind, query: ListQuery) -> Result<Watch> {
        self.require_list(who, kind).await?;
        check_fields(kind, &query)?;
        let (registry, who, published) = (self.clone(), who.clone(), self.published());
        Ok(Watch { registry, who, kind, query, told: HashMap::new(), published, is_new: true })
    }
}

impl Watch {
    /// What happened since the last call, by name; waits until there is something. Several changes of one resource
    /// may be told as one.
    ///
    /// # Errors
    ///
    /// Unauthenticated or forbidden, once the caller may no more.
    pub async fn next(&mut self) -> Result<Vec<(Happened, Arc<Object>)>> {
        loop {
            if !std::mem::take(&mut self.is_new) {
                // The registry is kept by this watch, so it cannot go first.
                let _ = timeout(LOOK_AGAIN, self.published.changed()).await;
            }
            self.published.mark_unchanged();
            let happened = self.look()?;
            if !happened.is_empty() {
                return Ok(happened);
            }
        }
    }

    fn look(&mut self) -> Result<Vec<(Happened, Arc<Object>)>> {
        let rights = self.registry.rights_to_list(&self.who, self.kind)?;
        let snapshot = self.registry.snapshot();
        let mut before = std::mem::take(&mut self.told);
        let mut happened = Vec::new();
        for object in snapshot.shelf(self.kind).after(None) {
            let visible = rights.allow_on(Action::View, self.kind, &object.name, Some(&object.id));
            if !visible || !selects(&self.query, object) {
                continue;
            }
            match before.remove(&object.id) {
                Some(known) if known.version == object.version => {}
                Some(_) => happened.push((Happened::Modified, object.clone())),
                None => happened.push((Happened::Added, object.clone())),
            }
            self.told.insert(object.id.clone(), object.clone());
        }
        let mut gone: Vec<Arc<Object>> = before.into_values().collect();
        gone.sort_by(|one, other| one.name.cmp(&other.name));
        // First what went: its name may have passed to another.
        let gone = gone.into_iter().map(|object| (Happened::Deleted, object));
        Ok(gone.chain(happened).collect())
    }
}
