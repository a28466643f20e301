use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;

use super::AuditSink;
use crate::{error::Result, meter::Operation, resource::AuditEvent};

/// A sink whose writes are counted, whatever it is.
pub(crate) struct MeasuredSink {
    sink: Arc<dyn AuditSink>,
    meters: Arc<AuditMeters>,
}

/// What was written to a sink.
#[derive(Debug, Default)]
pub(crate) struct AuditMeters {
    /// Writes; each carries many events.
    pub(crate) writes: Operation,
    /// Events that were kept.
    pub(crate) events: AtomicU64,
}

impl MeasuredSink {
    pub(crate) fn new(sink: Arc<dyn AuditSink>, meters: Arc<AuditMeters>) -> Self {
        Self { sink, meters }
    }
}

#[async_trait]
impl AuditSink for MeasuredSink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        let count = events.len();
        self.meters.writes.measure(self.sink.append(events)).await?;
        self.meters.events.fetch_add(count as u64, Relaxed);
        Ok(())
    }
}
