//! The numbers as Prometheus reads them, in the OpenMetrics text format.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry as Exposition, Unit},
};

use super::meters::{Histogram, LlmMeters, Meters};
use crate::{
    auth::Principal,
    error::{Error, Result},
    rbac::Action,
    registry::Registry,
    resource::kinds,
};

/// What one reader gets to see.
#[derive(Debug)]
struct Shown {
    llms: Vec<Arc<LlmMeters>>,
    shed: u64,
    audit_queue: u64,
    store_age_seconds: f64,
    sealed: bool,
    revision: i64,
}

/// The numbers of the Llms that `who` may view, and of the process.
///
/// # Errors
///
/// Internal, when the text cannot be written.
pub(super) fn expose(registry: &Registry, meters: &Meters, who: &Principal) -> Result<String> {
    let snapshot = registry.snapshot();
    let llms = snapshot.shelf(kinds::LLMS);
    let visible = |id: &crate::resource::Id| {
        let view = registry.permission(Action::View, kinds::LLMS, id.as_str());
        llms.get(id).is_some() && who.grants().decide(&view).allowed()
    };
    let shown = Shown {
        llms: meters.select(|id| llms.get(id).is_some(), visible),
        shed: meters.shed.load(Relaxed),
        audit_queue: registry.audit().waiting() as u64,
        store_age_seconds: registry.staleness().as_secs_f64(),
        sealed: registry.is_sealed(),
        revision: snapshot.revision(),
    };
    let mut exposition = Exposition::with_prefix("mcpctl");
    exposition.register_collector(Box::new(shown));
    let mut text = String::new();
    encode(&mut text, &exposition).map_err(Error::internal)?;
    Ok(text)
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_calls(&mut encoder)?;
        self.encode_lines(&mut encoder)?;
        self.encode_tokens(&mut encoder)?;
        let gauges = [
            (
                "audit_queue_events",
                "Audit events that wait to be written, and places taken by running calls",
                self.audit_queue,
            ),
            ("sealed", "Whether the master key does not fit the stored values", u64::from(self.sealed)),
        ];
        for (name, help, value) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let revision = "The store's revision that is being served";
        encoder
            .encode_descriptor("store_revision", revision, None, MetricType::Gauge)?
            .encode_gauge(&self.revision)?;
        let age = "The time since the store was last known to agree with memory";
        let mut store_age =
            encoder.encode_descriptor("store_age", age, Some(&Unit::Seconds), MetricType::Gauge)?;
        store_age.encode_gauge(&self.store_age_seconds)?;
        let shed = "Calls refused because too many were in flight, of all Llms";
        let mut shed_total = encoder.encode_descriptor("shed", shed, None, MetricType::Counter)?;
        shed_total.encode_counter::<NoLabelSet, _, u64>(&self.shed, None)
    }
}

impl Shown {
    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls that have ended, by Llm and status";
        let mut requests =
            encoder.encode_descriptor("inference_requests", help, None, MetricType::Counter)?;
        for llm in &self.llms {
            for (status, count) in llm.by_status() {
                let status = status.to_string();
                let labels = [("llm", llm.name.as_str()), ("status", status.as_str())];
                requests.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let help = "Calls that have begun and not ended, those in line included";
        let mut in_flight =
            encoder.encode_descriptor("inference_in_flight", help, None, MetricType::Gauge)?;
        for llm in &self.llms {
            in_flight.encode_family(&label(llm))?.encode_gauge(&llm.in_flight.load(Relaxed))?;
        }
        let help = "From a request's arrival to its answer's end";
        let mut family = encoder.encode_descriptor(
            "inference_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for llm in &self.llms {
            encode_histogram(&mut family, llm, &llm.duration)?;
        }
        let help = "From a request's arrival to its answer's first byte";
        let mut family = encoder.encode_descriptor(
            "inference_first_byte",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for llm in &self.llms {
            encode_histogram(&mut family, llm, &llm.first_byte)?;
        }
        Ok(())
    }

    /// Who waits for a place, who had to, and who was refused.
    fn encode_lines(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls in line for a place";
        let mut waiting = encoder.encode_descriptor("inference_waiting", help, None, MetricType::Gauge)?;
        for llm in &self.llms {
            waiting.encode_family(&label(llm))?.encode_gauge(&llm.waiting.load(Relaxed))?;
        }
        let help = "Calls that had to wait in line, by Llm and whose limit they met";
        let mut queued = encoder.encode_descriptor("inference_queued", help, None, MetricType::Counter)?;
        for llm in &self.llms {
            for (limit, count) in llm.by_limit() {
                let labels = [("llm", llm.name.as_str()), ("limit", limit)];
                queued.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let help = "Calls refused because too many were in flight, by Llm, whose limit they met, and why";
        let mut shed = encoder.encode_descriptor("inference_shed", help, None, MetricType::Counter)?;
        for llm in &self.llms {
            for ([limit, reason], count) in llm.by_shed() {
                let labels = [("llm", llm.name.as_str()), ("limit", limit), ("reason", reason)];
                shed.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn encode_tokens(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Tokens, by Llm and sort; cached ones are prompt ones too";
        let mut tokens = encoder.encode_descriptor("inference_tokens", help, None, MetricType::Counter)?;
        for llm in &self.llms {
            let sorts = [
                ("prompt", &llm.prompt_tokens),
                ("completion", &llm.completion_tokens),
                ("cached", &llm.cached_tokens),
            ];
            for (sort, count) in sorts {
                let labels = [("llm", llm.name.as_str()), ("sort", sort)];
                tokens
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count.load(Relaxed), None)?;
            }
        }
        let help = "Bytes of answers";
        let mut bytes =
            encoder.encode_descriptor("inference_answer", help, Some(&Unit::Bytes), MetricType::Counter)?;
        for llm in &self.llms {
            let count = llm.bytes_out.load(Relaxed);
            bytes.encode_family(&label(llm))?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

fn label(llm: &LlmMeters) -> [(&str, &str); 1] {
    [("llm", llm.name.as_str())]
}

fn encode_histogram(family: &mut MetricEncoder<'_>, llm: &LlmMeters, histogram: &Histogram) -> fmt::Result {
    let (sum, count, buckets) = histogram.read();
    family.encode_family(&label(llm))?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
