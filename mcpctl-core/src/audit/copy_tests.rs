use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::{
    error::{Error, Result},
    resource::{Actor, EventDetail, Login},
};

/// A sink that can be away, or never come back.
#[derive(Default)]
struct Sink {
    away: AtomicBool,
    hangs: AtomicBool,
    kept: Mutex<Vec<String>>,
}

#[async_trait]
impl AuditSink for Sink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        if self.hangs.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Relaxed) {
            return Err(Error::internal("away"));
        }
        self.kept.lock().unwrap().extend(events.iter().map(|event| event.id.clone()));
        Ok(())
    }
}

fn events(count: usize) -> Arc<[AuditEvent]> {
    let event = || AuditEvent::new(Actor::default(), EventDetail::Login(Login::default()));
    (0..count).map(|_| event()).collect()
}

fn start() -> (Arc<Sink>, Arc<AuditMeters>, Copier) {
    let (sink, meters) = (Arc::new(Sink::default()), Arc::new(AuditMeters::default()));
    (sink.clone(), meters.clone(), Copier::start(sink, meters))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn events_arrive_once_and_in_order_also_after_a_failure() {
    let (sink, meters, copier) = start();
    let mut told = Vec::new();
    for step in 0..20 {
        sink.away.store(step == 7, Relaxed);
        let batch = events(step);
        told.extend(batch.iter().map(|event| event.id.clone()));
        copier.tell(batch);
    }
    assert!(copier.flush(LONG).await);
    assert_eq!(*sink.kept.lock().unwrap(), told);
    assert_eq!(meters.left_out.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_or_hangs_holds_nobody_up_and_takes_bounded_memory() {
    for hangs in [false, true] {
        let (sink, meters, copier) = start();
        sink.away.store(true, Relaxed);
        sink.hangs.store(hangs, Relaxed);
        let began = Instant::now();
        for _ in 0..100 {
            copier.tell(events(1000));
            tokio::task::yield_now().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        let lost = 100_000 - CAPACITY / 1000 * 1000;
        assert_eq!(meters.left_out.load(Relaxed), lost as u64);
        assert!(!copier.flush(Duration::from_secs(10)).await);
        if !hangs {
            sink.away.store(false, Relaxed);
            assert!(copier.flush(LONG).await);
            copier.tell(events(3));
            assert!(copier.flush(LONG).await);
            assert_eq!(sink.kept.lock().unwrap().len(), 100_000 - lost + 3);
        }
    }
}
