//! Forgetting old events.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::AuditMeters;
use crate::{
    error::{Error, Result},
    resource::first_id_at,
    store::Storage,
};

/// Events of one deletion: what others wait for at most is a few milliseconds.
const BATCH: usize = 500;
/// How long to wait between two deletions, as a multiple of what one took: the store is for others.
const REST: u32 = 4;
const SHORTEST_REST: Duration = Duration::from_millis(5);

/// Deletes events that are older than `retention`, now and then regularly, until the store is dropped.
pub(crate) async fn forget_old(store: Weak<dyn Storage>, retention: Duration, meters: Arc<AuditMeters>) {
    let interval = (retention / 24).clamp(Duration::from_secs(60), Duration::from_secs(3600));
    loop {
        match forget(&store, retention, &meters).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "audit events that were past their retention were deleted"),
            Err(error) => {
                tracing::warn!(error = error.chain(), "old audit events could not be deleted; later again");
            }
        }
        sleep(interval).await;
        if store.strong_count() == 0 {
            return;
        }
    }
}

async fn forget(store: &Weak<dyn Storage>, retention: Duration, meters: &AuditMeters) -> Result<u64> {
    let retention = SignedDuration::try_from(retention).map_err(Error::internal)?;
    // Before the beginning of time there is nothing to delete.
    let Ok(end) = Timestamp::now().checked_sub(retention) else { return Ok(0) };
    let before = first_id_at(end);
    let mut all = 0;
    while let Some(store) = store.upgrade() {
        let began = Instant::now();
        let gone = store.forget(&before, BATCH).await?;
        drop(store);
        meters.deleted.fetch_add(gone as u64, Relaxed);
        all += gone as u64;
        if gone < BATCH {
            break;
        }
        sleep((began.elapsed() * REST).max(SHORTEST_REST)).await;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resource::{Actor, AuditEvent, EventDetail, Login},
        store::{EventQuery, EventStore, MemoryStore},
    };

    /// An event that ended so long ago.
    fn event(age: Duration) -> AuditEvent {
        let at = Timestamp::now().checked_sub(SignedDuration::try_from(age).unwrap()).unwrap();
        let event = AuditEvent::new(Actor::default(), EventDetail::Login(Login::default()));
        // Its own random bits behind the time of that moment.
        let id = format!("{}{}", &first_id_at(at)[..14], &event.id[14..]);
        AuditEvent { id, at, ..event }
    }

    async fn left(store: &MemoryStore) -> usize {
        store.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).await.unwrap().len()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn old_events_go_at_once_and_later_ones_in_their_time() {
        let store = Arc::new(MemoryStore::new());
        store.append((0..1234).map(|_| event(HOUR * 2)).collect()).await.unwrap();
        store.append([event(HOUR / 2), event(HOUR - Duration::from_secs(5))].into()).await.unwrap();
        let storage: Arc<dyn Storage> = store.clone();
        let meters = Arc::new(AuditMeters::default());
        let task = tokio::spawn(forget_old(Arc::downgrade(&storage), HOUR, meters.clone()));
        sleep(Duration::from_secs(30)).await;
        assert_eq!((left(&store).await, meters.deleted.load(Relaxed)), (2, 1234));
        // The clock of the events is not the paused one.
        store.append([event(HOUR * 3)].into()).await.unwrap();
        sleep(HOUR / 24).await;
        assert_eq!((left(&store).await, meters.deleted.load(Relaxed)), (2, 1235));
        drop((store, storage));
        task.await.unwrap();
    }
}
