//! Families of numbers, written in one go.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::meter::Histogram;

/// A family's name, what it means, and its unit.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
}

impl Family {
    pub(super) const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None }
    }

    pub(super) const fn seconds(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: Some(Unit::Seconds) }
    }

    pub(super) const fn bytes(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: Some(Unit::Bytes) }
    }
}

/// A number that goes up and down.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    family: Family,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    let Family { name, help, unit } = family;
    encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(value)
}

/// A number that only grows.
pub(super) fn counter(encoder: &mut DescriptorEncoder<'_>, family: Family, value: u64) -> fmt::Result {
    let Family { name, help, unit } = family;
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// Numbers that go up and down, by label.
pub(super) fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    family: Family,
    values: impl IntoIterator<Item = ([(&'a str, &'a str); N], i64)>,
) -> fmt::Result {
    let Family { name, help, unit } = family;
    let mut metrics = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (labels, value) in values {
        metrics.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// Numbers that only grow, by label.
pub(super) fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    family: Family,
    values: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> fmt::Result {
    let Family { name, help, unit } = family;
    let mut metrics = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    for (labels, value) in values {
        metrics.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

/// Durations, by label.
pub(super) fn histograms<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    family: Family,
    values: impl IntoIterator<Item = ([(&'a str, &'a str); N], &'a Histogram)>,
) -> fmt::Result {
    let Family { name, help, unit } = family;
    let mut metrics = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
    for (labels, histogram) in values {
        let read = histogram.read();
        metrics.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            read.sum,
            read.count,
            &read.buckets,
            None,
        )?;
    }
    Ok(())
}
