//! Which way leads to a provider.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, RootCertStore};

use super::{
    counted::Connections,
    program::{self, GeminiProgram, RunBody, Runner, is_late},
    upstream::{self, HTTP2, Upstream, UpstreamBody},
};
use crate::{
    error::{Error, Result},
    net::describe,
};

/// The way to a provider.
pub(in crate::gateway) enum Way {
    /// Connections, shared with other Llms at the same host.
    Http(Arc<Upstream>),
    /// A program.
    Program(Box<Runner>),
}

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
    Http(UpstreamBody),
    Program(Box<RunBody>),
}

/// Makes ways to providers.
pub(in crate::gateway) struct Transport {
    tls: Arc<ClientConfig>,
    /// Those in use, by scheme and host, and by the connect timeout, which is a property of connections.
    upstreams: Mutex<HashMap<(Uri, Duration), Weak<Upstream>>>,
    connections: Arc<Connections>,
    gemini: Option<Arc<GeminiProgram>>,
}

impl Transport {
    pub(in crate::gateway) fn new(gemini: Option<GeminiProgram>) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(Error::internal)
        };
        let mut tls = match builder()?.try_with_platform_verifier() {
            Ok(verified) => verified.with_no_client_auth(),
            Err(fault) => {
                // Plain http providers still work; https ones fail as untrusted.
                tracing::warn!(%fault, "this machine has no trusted certificates");
                builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            }
        };
        tls.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        let (upstreams, connections, gemini) = (Mutex::default(), Arc::default(), gemini.map(Arc::new));
        Ok(Self { tls: Arc::new(tls), upstreams, connections, gemini })
    }

    /// The same, with connections of its own.
    pub(in crate::gateway) fn with_own_connections(&self) -> Self {
        let (tls, connections, gemini) = (self.tls.clone(), self.connections.clone(), self.gemini.clone());
        Self { tls, upstreams: Mutex::default(), connections, gemini }
    }

    /// What connections there are, those of the same gateway on other threads included.
    pub(in crate::gateway) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// The way to the host of `uri`, whose connections must be there within `connect_timeout`.
    ///
    /// # Errors
    ///
    /// Internal, when the address has no host.
    pub(in crate::gateway) fn way(&self, uri: &Uri, connect_timeout: Duration) -> Result<Way> {
        let mut origin = uri.clone().into_parts();
        origin.path_and_query = Some(PathAndQuery::from_static("/"));
        let origin = Uri::from_parts(origin).map_err(Error::internal)?;
        let key = (origin, connect_timeout);
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = upstreams.get(&key).and_then(Weak::upgrade) {
            return Ok(Way::Http(known));
        }
        let made = Upstream::new(&key.0, connect_timeout, self.tls.clone(), self.connections.clone());
        let made = Arc::new(made.ok_or_else(|| Error::internal("an address without a host"))?);
        // Those that no Llm has any more go.
        upstreams.retain(|_, upstream| upstream.strong_count() > 0);
        upstreams.insert(key, Arc::downgrade(&made));
        Ok(Way::Http(made))
    }

    /// The way to the `gemini` program, each run of which lasts for `timeout` at most; `None` without that program.
    pub(in crate::gateway) fn way_to_gemini(&self, timeout: Duration) -> Option<Way> {
        self.gemini.clone().map(|program| Way::Program(Box::new(Runner::new(program, timeout))))
    }
}

impl Way {
    /// Sends a request, and returns its answer as soon as the head is there.
    pub(in crate::gateway) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ProviderBody>, Fault> {
        match self {
            Self::Http(upstream) => match upstream.send(request).await {
                Ok(response) => Ok(response.map(ProviderBody::Http)),
                Err(upstream::Fault::Connect(fault)) => {
                    Err(Fault { kind: FaultKind::Connect, what: describe(&*fault) })
                }
                Err(upstream::Fault::Exchange(fault)) => {
                    Err(Fault { kind: FaultKind::Exchange, what: describe(&fault) })
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
        Poll::Ready(match self.get_mut() {
            Self::Http(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BrokenOff::Http))
            }
            Self::Program(body) => {
                ready!(Pin::new(&mut **body).poll_frame(cx)).map(|frame| frame.map_err(BrokenOff::Program))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Program(_) => SizeHint::default(),
        }
    }
}
