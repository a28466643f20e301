//! A change that is being prepared.

use serde_json::Value;

use super::{Registry, references, secrets::Undo};
use crate::{
    auth::Principal,
    error::Result,
    resource::{Actor, AuditEvent, Change, EventDetail, Faults, Kind, Object, Reading, Spec, SuppliedSpec},
    secret::SecretValue,
    store::{Condition, Txn, Write},
};

/// A change of one resource that is being prepared: what it will be, and what goes with it.
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    /// The resource as it is stored; `None` when it is being created.
    pub(super) stored: Option<&'a Object>,
    /// The resource as it will be. Its spec is still being worked on.
    pub(super) next: Object,
    /// The write-only fields the caller supplied.
    pub(super) supplied: SuppliedSpec,
    /// What else has to be true and written.
    pub(super) txn: Txn,
    /// The write-only fields that really change something.
    pub(super) touched: Vec<&'static str>,
    /// A token that its maker is shown this once.
    pub(super) shown_once: Option<SecretValue>,
    /// What to take back if the transaction is refused.
    pub(super) undo: Option<Undo>,
}

impl<'a> Draft<'a> {
    /// A draft of the resource that `reading` makes of `stored`.
    pub(super) fn new(kind: Kind, stored: Option<&'a Object>, name: &str, reading: Reading) -> Self {
        let next = match stored {
            Some(stored) => stored.updated(reading.spec),
            None => Object::new(kind, name, reading.spec),
        };
        Self {
            kind,
            stored,
            next,
            supplied: reading.supplied,
            txn: Txn::default(),
            touched: Vec::new(),
            shown_once: None,
            undo: None,
        }
    }

    /// Carries over what the stored spec holds besides the declared fields.
    pub(super) fn keep(&mut self, internal: &str) {
        if let Some(value) = self.stored.and_then(|stored| stored.spec.get(internal)) {
            self.next.spec.insert(internal.to_owned(), value.clone());
        }
    }

    /// The names of the fields whose value changes.
    pub(super) fn changed_fields(&self) -> Vec<String> {
        let before = self.stored.map(|stored| &stored.spec);
        let declared = self.kind.fields.iter().map(|field| field.name);
        let differs = |name: &&str| before.and_then(|before| before.get(*name)) != self.next.spec.get(*name);
        let changed = declared.filter(|name| before.is_none() || differs(name));
        let shown = changed.filter(|name| self.next.spec.contains_key(*name));
        shown.chain(self.touched.iter().copied()).map(str::to_owned).collect()
    }

    /// Whether the change changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_some_and(|stored| stored.spec == self.next.spec) && self.touched.is_empty()
    }

    /// The transaction that carries out the draft, and the resource as it then is.
    pub(super) fn into_txn(mut self, who: &Principal) -> (Txn, Object) {
        let fields = self.changed_fields();
        let guard = match self.stored {
            Some(stored) => {
                Condition::Version { kind: self.kind, id: stored.id.clone(), version: stored.version }
            }
            None => Condition::NameAbsent { kind: self.kind, name: self.next.name.clone() },
        };
        let action = if self.stored.is_some() { "edit" } else { "create" };
        self.txn.conditions.insert(0, guard);
        self.txn.writes.push(Write::Put(self.next.clone()));
        self.txn.events.push(change_event(who.actor(), action, &self.next, fields));
        (self.txn, self.next)
    }
}

/// The audit event of a change.
pub(super) fn change_event(actor: Actor, action: &str, object: &Object, fields: Vec<String>) -> AuditEvent {
    let change = Change {
        action: action.to_owned(),
        resource: object.kind.plural.to_owned(),
        name: object.name.clone(),
        resource_id: object.id.to_string(),
        version: object.version,
        fields,
    };
    AuditEvent::new(actor, EventDetail::ResourceChange(change))
}

impl Registry {
    /// Prepares a change: references, and what the kind demands.
    pub(super) async fn draft<'a>(
        &self,
        who: &Principal,
        kind: Kind,
        stored: Option<&'a Object>,
        name: &str,
        reading: Reading,
    ) -> Result<Draft<'a>> {
        let mut draft = Draft::new(kind, stored, name, reading);
        self.refer(who, &mut draft).await?;
        self.apply_behaviour(who, &mut draft).await?;
        Ok(draft)
    }

    /// Gives a draft's references the ids of what they name.
    pub(super) async fn refer(&self, who: &Principal, draft: &mut Draft<'_>) -> Result<()> {
        self.before_references(who, draft).await?;
        let mut faults = Faults::default();
        references::resolve(
            &*self.inner.store,
            &self.snapshot(),
            draft.kind,
            &mut draft.next.spec,
            &mut draft.txn.conditions,
            &mut faults,
        )
        .await?;
        faults.into_result()
    }
}

/// The member `name` of a spec as an object's `id`.
pub(super) fn reference_id<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    spec.get(name)?.get("id").and_then(Value::as_str)
}
