//! Which audit events a query asks for.

use super::EventQuery;
use crate::resource::{AuditEvent, EventDetail};

impl EventQuery {
    /// Whether the query asks for `event`, leaving its limit aside.
    pub fn matches(&self, event: &AuditEvent) -> bool {
        let fits =
            |wanted: &Option<String>, value: Option<&str>| wanted.is_none() || wanted.as_deref() == value;
        fits(&self.kind, Some(event.kind()))
            && fits(&self.llm, event.llm())
            && (fits(&self.user, event.actor.user_id.as_deref()) || fits(&self.user, event_user(event)))
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
            && self.before.as_ref().is_none_or(|before| event.id < *before)
            && self.after.as_ref().is_none_or(|after| event.id > *after)
    }
}

/// The e-mail address by which a query finds the event: of a login, the one that was tried.
pub(super) fn event_user(event: &AuditEvent) -> Option<&str> {
    match &event.detail {
        EventDetail::Login(login) => Some(&login.email),
        _ => event.actor.user.as_deref(),
    }
}
