//! `mcpctl get auditlogs --follow`

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use mcpctl_core::{Error, ErrorKind, client::Client, resource::Spec};
use serde_json::Value;
use tokio::time::sleep;

use super::{Filters, list, read};
use crate::{
    context::Context,
    failure::{Failure, note, warn},
    output::SoFar,
};

/// Prints events as they come, each once.
///
/// Events are in order of their time, which is not quite the order in which they come: servers write theirs in batches,
/// and their clocks differ. So each look goes back behind what was seen before, and now and then further.
pub(super) struct Follower<'a> {
    context: &'a Context,
    client: Client,
    filters: Filters,
    /// Nothing before this is shown.
    since: Timestamp,
    /// The time of the newest event, whatever it is about, as of the look before; in milliseconds since 1970.
    newest: i64,
    /// What was seen of late.
    seen: BTreeSet<String>,
    so_far: SoFar,
}

/// How long to wait between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How far back a look goes, in milliseconds.
const NEAR: i64 = 10_000;
/// The same of every look of so many, for what came late.
const FAR: i64 = 120_000;
const FAR_EVERY: u32 = 30;
/// How long to wait after a look that failed, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl<'a> Follower<'a> {
    pub(super) fn new(
        context: &'a Context,
        filters: Filters,
        since: Option<String>,
    ) -> Result<Self, Failure> {
        let since = since.and_then(|since| since.parse().ok());
        Ok(Self {
            context,
            client: context.client()?,
            filters,
            // Until the newest event is known, nothing is: see `begin`.
            since: since.unwrap_or(Timestamp::MAX),
            newest: 0,
            seen: BTreeSet::new(),
            so_far: SoFar::default(),
        })
    }

    /// Never ends by itself, but for a failure that trying again would not mend.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        self.begin().await?;
        for look in 1_u32.. {
            sleep(INTERVAL).await;
            let back = if look.is_multiple_of(FAR_EVERY) { FAR } else { NEAR };
            let events = match self.look(back).await {
                Ok(events) => events,
                Err(error) => self.look_again(error).await?,
            };
            self.print(events)?;
        }
        Ok(())
    }

    /// Prints what there is already, when that was asked for; else remembers it.
    async fn begin(&mut self) -> Result<(), Failure> {
        let newest = self.newest_id().await?;
        self.newest = newest.as_deref().map(millis_of).unwrap_or_default();
        if self.since < Timestamp::MAX {
            let from = self.since.as_millisecond();
            let events = self.look(self.newest.saturating_sub(from).max(FAR)).await?;
            return self.print(events);
        }
        self.since = Timestamp::MIN;
        let mut events = self.look(FAR).await?;
        // What came since the first question is new.
        events.retain(|event| newest.as_deref().is_none_or(|newest| id_of(event) > newest));
        self.print(events)
    }

    /// Events that were not seen before, oldest first, from so long before the newest one on.
    async fn look(&mut self, back: i64) -> Result<Vec<Spec>, Error> {
        // Asked for first, so that what comes in between is looked at again.
        let newest = self.newest_id().await?.as_deref().map(millis_of).unwrap_or_default();
        let from = self.base().saturating_sub(back).max(0);
        let from = Timestamp::from_millisecond(from).unwrap_or_default().max(self.since);
        let mut query = self.filters.clone();
        query.push(("since", from.to_string()));
        let (mut events, _) = read(&self.client, &query, usize::MAX).await?;
        self.newest = self.newest.max(newest);
        events.retain(|event| self.seen.insert(id_of(event).to_owned()));
        events.sort_by(|one, other| id_of(one).cmp(id_of(other)));
        // Nothing will go back behind this.
        let oldest = self.base().saturating_sub(FAR + NEAR).max(0);
        self.seen = self.seen.split_off(&format!("{:08x}-{:04x}", oldest >> 16, oldest & 0xffff));
        Ok(events)
    }

    /// What looks go back from: a server whose clock is ahead must not hide what others write.
    fn base(&self) -> i64 {
        self.newest.min(Timestamp::now().as_millisecond())
    }

    /// Looks again until it works, and says so.
    async fn look_again(&mut self, error: Error) -> Result<Vec<Spec>, Failure> {
        let (mut error, mut pause) = (error, INTERVAL);
        warn(format!("{}; trying again", error.message()));
        loop {
            match error.kind() {
                ErrorKind::Unauthenticated
                | ErrorKind::Forbidden
                | ErrorKind::Invalid
                | ErrorKind::NotFound => return Err(error.into()),
                _ => sleep(error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE)).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.look(FAR).await {
                Ok(events) => {
                    note("The server answers again.");
                    return Ok(events);
                }
                Err(again) => error = again,
            }
        }
    }

    async fn newest_id(&self) -> Result<Option<String>, Error> {
        let (events, _) = self.client.audit_logs(&[("limit", "1")]).await?;
        Ok(events.first().map(|event| id_of(event).to_owned()))
    }

    fn print(&mut self, events: Vec<Spec>) -> Result<(), Failure> {
        list(&events, true).print_more(&self.context.out, self.context.format(), &mut self.so_far)
    }
}

fn id_of(event: &Spec) -> &str {
    event.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// The time that an id begins with, in milliseconds since 1970.
fn millis_of(id: &str) -> i64 {
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    i64::from_str_radix(&digits, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_their_time() {
        assert_eq!(millis_of("01920000-0000-7000-8000-000000000001"), 0x0192_0000_0000);
        assert_eq!(millis_of(""), 0);
    }
}
