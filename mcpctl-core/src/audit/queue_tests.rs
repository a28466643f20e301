use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

use super::*;
use crate::resource::{Actor, EventDetail, Login};

#[derive(Default)]
struct Sink {
    away: AtomicBool,
    kept: Mutex<Vec<String>>,
    batches: Mutex<usize>,
}

#[async_trait]
impl AuditSink for Sink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::internal("away"));
        }
        *self.batches.lock().unwrap() += 1;
        self.kept.lock().unwrap().extend(events.iter().map(|event| event.id.clone()));
        Ok(())
    }
}

fn event() -> AuditEvent {
    AuditEvent::new(Actor::default(), EventDetail::Login(Login { email: "a@b".into(), result: "ok".into() }))
}

#[tokio::test]
async fn many_events_are_few_writes_in_order() {
    let sink = Arc::new(Sink::default());
    let queue = AuditQueue::start(sink.clone());
    let mut ids = Vec::new();
    for _ in 0..300 {
        let event = event();
        ids.push(event.id.clone());
        queue.record(event).await.unwrap();
    }
    queue.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(*sink.kept.lock().unwrap(), ids);
    assert!(*sink.batches.lock().unwrap() < 10);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_sink_is_away() {
    let sink = Arc::new(Sink::default());
    sink.away.store(true, Ordering::Relaxed);
    let queue = AuditQueue::start(sink.clone());
    queue.record(event()).await.unwrap();
    assert!(queue.flush(Duration::from_secs(20)).await.is_err());
    sink.away.store(false, Ordering::Relaxed);
    queue.flush(Duration::from_secs(20)).await.unwrap();
    assert_eq!(sink.kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_permit_survives_until_it_is_used() {
    let sink = Arc::new(Sink::default());
    let queue = AuditQueue::start(sink.clone());
    let permit = queue.reserve().await.unwrap();
    permit.send(event());
    queue.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sink.kept.lock().unwrap().len(), 1);
}
