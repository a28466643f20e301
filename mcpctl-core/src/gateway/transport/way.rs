//! Which way leads to a provider.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};

use super::{
    counted::{Connections, CountedConnector},
    resolver::Resolver,
    upstream::{self, Connector, Upstream, UpstreamBody},
};
use crate::error::{Error, Result};

/// The way to a provider.
pub(in crate::gateway) enum Way {
    /// Plain HTTP/1.1.
    Plain(Box<Upstream>),
    /// TLS, and HTTP/2 where the provider has it.
    Tls(Box<Client>),
}

/// A pool of connections with TLS. Clones share it.
type Client = legacy::Client<CountedConnector<HttpsConnector<Connector>>, Full<Bytes>>;

/// Why a request had no response: whether there was a connection, and what went wrong, fit to be shown.
pub(in crate::gateway) struct Fault {
    pub(in crate::gateway) is_connect: bool,
    pub(in crate::gateway) what: String,
}

/// The body of a provider's answer.
pub(in crate::gateway) enum ProviderBody {
    Plain(UpstreamBody),
    Tls(Incoming),
}

/// Makes ways to providers. Those with TLS share a client for each connect timeout in use, since that is a property
/// of the connector.
pub(in crate::gateway) struct Transport {
    tls: ClientConfig,
    clients: Mutex<HashMap<Duration, Client>>,
    connections: Arc<Connections>,
}

/// How long a connection may be idle before it is closed.
const IDLE: Duration = Duration::from_secs(60);

impl Transport {
    pub(in crate::gateway) fn new() -> Result<Self> {
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
        Ok(Self { tls, clients: Mutex::default(), connections: Arc::default() })
    }

    /// The same, with connections of its own.
    pub(in crate::gateway) fn with_own_connections(&self) -> Self {
        Self { tls: self.tls.clone(), clients: Mutex::default(), connections: self.connections.clone() }
    }

    /// What connections there are, those of the same gateway on other threads included.
    pub(in crate::gateway) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// The way to `uri`, whose connections must be there within `connect_timeout`.
    pub(in crate::gateway) fn way(&self, uri: &Uri, connect_timeout: Duration) -> Way {
        if uri.scheme() == Some(&Scheme::HTTP)
            && let Some(upstream) = Upstream::new(uri, connector(connect_timeout))
        {
            return Way::Plain(Box::new(upstream.counted(self.connections.clone())));
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(connect_timeout).or_insert_with(|| self.client(connect_timeout));
        Way::Tls(Box::new(client.clone()))
    }

    fn client(&self, connect_timeout: Duration) -> Client {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector(connect_timeout));
        legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(CountedConnector::new(connector, self.connections.clone()))
    }
}

fn connector(connect_timeout: Duration) -> Connector {
    let mut tcp = HttpConnector::new_with_resolver(Resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp
}

impl Way {
    /// Sends a request, and returns its answer as soon as the head is there.
    pub(in crate::gateway) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ProviderBody>, Fault> {
        match self {
            Self::Plain(upstream) => match upstream.send(request).await {
                Ok(response) => Ok(response.map(ProviderBody::Plain)),
                Err(upstream::Fault::Connect(fault)) => {
                    Err(Fault { is_connect: true, what: describe(&*fault) })
                }
                Err(upstream::Fault::Exchange(fault)) => {
                    Err(Fault { is_connect: false, what: describe(&fault) })
                }
            },
            Self::Tls(client) => match client.request(request).await {
                Ok(response) => Ok(response.map(ProviderBody::Tls)),
                Err(fault) => Err(Fault { is_connect: fault.is_connect(), what: describe(&fault) }),
            },
        }
    }
}

/// How long the formal end of an answer may take once all of its content is there.
const LEAVE: Duration = Duration::from_millis(500);

impl ProviderBody {
    /// Nothing more of the content is wanted. When the answer's formal end is there too, or comes in a moment, the
    /// connection serves another request; else it is closed.
    pub(in crate::gateway) fn leave(mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if Pin::new(&mut self).poll_frame(&mut context).is_pending() {
            tokio::spawn(async move {
                let end = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx));
                // Whatever comes, and if nothing does: the body is dropped here.
                let _ = tokio::time::timeout(LEAVE, end).await;
            });
        }
    }
}

impl Body for ProviderBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Tls(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Tls(body) => body.size_hint(),
        }
    }
}

/// What went wrong with a connection, in words that are safe to show: no URL, no header.
pub(in crate::gateway) fn describe(fault: &(dyn std::error::Error + 'static)) -> String {
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
