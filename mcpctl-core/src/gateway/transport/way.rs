//! Which way leads to a provider.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
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
    program::{self, GeminiProgram, RunBody, Runner, is_late},
    resolver::Resolver,
    upstream::{self, Connector, Upstream, UpstreamBody},
};
use crate::{
    error::{Error, Result},
    net::describe,
};

/// The way to a provider.
pub(in crate::gateway) enum Way {
    /// Plain HTTP/1.1.
    Plain(Box<Upstream>),
    /// TLS, and HTTP/2 where the provider has it.
    Tls(Box<Client>),
    /// A program.
    Program(Box<Runner>),
}

/// A pool of connections with TLS. Clones share it.
type Client = legacy::Client<CountedConnector<HttpsConnector<Connector>>, Full<Bytes>>;

/// Why a request had no response: how far it came, and what went wrong, fit to be shown.
pub(in crate::gateway) struct Fault {
    pub(in crate::gateway) kind: FaultKind,
    pub(in crate::gateway) what: String,
}

/// How far a request came that had no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum FaultKind {
    /// There was no connection.
    Connect,
    /// It was sent, perhaps.
    Exchange,
    /// The program that would answer is not there.
    Missing,
    /// It was answered too late.
    Late,
}

/// Why a provider's answer broke off.
#[derive(Debug)]
pub(in crate::gateway) enum BrokenOff {
    Http(hyper::Error),
    Program(io::Error),
}

impl BrokenOff {
    /// Whether the time was up.
    pub(in crate::gateway) fn is_late(&self) -> bool {
        matches!(self, Self::Program(fault) if is_late(fault))
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(fault) => fault.fmt(f),
            Self::Program(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for BrokenOff {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http(fault) => Some(fault),
            Self::Program(fault) => Some(fault),
        }
    }
}

/// The body of a provider's answer.
pub(in crate::gateway) enum ProviderBody {
    Plain(UpstreamBody),
    Tls(Incoming),
    Program(Box<RunBody>),
}

/// Makes ways to providers. Those with TLS share a client for each connect timeout in use, since that is a property
/// of the connector.
pub(in crate::gateway) struct Transport {
    tls: ClientConfig,
    clients: Mutex<HashMap<Duration, Client>>,
    connections: Arc<Connections>,
    gemini: Option<Arc<GeminiProgram>>,
}

/// How long a connection may be idle before it is closed.
const IDLE: Duration = Duration::from_secs(60);

impl Transport {
    pub(in crate::gateway) fn new(gemini: Option<GeminiProgram>) -> Result<Self> {
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
        let (clients, connections, gemini) = (Mutex::default(), Arc::default(), gemini.map(Arc::new));
        Ok(Self { tls, clients, connections, gemini })
    }

    /// The same, with connections of its own.
    pub(in crate::gateway) fn with_own_connections(&self) -> Self {
        let (tls, connections, gemini) = (self.tls.clone(), self.connections.clone(), self.gemini.clone());
        Self { tls, clients: Mutex::default(), connections, gemini }
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

    /// The way to the `gemini` program, each run of which lasts for `timeout` at most; `None` without that program.
    pub(in crate::gateway) fn way_to_gemini(&self, timeout: Duration) -> Option<Way> {
        self.gemini.clone().map(|program| Way::Program(Box::new(Runner::new(program, timeout))))
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
                    Err(Fault { kind: FaultKind::Connect, what: describe(&*fault) })
                }
                Err(upstream::Fault::Exchange(fault)) => {
                    Err(Fault { kind: FaultKind::Exchange, what: describe(&fault) })
                }
            },
            Self::Tls(client) => match client.request(request).await {
                Ok(response) => Ok(response.map(ProviderBody::Tls)),
                Err(fault) => {
                    let kind = if fault.is_connect() { FaultKind::Connect } else { FaultKind::Exchange };
                    Err(Fault { kind, what: describe(&fault) })
                }
            },
            // A box of its own: a call over HTTP carries nothing of it.
            Self::Program(runner) => match Box::pin(runner.run(request)).await {
                Ok(response) => Ok(response.map(|body| ProviderBody::Program(Box::new(body)))),
                Err(program::Fault::Missing) => Err(Fault { kind: FaultKind::Missing, what: String::new() }),
                Err(program::Fault::Late) => Err(Fault { kind: FaultKind::Late, what: String::new() }),
                Err(program::Fault::Broken(what)) => Err(Fault { kind: FaultKind::Exchange, what }),
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
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let over_http = match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Tls(body) => Pin::new(body).poll_frame(cx),
            Self::Program(body) => {
                let frame = ready!(Pin::new(&mut **body).poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(BrokenOff::Program)));
            }
        };
        over_http.map(|frame| frame.map(|frame| frame.map_err(BrokenOff::Http)))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Tls(body) => body.size_hint(),
            Self::Program(_) => SizeHint::default(),
        }
    }
}
