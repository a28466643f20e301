//! The audit trail: events go through a bounded queue to a sink, in batches, off the request path.

mod copy;
mod file;
mod measured;
mod queue;
mod retention;

use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use copy::Copier;
pub use file::FileSink;
pub(crate) use measured::{AuditMeters, MeasuredSink};
pub use queue::{AuditMode, AuditPermit, AuditQueue, Receipt};
pub(crate) use retention::forget_old;

use crate::{
    error::Result,
    resource::AuditEvent,
    store::{EventStore, Storage},
};

/// Where audit events go.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Keeps events, all or none; once this returns, they survive the end of the process. After an error the same
    /// events come again, so one that is there already must be left alone.
    ///
    /// # Errors
    ///
    /// Any: the queue tries again until it succeeds.
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()>;
}

/// The sink that keeps events in a store.
pub struct StoreSink(pub Arc<dyn Storage>);

#[async_trait]
impl AuditSink for StoreSink {
    async fn append(&self, events: Arc<[AuditEvent]>) -> Result<()> {
        EventStore::append(&*self.0, events).await
    }
}
