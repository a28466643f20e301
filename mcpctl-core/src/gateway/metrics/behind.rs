use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::write::{Family, counter, counters, gauge, gauges, histograms};
use crate::{gateway::transport::Connections, registry::Registry};

/// What happens behind requests: the store, the audit trail, connections to providers.
pub(super) struct Behind {
    registry: Registry,
    connections: Arc<Connections>,
}

impl Behind {
    pub(super) fn read(registry: &Registry, connections: &Arc<Connections>) -> Self {
        Self { registry: registry.clone(), connections: connections.clone() }
    }
}

impl fmt::Debug for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind").finish_non_exhaustive()
    }
}

impl Collector for Behind {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_connections(&mut encoder)?;
        self.encode_audit(&mut encoder)?;
        self.encode_store(&mut encoder)
    }
}

impl Behind {
    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Connections { plain, tls } = &*self.connections;
        let sorts = || [([("scheme", "http")], plain), ([("scheme", "https")], tls)].into_iter();
        let family = Family::new("provider_connections", "Connections to providers that are open");
        gauges(encoder, family, sorts().map(|(scheme, counts)| (scheme, counts.open.load(Relaxed))))?;
        let help = "Connections to providers that wait for a request; one of HTTP/2 never does";
        let family = Family::new("provider_connections_idle", help);
        gauges(encoder, family, sorts().map(|(scheme, counts)| (scheme, counts.idle.load(Relaxed))))?;
        let family = Family::new("provider_connects", "Connections to providers that were made");
        counters(encoder, family, sorts().map(|(scheme, counts)| (scheme, counts.connects.load(Relaxed))))?;
        let family = Family::new("provider_connect_failures", "Connections to providers that failed");
        counters(encoder, family, sorts().map(|(scheme, counts)| (scheme, counts.failures.load(Relaxed))))
    }

    fn encode_audit(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Audit events that wait to be written, and places taken by running calls";
        let waiting = self.registry.audit().waiting() as u64;
        gauge(encoder, Family::new("audit_queue_events", help), &waiting)?;
        let audit = &self.registry.meters().audit;
        let help = "Audit events that were written from the queue";
        counter(encoder, Family::new("audit_events_written", help), audit.events.load(Relaxed))?;
        let (ok, failed) = (audit.writes.ok.load(Relaxed), audit.writes.failed.load(Relaxed));
        let help = "Writes of audit events, each of many, by result; what failed is tried again";
        let results = [([("result", "ok")], ok), ([("result", "error")], failed)];
        counters(encoder, Family::new("audit_writes", help), results)?;
        let help = "Audit events that were deleted, past their retention";
        counter(encoder, Family::new("audit_events_deleted", help), audit.deleted.load(Relaxed))?;
        let help = "Audit events that were left out of the copy of the trail";
        counter(encoder, Family::new("audit_copy_left_out", help), audit.left_out.load(Relaxed))?;
        let family = Family::seconds("audit_write_duration", "How long writes of audit events took");
        histograms(encoder, family, [([], &audit.writes.duration)])
    }

    fn encode_store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let registry = &self.registry;
        let sealed = u64::from(registry.is_sealed());
        let help = "Whether the master key does not fit the stored values";
        gauge(encoder, Family::new("sealed", help), &sealed)?;
        let help = "The store's revision that is being served";
        gauge(encoder, Family::new("store_revision", help), &registry.snapshot().revision())?;
        let help = "The time since the store was last known to agree with memory";
        gauge(encoder, Family::seconds("store_age", help), &registry.staleness().as_secs_f64())?;
        let meters = registry.meters();
        let help = "Looks at the store for changes of others that failed";
        let failures = meters.poll_failures.load(Relaxed);
        counter(encoder, Family::new("store_poll_failures", help), failures)?;
        let operations = meters.store.all();
        let results = operations.iter().flat_map(|(name, operation)| {
            [("ok", &operation.ok), ("error", &operation.failed)]
                .map(|(result, count)| ([("operation", *name), ("result", result)], count.load(Relaxed)))
        });
        let family = Family::new("store_operations", "Operations of the store, by name and result");
        counters(encoder, family, results)?;
        // Those that have happened: a histogram is many lines.
        let happened = operations.iter().filter(|(_, operation)| operation.happened());
        let durations = happened.map(|(name, operation)| ([("operation", *name)], &operation.duration));
        let family = Family::seconds("store_operation_duration", "How long operations of the store took");
        histograms(encoder, family, durations)
    }
}
