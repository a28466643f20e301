//! Connections to providers.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use crate::{
    error::{Error, Result},
    resource::is_metadata_address,
};

/// A pool of connections. Clones share it.
pub(super) type Client = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Why a request had no response.
pub(super) type Fault = legacy::Error;

/// Makes clients: one for each connect timeout in use, since that is a property of the connector.
pub(super) struct Transport {
    tls: ClientConfig,
    clients: Mutex<HashMap<Duration, Client>>,
}

/// How long a connection may be idle before it is closed.
const IDLE: Duration = Duration::from_secs(60);

impl Transport {
    pub(super) fn new() -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(Error::internal)
        };
        let tls = match builder()?.try_with_platform_verifier() {
            Ok(verified) => verified.with_no_client_auth(),
            Err(fault) => {
                // Plain http providers still work; https ones fail as untrusted.
                tracing::warn!(%fault, "this machine has no trusted certificates");
                builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            }
        };
        Ok(Self { tls, clients: Mutex::default() })
    }

    /// The same, with connections of its own.
    pub(super) fn with_own_connections(&self) -> Self {
        Self { tls: self.tls.clone(), clients: Mutex::default() }
    }

    /// The client whose connections must be there within `connect_timeout`.
    pub(super) fn client(&self, connect_timeout: Duration) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(connect_timeout).or_insert_with(|| self.build(connect_timeout)).clone()
    }

    fn build(&self, connect_timeout: Duration) -> Client {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector)
    }
}

/// The system's resolver, without the addresses that no provider has.
#[derive(Clone)]
pub(super) struct Resolver;

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_metadata_address(address.ip())) {
                return Err(io::Error::other("the host resolves to a link-local or metadata address"));
            }
            Ok(found.into_iter())
        })
    }
}

/// What went wrong with a connection, in words that are safe to show: no URL, no header.
pub(super) fn describe(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = fault;
    let mut io_fault = None;
    loop {
        if let Some(io) = innermost.downcast_ref::<io::Error>() {
            io_fault = Some(io.kind());
        }
        match innermost.source() {
            Some(next) => innermost = next,
            None => break,
        }
    }
    match io_fault {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "connection reset".to_owned(),
        Some(io::ErrorKind::TimedOut) => "connection timed out".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "connection closed early".to_owned(),
        _ => innermost.to_string(),
    }
}
