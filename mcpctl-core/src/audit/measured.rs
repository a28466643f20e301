use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;

use super::{AuditSink, Copier};
use crate::{error::Result, meter::Operation, resource::AuditEvent};

/// A sink whose writes are counted, whatever it is.
pub(crate) struct MeasuredSink {
    sink: Arc<dyn AuditSink>,
    meters: Arc<AuditMeters>,
    copier: Option<Copier>,
}

/// What was written to a sink.
#[derive(Debug, Default)]
pub(crate) struct AuditMeters {
    /// Writes; each carries many events.
    pub(crate) writes: Operation,
    /// Events that were kept.
    pub(crate) events: AtomicU64,
    /// Events that were deleted, past their retention.
    pub(crate) deleted: AtomicU64,
    /// Events that were left out of the copy.
    pub(crate) left_out: AtomicU64,
}

impl AuditMeters {
    pub(super) fn left_out(&self, events: usize) {
        self.left_out.fetch_add(events as u64, Relaxed);
    }
}

impl MeasuredSink {
    /// Counts what `sink` keeps, and tells a `copier` of it.
    pub(crate) fn new(sink: Arc<dyn AuditSink>, meters: Arc<AuditMeters>, copier: Option<Copier>) -> Self {
        Self { sink, meters, copier }
    }
}

#[async_trait]
impl AuditSink for MeasuredSink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        let count = events.len();
        self.meters.writes.measure(self.sink.append(events.clone())).await?;
        self.copier.iter().for_each(|copier| copier.tell(events.clone()));
        self.meters.events.fetch_add(count as u64, Relaxed);
        Ok(())
    }
}
