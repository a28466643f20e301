//! Sending spans to a collector, behind the requests: what fails here is said once and costs no request anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mcpctl_core::{Error, Result};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

/// The longest answer of a collector that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends the batches of an exporter over HTTP, on a runtime: the thread that exports has none.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

impl Sender {
    pub(super) fn new(runtime: Handle, timeout: Duration) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(Error::internal)
        };
        let tls = match builder()?.try_with_platform_verifier() {
            Ok(verified) => verified.with_no_client_auth(),
            // A machine without trusted certificates can still have a collector without TLS.
            Err(_) => builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), runtime, timeout })
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let sent = self.runtime.spawn(async move {
            let exchange = async {
                let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
                Ok(Response::from_parts(head, body))
            };
            tokio::time::timeout(timeout, exchange).await?
        });
        sent.await?
    }
}

/// Exports spans with another exporter, and says once when that fails and once when it works again.
#[derive(Debug)]
pub(super) struct Exporter<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E> Exporter<E> {
    pub(super) fn new(inner: E) -> Self {
        Self { inner, failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Exporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            span.attributes.iter_mut().for_each(make_list);
        }
        match self.inner.export(batch).await {
            Ok(()) => {
                if self.failing.swap(false, Relaxed) {
                    tracing::info!("traces are exported again");
                }
            }
            Err(fault) => {
                if !self.failing.swap(true, Relaxed) {
                    tracing::warn!(%fault, "traces cannot be exported, and are dropped until they can");
                }
            }
        }
        // It has been dealt with: the caller would log every batch.
        Ok(())
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The conventions have a list here, which fields of `tracing` cannot be.
fn make_list(attribute: &mut KeyValue) {
    if attribute.key.as_str() == "gen_ai.response.finish_reasons"
        && let Value::String(reason) = &attribute.value
    {
        let reasons: Vec<StringValue> = vec![reason.clone()];
        attribute.value = Value::Array(Array::String(reasons));
    }
}
