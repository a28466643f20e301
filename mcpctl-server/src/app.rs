//! From a request to a response.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    HeaderMap, Request, Response, Version,
    body::Incoming,
    header::{CONNECTION, EXPECT, HeaderValue},
};
use mcpctl_core::{Error, ErrorKind, Principal, Registry, gateway::Gateway, rbac::Permission};
use tokio::sync::{Semaphore, watch};
use tracing::{Instrument as _, Span};

use crate::{
    handlers,
    request::{Input, bearer, bearer_or_key, decode_segment, finish_body, request_id},
    respond::{Body, Dialect, Refusal, X_REQUEST_ID},
    routes::{Access, Endpoint, Match, Route, Table},
    telemetry,
};

/// What answers requests: a registry and a gateway behind the table of routes.
pub struct App {
    pub(crate) registry: Registry,
    pub(crate) gateway: Gateway,
    /// How long a request's body may take to arrive.
    pub(crate) body_timeout: Duration,
    /// Whether the server is to stop: what would go on for ever ends then.
    pub(crate) stopping: watch::Sender<bool>,
    /// Who may watch: each change costs every one who does, so there are only so many.
    pub(crate) watchers: Arc<Semaphore>,
    table: Arc<Table>,
}

/// What a handler knows of a request besides its body.
pub(crate) struct Call<'a> {
    /// The `{name}` in the path; empty where the route has none.
    pub(crate) name: String,
    /// The request's id.
    pub(crate) request_id: &'a str,
    /// Where the request comes from.
    pub(crate) peer: IpAddr,
}

/// The user that a request is done for, by e-mail address: as Kubernetes has it.
const IMPERSONATE_USER: &str = "impersonate-user";

/// Clients at once that watch resources.
const MAX_WATCHERS: usize = 1000;

const BODY_TIMEOUT: Duration = Duration::from_secs(60);

impl App {
    /// An app over a registry and a gateway.
    ///
    /// # Errors
    ///
    /// Internal, when the table of routes contradicts itself.
    pub fn new(registry: Registry, gateway: Gateway) -> mcpctl_core::Result<Self> {
        let table = Arc::new(Table::new().map_err(Error::internal)?);
        let (stopping, watchers) = (watch::Sender::default(), Arc::new(Semaphore::new(MAX_WATCHERS)));
        Ok(Self { registry, gateway, table, body_timeout: BODY_TIMEOUT, stopping, watchers })
    }

    /// The same app, with another limit for how long a request's body may take to arrive, which is 60 seconds.
    #[must_use]
    pub fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// The same app with provider connections of its own, for a thread of its own.
    pub(crate) fn with_own_connections(&self) -> Self {
        let (registry, gateway) = (self.registry.clone(), self.gateway.with_own_connections());
        let (stopping, watchers) = (watch::Sender::default(), self.watchers.clone());
        Self {
            registry,
            gateway,
            table: self.table.clone(),
            body_timeout: self.body_timeout,
            stopping,
            watchers,
        }
    }

    /// Answers a request. Never fails: a failure is a response too.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Infallible> {
        let id = request_id(request.headers());
        let dialect = Dialect::of_path(request.uri().path());
        // Clones of these share their text.
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let old_http = request.version() < Version::HTTP_2;
        let waits = request.headers().contains_key(EXPECT);
        let span = telemetry::request_span(&method, request.headers(), &id);
        let (parts, mut body) = request.into_parts();
        let input = Request::from_parts(parts, &mut body);
        let answer = self.answer(input, uri.path(), id.to_str().unwrap_or_default(), peer, &span);
        let answer = answer.instrument(span.clone()).await;
        let mut response = answer.unwrap_or_else(|refusal| refusal.into_response(dialect));
        telemetry::answered(&span, response.status());
        if old_http && !finish_body(&mut body, waits).await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        tracing::debug!(
            request_id = id.to_str().unwrap_or_default(),
            %method, path = uri.path(), status = response.status().as_u16(), "answered"
        );
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
        Ok(response)
    }

    async fn answer(
        &self,
        request: Input<'_>,
        path: &str,
        id: &str,
        peer: IpAddr,
        span: &Span,
    ) -> Result<Response<Body>, Refusal> {
        let (route, name) = match self.table.find(request.method(), path) {
            Match::Found(route, name) => (route, name),
            Match::WrongMethod(allow) => return Err(Refusal::wrong_method(&allow)),
            Match::Unknown => return Err(Refusal::not_found()),
        };
        telemetry::routed(span, request.method(), route);
        let call = Call { name: decode_segment(name.unwrap_or_default())?, request_id: id, peer };
        if route.access == Access::Open {
            return Box::pin(self.answer_open(route, &call, request)).await;
        }
        self.check_sealed()?;
        let mut who = self.authenticate(route.endpoint, request.headers(), id)?;
        if request.headers().contains_key(IMPERSONATE_USER) {
            who = Box::pin(self.impersonate(who, &request)).await?;
        }
        self.authorise(&who, route.access, &call.name).await?;
        handlers::dispatch(self, route.endpoint, &who, &call, request).await
    }

    async fn answer_open(
        &self,
        route: &Route,
        call: &Call<'_>,
        request: Input<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if matches!(route.endpoint, Endpoint::Login | Endpoint::Keys) {
            self.check_sealed()?;
        }
        handlers::dispatch_open(self, route.endpoint, call, request).await
    }

    /// With the wrong master key nothing is served: half a service would only hide the mistake.
    fn check_sealed(&self) -> Result<(), Refusal> {
        if self.registry.is_sealed() {
            let message = "the server is sealed: its master key does not fit the stored secrets; \
                           start it with the right MCPCTL_MASTER_KEY or key file";
            return Err(Error::new(ErrorKind::Sealed, message).into());
        }
        Ok(())
    }

    fn authenticate(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        request_id: &str,
    ) -> Result<Principal, Refusal> {
        // A missing token is looked up like a wrong one: the answers are alike, also in time.
        let token = if endpoint.is_anthropic() { bearer_or_key(headers) } else { bearer(headers) };
        let token = token.unwrap_or_default();
        Ok(self.registry.authenticate(token, Some(request_id))?)
    }

    async fn impersonate(&self, who: Principal, request: &Input<'_>) -> Result<Principal, Refusal> {
        let mut users = request.headers().get_all(IMPERSONATE_USER).iter();
        let user = users.next().and_then(|user| user.to_str().ok()).filter(|_| users.next().is_none());
        let user =
            user.ok_or_else(|| Error::invalid("Impersonate-User: must be one user's e-mail address"))?;
        let what = format!("{} {}", request.method(), request.uri().path());
        Ok(self.registry.impersonate(who, user, &what).await?)
    }

    /// Decides from the route and the path alone, before the body is read.
    async fn authorise(&self, who: &Principal, access: Access, name: &str) -> Result<(), Refusal> {
        match access {
            Access::Open | Access::Authenticated | Access::Model | Access::ProjectLlm => Ok(()),
            Access::List(kind) => Ok(self.registry.require_list(who, kind).await?),
            Access::Kind(action, kind) => {
                Ok(self.registry.require(who, &Permission::Kind(action, kind)).await?)
            }
            Access::Resource(action, kind) => Ok(self.registry.require_on(who, action, kind, name).await?),
            Access::Operation(operation) => {
                Ok(self.registry.require(who, &Permission::Operation(operation)).await?)
            }
        }
    }
}
