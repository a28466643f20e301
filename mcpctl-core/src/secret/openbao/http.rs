//! Requests to OpenBao and their answers: the destination, limits, and what can go wrong.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{
    Certificate, Client, Response,
    dns::{Name, Resolve, Resolving},
    redirect::Policy,
};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    error::{Error, ErrorKind, Result},
    net,
    resource::OpenBaoConfig,
    secret::{BackendFault, SecretValue},
};

/// The longest answer that is read. OpenBao itself takes 32 MiB at most.
const MAX_ANSWER: usize = 33 << 20;

/// Speaks to one OpenBao server.
pub(super) struct Http {
    client: Client,
    base: Url,
    namespace: Option<HeaderValue>,
}

/// What OpenBao answered, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// The addresses of OpenBao's host, which are not those of a cloud's metadata service.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = net::lookup(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = _> + Send>)
        })
    }
}

impl Http {
    pub(super) fn new(config: &OpenBaoConfig) -> Result<Self> {
        // Fails when the process has one already: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse(&config.url).map_err(|_| Error::invalid("config.url: is no URL"))?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let mut builder = Client::builder()
            .user_agent(concat!("mcpctl/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // Values go to the server that is named, and through nobody else's hands.
            .no_proxy()
            .dns_resolver(Arc::new(Resolver))
            .connect_timeout(timeout)
            .timeout(timeout)
            .tcp_nodelay(true);
        if base.scheme() == "http" {
            // No TLS will be spoken, so the machine's certificates need not be read, nor be there.
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = &config.ca_cert {
            let trusted = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| bad_certificate())?;
            builder = builder.tls_certs_only(trusted);
        }
        let client = builder.build().map_err(|cause| match config.ca_cert {
            Some(_) => bad_certificate().caused_by(cause),
            None => Error::internal(cause).context("preparing the HTTP client"),
        })?;
        let namespace = config.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| Error::invalid("config.namespace: fits no header"))?;
        Ok(Self { client, base, namespace })
    }

    /// Sends a request below `/v1` and reads the answer to its end.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretValue>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            let header = HeaderValue::from_str(token.expose().trim());
            let mut header = header
                .map_err(|_| fault(BackendFault::Permission, "its token has characters that no token has"))?;
            header.set_sensitive(true);
            request = request.header("x-vault-token", header);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace.clone());
        }
        if let Some(body) = body {
            request =
                request.header(header::CONTENT_TYPE, "application/json").body(Bytes::from_owner(Wiped(body)));
        }
        let response = request.send().await.map_err(|cause| self.unreachable(&cause))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(fault(
                BackendFault::Malformed,
                format!("it answered with a redirect ({}), which is not followed", status.as_u16()),
            ));
        }
        Ok(Answer { status, body: self.whole(response).await? })
    }

    async fn whole(&self, mut response: Response) -> Result<Zeroizing<Vec<u8>>> {
        let expected = response.content_length().and_then(|length| usize::try_from(length).ok());
        // Room for all of it from the start, so that no copy is left where it grew.
        let mut body = Zeroizing::new(Vec::with_capacity(expected.unwrap_or(4096).min(1 << 20)));
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.unreachable(&cause))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(fault(BackendFault::Malformed, "its answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, cause: &reqwest::Error) -> Error {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        if cause.is_timeout() {
            return fault(BackendFault::Timeout, format!("{host}:{port} has not answered in time"));
        }
        let what = net::describe(cause);
        fault(BackendFault::Unreachable, format!("{host}:{port} cannot be reached: {what}"))
    }
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(|_| no_answer())
    }

    /// The error texts in it. They are for decisions, and shown to nobody: they come from outside.
    pub(super) fn errors(&self) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Errors {
            #[serde(default)]
            errors: Vec<String>,
        }
        serde_json::from_slice::<Errors>(&self.body).map(|errors| errors.errors).unwrap_or_default()
    }

    /// The error that an unsuccessful status stands for.
    pub(super) fn failure(&self) -> Error {
        let says = |word: &str| self.errors().iter().any(|error| error.contains(word));
        match self.status.as_u16() {
            403 | 401 => fault(BackendFault::Permission, "permission denied (403)"),
            404 if says("no handler for route") => {
                fault(BackendFault::NotFound, "there is no secrets engine at its mount (404)")
            }
            404 => fault(BackendFault::NotFound, "nothing is stored there (404)"),
            400 if says("check-and-set") => changed(),
            503 if says("sealed") => fault(BackendFault::Sealed, "OpenBao is sealed (503)"),
            status => fault(BackendFault::Refused, format!("OpenBao answered {status}")),
        }
    }
}

fn bad_certificate() -> Error {
    Error::invalid("config.caCert: holds no valid certificate in PEM")
}

/// An error with the fault behind it.
pub(super) fn fault(fault: BackendFault, what: impl fmt::Display) -> Error {
    let kind = match fault {
        BackendFault::Changed => ErrorKind::Conflict,
        _ => ErrorKind::SecretUnavailable,
    };
    Error::new(kind, what.to_string()).caused_by(fault)
}

pub(super) fn no_answer() -> Error {
    fault(BackendFault::Malformed, "it answered something that is no answer of OpenBao's")
}

pub(super) fn changed() -> Error {
    fault(BackendFault::Changed, "something else is stored there that mcpctl has not written or not seen")
}

/// A body that is wiped once it is sent.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
