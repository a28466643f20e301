use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::resource::{Actor, EventDetail, Login};

/// A sink that can be away, and that writes a batch for every permit of `turns`.
struct Sink {
    away: AtomicBool,
    turns: Semaphore,
    kept: Mutex<Vec<Vec<String>>>,
}

impl Sink {
    fn new(turns: usize) -> Arc<Self> {
        let (away, turns) = (AtomicBool::new(false), Semaphore::new(turns));
        Arc::new(Self { away, turns, kept: Mutex::default() })
    }

    fn batches(&self) -> Vec<usize> {
        self.kept.lock().unwrap().iter().map(Vec::len).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.kept.lock().unwrap().concat()
    }
}

#[async_trait]
impl AuditSink for Sink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::internal("away"));
        }
        self.turns.acquire().await.unwrap().forget();
        self.kept.lock().unwrap().push(events.iter().map(|event| event.id.clone()).collect());
        Ok(())
    }
}

fn event() -> AuditEvent {
    AuditEvent::new(Actor::default(), EventDetail::Login(Login { email: "a@b".into(), ..Login::default() }))
}

const ALWAYS: usize = Semaphore::MAX_PERMITS;
const BOTH: [AuditMode; 2] = [AuditMode::Buffered, AuditMode::Strict];

#[tokio::test(start_paused = true)]
async fn many_events_are_few_writes_in_order() {
    for mode in BOTH {
        let sink = Sink::new(ALWAYS);
        let queue = AuditQueue::start(sink.clone(), mode);
        let mut ids = Vec::new();
        let mut receipts = Vec::new();
        for _ in 0..300 {
            let event = event();
            ids.push(event.id.clone());
            receipts.push(queue.reserve().await.unwrap().send(event));
        }
        queue.flush(Duration::from_secs(5)).await.unwrap();
        for receipt in receipts {
            receipt.kept().await.unwrap();
        }
        assert_eq!(sink.ids(), ids, "{mode:?}");
        assert!(sink.batches().len() < 10, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn buffered_events_are_written_within_their_time_and_nobody_waits() {
    let sink = Sink::new(ALWAYS);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Buffered);
    for written in 1..20 {
        let began = Instant::now();
        queue.record(event()).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        sleep(LINGER + Duration::from_millis(1)).await;
        assert_eq!(sink.ids().len(), written);
    }
}

#[tokio::test(start_paused = true)]
async fn buffered_events_that_waited_for_a_write_do_not_linger_again() {
    let sink = Sink::new(0);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Buffered);
    queue.record(event()).await.unwrap();
    // Its write begins, and takes longer than an event lingers.
    sleep(LINGER * 2).await;
    queue.record(event()).await.unwrap();
    sleep(LINGER).await;
    let began = Instant::now();
    sink.turns.add_permits(2);
    queue.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sink.batches(), [1, 1]);
    assert!(began.elapsed() < Duration::from_millis(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn strict_events_are_kept_in_groups_and_each_is_waited_for() {
    let sink = Sink::new(0);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Strict);
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.record(event()).await }
    });
    tokio::task::yield_now().await;
    // While the first is being written, the others gather.
    sleep(Duration::from_millis(10)).await;
    let others: Vec<_> = (0..100)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.record(event()).await })
        })
        .collect();
    sleep(Duration::from_millis(10)).await;
    assert!(!first.is_finished() && others.iter().all(|other| !other.is_finished()));
    let began = Instant::now();
    sink.turns.add_permits(1);
    first.await.unwrap().unwrap();
    sleep(Duration::from_millis(1)).await;
    assert!(others.iter().all(|other| !other.is_finished()), "theirs is another write");
    sink.turns.add_permits(1);
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(sink.batches(), [1, 100]);
    assert!(began.elapsed() < Duration::from_millis(5), "nothing lingers: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_sink_is_away() {
    let sink = Sink::new(ALWAYS);
    sink.away.store(true, Ordering::Relaxed);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Buffered);
    queue.record(event()).await.unwrap();
    assert!(queue.flush(Duration::from_secs(20)).await.is_err());
    sink.away.store(false, Ordering::Relaxed);
    queue.flush(Duration::from_secs(20)).await.unwrap();
    assert_eq!(sink.ids().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_an_absent_sink_is_told_in_bounded_time_and_heals() {
    let sink = Sink::new(ALWAYS);
    sink.away.store(true, Ordering::Relaxed);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Strict);
    // One that had its place when the sink went away, and one that comes later.
    for _ in 0..2 {
        let began = Instant::now();
        let error = queue.record(event()).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
        assert!(error.retry_after().is_some());
        assert!(began.elapsed() <= PATIENCE + Duration::from_millis(10), "{:?}", began.elapsed());
    }
    assert_eq!(queue.waiting(), 0, "the second got no place");
    sink.away.store(false, Ordering::Relaxed);
    queue.record(event()).await.unwrap();
    assert_eq!(sink.ids().len(), 2, "the first was not given up");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_slows_then_refuses_and_drops_nothing() {
    for mode in BOTH {
        let sink = Sink::new(0);
        let queue = AuditQueue::start(sink.clone(), mode);
        let mut receipts = Vec::new();
        while let Ok(permit) = queue.reserve().await {
            receipts.push(permit.send(event()));
        }
        assert!(receipts.len() >= CAPACITY, "{mode:?}: {}", receipts.len());
        sink.turns.add_permits(ALWAYS);
        queue.reserve().await.expect("a place, now that there is room");
        queue.flush(Duration::from_secs(5)).await.unwrap();
        assert_eq!(sink.ids().len(), receipts.len(), "{mode:?}");
    }
}

#[tokio::test]
async fn a_permit_survives_until_it_is_used() {
    let sink = Sink::new(ALWAYS);
    let queue = AuditQueue::start(sink.clone(), AuditMode::Strict);
    let permit = queue.reserve().await.unwrap();
    permit.send(event()).kept().await.unwrap();
    assert_eq!(sink.ids().len(), 1);
}
