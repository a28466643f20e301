//! From settings to a layer that records spans.

use std::time::Duration;

use mcpctl_core::{Error, Result, gateway::SPANS};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};
use url::Url;

use super::export::{Exporter, Sender};
use crate::Config;

/// How long a collector may take, unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last spans may take when the server stops.
const FLUSH: Duration = Duration::from_secs(5);

/// Traces that are exported, until it is [stopped](Self::stop).
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Starts exporting to the collector that `config` or the environment names, on `runtime`; `None` when neither
    /// names one.
    ///
    /// Besides those in [`Config`], the environment variables of OpenTelemetry's SDKs are heeded:
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and `…_TIMEOUT`, `OTEL_SERVICE_NAME`,
    /// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `…_ARG`, `OTEL_BSP_…`, `OTEL_SDK_DISABLED`.
    ///
    /// # Errors
    ///
    /// Invalid, when the address of the collector or another of these cannot be used.
    pub fn start(config: &Config, runtime: &Handle) -> Result<Option<Self>> {
        if variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let Some(endpoint) = endpoint(config)? else { return Ok(None) };
        let timeout = timeout();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender::new(runtime.clone(), timeout)?)
            .with_endpoint(endpoint)
            .with_timeout(timeout)
            .build()
            .map_err(|fault| Error::invalid(format!("traces cannot be exported: {fault}")))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Exporter::new(exporter))
            .with_resource(resource())
            .build();
        Ok(Some(Self(provider)))
    }

    /// What records spans: those that were made for it, and none that a library makes for its own purposes.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("mcpctl"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS))
    }

    /// Sends what has not been sent, for as long as that may take. Blocks.
    pub fn stop(self) {
        if let Err(fault) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%fault, "the last traces were not exported");
        }
    }
}

/// Where spans go: the address for traces as it is, or the collector's with the path that the protocol says.
fn endpoint(config: &Config) -> Result<Option<String>> {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    if let Some(endpoint) = variable(TRACES) {
        return check(TRACES, &endpoint).map(|url| Some(url.into()));
    }
    let Some(base) = config.otlp_endpoint.as_deref().filter(|base| !base.is_empty()) else { return Ok(None) };
    let mut url = check("--otlp-endpoint", base)?;
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(Some(url.into()))
}

/// Never shows the URL: it may hold a password.
fn check(name: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| Error::invalid(format!("{name}: must be a URL such as http://localhost:4318")))
}

fn timeout() -> Duration {
    let text =
        variable("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| variable("OTEL_EXPORTER_OTLP_TIMEOUT"));
    text.and_then(|text| text.parse().ok()).map_or(TIMEOUT, Duration::from_millis)
}

fn resource() -> Resource {
    let builder = Resource::builder_empty()
        .with_service_name("mcpctl-server")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}

/// A variable of the environment. An empty one counts as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn endpoint_of(flag: &str) -> Result<Option<String>> {
        endpoint(&Config::parse_from(["mcpctl-server", "--otlp-endpoint", flag]))
    }

    #[test]
    fn the_path_of_the_protocol_is_added() {
        for (flag, expected) in [
            ("http://localhost:4318", Some("http://localhost:4318/v1/traces")),
            ("http://localhost:4318/", Some("http://localhost:4318/v1/traces")),
            ("https://c.example/otlp/", Some("https://c.example/otlp/v1/traces")),
            ("", None),
        ] {
            assert_eq!(endpoint_of(flag).unwrap().as_deref(), expected, "{flag}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for flag in ["localhost:4318", "ftp://user:pass-word@h", "http://", "pass-word"] {
            let error = endpoint_of(flag).unwrap_err();
            assert!(error.message().starts_with("--otlp-endpoint: "), "{flag}");
            assert!(!error.message().contains("pass-word"), "{flag}");
        }
    }
}
