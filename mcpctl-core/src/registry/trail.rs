//! Reading the audit trail.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Page, Registry};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::{Operation, Permission},
    resource::{AuditEvent, InferenceCall, first_id_at},
    store::EventQuery,
};

/// How long a reader of the audit trail waits for events that are on their way.
const FLUSH: Duration = Duration::from_millis(500);
/// How long one page is searched for where there is no index; what was found until then is the page.
const SEARCH: Duration = Duration::from_secs(1);
/// How far back the first look of such a search goes. The next ones go further, while they are quick.
const FIRST_LOOK: SignedDuration = SignedDuration::from_mins(10);
const QUICK: Duration = Duration::from_millis(30);
const SLOW: Duration = Duration::from_millis(300);
/// By how much the time in an id may differ from the event's: for those that older versions wrote.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);
/// The longest page.
const LONGEST_PAGE: usize = 1000;

impl Registry {
    /// Audit events, newest first. A page may have fewer than were asked for, even none, and still be followed by
    /// another: then searching it took long.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation `audit`; invalid, when `before` is no event's id.
    pub async fn audit_events(&self, who: &Principal, mut query: EventQuery) -> Result<Page<AuditEvent>> {
        self.require(who, &Permission::Operation(Operation::Audit)).await?;
        if let Some(before) = &mut query.before {
            let id = parse_id(before);
            *before = id
                .ok_or_else(|| Error::invalid("continue: is not the `continue` of an earlier page"))?
                .to_string();
        }
        let limit = query.limit.clamp(1, LONGEST_PAGE);
        // Whoever asks right after a call should find it. When the store is slow, what is there has to do.
        let _ = self.audit().flush(FLUSH).await;
        // One more than is asked for tells whether there is more.
        query.limit = limit + 1;
        narrow(&mut query);
        let (mut items, searched_to) = self.search(query, SEARCH).await?;
        let next = match items.get(limit.saturating_sub(1)) {
            Some(last) if items.len() > limit => Some(last.id.clone()),
            _ => searched_to,
        };
        items.truncate(limit);
        Ok(Page { items, next })
    }

    /// One audit event, by its id.
    ///
    /// # Errors
    ///
    /// Forbidden, without the operation `audit`; not found.
    pub async fn audit_event(&self, who: &Principal, id: &str) -> Result<AuditEvent> {
        self.require(who, &Permission::Operation(Operation::Audit)).await?;
        let missing = || {
            let given: String = id.chars().filter(|letter| !letter.is_control()).take(64).collect();
            Error::not_found(format!("no audit event with the id `{given}`"))
        };
        let id = parse_id(id).ok_or_else(missing)?.as_u128();
        let _ = self.audit().flush(FLUSH).await;
        // The one between its neighbours.
        let neighbour = |id: u128| Some(Uuid::from_u128(id).to_string());
        let (after, before) = (neighbour(id.saturating_sub(1)), neighbour(id.saturating_add(1)));
        let query = EventQuery { after, before, limit: 1, ..EventQuery::default() };
        self.inner.store.events(&query).await?.pop().ok_or_else(missing)
    }

    /// The events of a query, and, when the search was given up, the id that it has come to.
    async fn search(
        &self,
        query: EventQuery,
        patience: Duration,
    ) -> Result<(Vec<AuditEvent>, Option<String>)> {
        let store = &self.inner.store;
        let among_calls = query.kind.as_deref().is_none_or(|kind| kind == InferenceCall::KIND);
        if !among_calls || (query.llm.is_none() && query.user.is_none()) {
            // Found by an index, or nearly everywhere.
            return Ok((store.events(&query).await?, None));
        }
        let began = Instant::now();
        let mut found = Vec::new();
        let mut part = query.clone();
        let mut end = query.before.as_deref().and_then(time_of).unwrap_or_else(Timestamp::now);
        let mut look = FIRST_LOOK;
        loop {
            let start = end.checked_sub(look).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
            let start_id = first_id_at(start);
            let is_last = start == Timestamp::UNIX_EPOCH
                || query.after.as_ref().is_some_and(|after| *after >= start_id);
            part.after = if is_last { query.after.clone() } else { Some(start_id.clone()) };
            part.limit = query.limit.saturating_sub(found.len());
            let asked = Instant::now();
            found.extend(store.events(&part).await?);
            if is_last || found.len() >= query.limit {
                return Ok((found, None));
            }
            if began.elapsed() >= patience {
                return Ok((found, Some(start_id)));
            }
            look = match asked.elapsed() {
                took if took <= QUICK => look.saturating_mul(4),
                took if took >= SLOW => look / 2,
                _ => look,
            };
            (end, part.before) = (start, Some(start_id));
        }
    }
}

/// Bounds the ids by the times: they grow with time, and are what the store has in order.
fn narrow(query: &mut EventQuery) {
    if let Some(since) = query.since.and_then(|since| since.checked_sub(TOLERANCE).ok()) {
        query.after = query.after.take().max(Some(first_id_at(since)));
    }
    if let Some(until) = query.until.and_then(|until| until.checked_add(TOLERANCE).ok()) {
        let until = first_id_at(until);
        query.before = Some(query.before.take().map_or(until.clone(), |before| before.min(until)));
    }
}

/// An id as it is written in the store.
fn parse_id(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// The time in an id.
fn time_of(id: &str) -> Option<Timestamp> {
    let millis = i64::try_from(parse_id(id)?.as_u128() >> 80).ok()?;
    Timestamp::from_millisecond(millis).ok()
}

#[cfg(test)]
#[path = "trail_tests.rs"]
mod tests;
