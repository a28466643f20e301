//! The table of routes: what each request needs, and what answers it.
//!
//! Every route is here with its access, and nothing is answered that is not here. Tests walk the table, so it is
//! complete by construction.

use hyper::Method;
use matchit::Router;
use mcpctl_core::{
    adapter::Api,
    rbac::{Action, Operation},
    resource::{Kind, kinds},
};

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method. HEAD is answered wherever GET is.
    pub method: Method,
    /// The path; `{name}` stands for one segment.
    pub path: String,
    /// What a request needs.
    pub access: Access,
    /// What answers it.
    pub endpoint: Endpoint,
}

/// What a request needs before its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// A valid token.
    Authenticated,
    /// The right to see at least something of the kind.
    List(Kind),
    /// An action on the kind as a whole.
    Kind(Action, Kind),
    /// An action on the resource that the path names.
    Resource(Action, Kind),
    /// An operation.
    Operation(Operation),
    /// The right to run the Llm that the body names: checked as soon as its name is known.
    Model,
    /// The right to run the Llm that the project in the path leads to: checked as soon as it is known.
    ProjectLlm,
}

/// What answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The process is up.
    Healthz,
    /// The process can serve.
    Readyz,
    /// Which version this is.
    Version,
    /// What the API is, in OpenAPI.
    OpenApi,
    /// The numbers, for Prometheus.
    Metrics,
    /// Exchange a password for a token.
    Login,
    /// The keys that verify leases.
    Keys,
    /// End a session.
    Logout,
    /// Who the token stands for.
    Whoami,
    /// Whether something is allowed.
    CanI,
    /// Who may do something.
    WhoCan,
    /// Change one's own password.
    Password,
    /// The audit trail.
    AuditLogs,
    /// One event of it.
    AuditLog,
    /// Make and change many resources.
    Apply,
    /// The resources of a kind.
    List(Kind),
    /// Make a resource.
    Create(Kind),
    /// A resource.
    Get(Kind),
    /// Replace fields of a resource.
    Put(Kind),
    /// Merge into a resource.
    Patch(Kind),
    /// Delete a resource.
    Delete(Kind),
    /// Try a secret backend.
    TestBackend,
    /// Move Secrets to another backend.
    Migrate,
    /// Read everything.
    Backup,
    /// Write everything back.
    Restore,
    /// Ask the Llm in the path.
    CallNamed(Api),
    /// Ask the Llm in the body.
    Call(Api),
    /// Ask the Llm of the project in the path.
    CallProject,
    /// Where a project's reference to an Llm leads.
    ProjectLlm,
    /// The Llms that may be run, as OpenAI's API has it.
    Models,
    /// One of them.
    Model,
    /// The same as a list of one, for clients that are bound to it.
    ModelsOf,
}

/// What a call needs whose path names the Llm.
const RUN: Access = Access::Resource(Action::Run, kinds::LLMS);

const MIGRATE: &str = "/api/v1/secrets/migrate";
const NAMED_SECRET: &str = "/api/v1/secrets/{name}";
const EDIT_BACKEND: Access = Access::Resource(Action::Edit, kinds::SECRET_BACKENDS);

/// Every route.
pub fn all() -> Vec<Route> {
    use Endpoint as E;
    let mut routes = vec![
        route(Method::GET, "/healthz", Access::Open, E::Healthz),
        route(Method::GET, "/readyz", Access::Open, E::Readyz),
        route(Method::GET, "/metrics", Access::Authenticated, E::Metrics),
        route(Method::GET, "/version", Access::Open, E::Version),
        route(Method::GET, "/openapi.json", Access::Open, E::OpenApi),
        route(Method::POST, "/api/v1/auth/login", Access::Open, E::Login),
        route(Method::GET, "/api/v1/auth/keys", Access::Open, E::Keys),
        route(Method::POST, "/api/v1/auth/logout", Access::Authenticated, E::Logout),
        route(Method::GET, "/api/v1/auth/whoami", Access::Authenticated, E::Whoami),
        route(Method::POST, "/api/v1/auth/can-i", Access::Authenticated, E::CanI),
        route(Method::POST, "/api/v1/auth/who-can", Access::Kind(Action::View, kinds::RBAC), E::WhoCan),
        route(Method::POST, "/api/v1/auth/password", Access::Authenticated, E::Password),
        // Each resource needs its own permission: checked when its turn comes.
        route(Method::POST, "/api/v1/apply", Access::Authenticated, E::Apply),
        route(Method::GET, "/api/v1/auditlogs", Access::Operation(Operation::Audit), E::AuditLogs),
        route(Method::GET, "/api/v1/auditlogs/{name}", Access::Operation(Operation::Audit), E::AuditLog),
        route(Method::POST, MIGRATE, Access::Operation(Operation::MigrateSecrets), E::Migrate),
        route(Method::POST, "/api/v1/backup", Access::Operation(Operation::Backup), E::Backup),
        route(Method::POST, "/api/v1/restore", Access::Operation(Operation::Restore), E::Restore),
        // It sends the backend's credential to where the backend's config says, as a change of the config would.
        route(Method::POST, "/api/v1/secretbackends/{name}/test", EDIT_BACKEND, E::TestBackend),
        route(Method::POST, "/api/v1/llms/{name}/infer", RUN, E::CallNamed(Api::ChatCompletions)),
        route(
            Method::GET,
            "/api/v1/projects/{name}/llm",
            Access::Resource(Action::View, kinds::PROJECTS),
            E::ProjectLlm,
        ),
        route(Method::POST, "/api/v1/projects/{name}/infer", Access::ProjectLlm, E::CallProject),
        route(Method::GET, "/v1/models", Access::Authenticated, E::Models),
        route(Method::GET, "/v1/models/{name}", RUN, E::Model),
        route(Method::GET, "/api/v1/llms/{name}/v1/models", RUN, E::ModelsOf),
    ];
    for api in Api::ALL {
        let bound = format!("/api/v1/llms/{{name}}{api}");
        routes.push(route(Method::POST, api.path(), Access::Model, E::Call(api)));
        routes.push(route(Method::POST, &bound, RUN, E::CallNamed(api)));
    }
    for kind in Kind::all() {
        let list = format!("/api/v1/{kind}");
        let one = format!("/api/v1/{kind}/{{name}}");
        routes.extend([
            route(Method::GET, &list, Access::List(kind), E::List(kind)),
            route(Method::POST, &list, Access::Kind(Action::Create, kind), E::Create(kind)),
            route(Method::GET, &one, Access::Resource(Action::View, kind), E::Get(kind)),
            route(Method::PUT, &one, Access::Resource(Action::Edit, kind), E::Put(kind)),
            route(Method::PATCH, &one, Access::Resource(Action::Edit, kind), E::Patch(kind)),
            route(Method::DELETE, &one, Access::Resource(Action::Delete, kind), E::Delete(kind)),
        ]);
    }
    routes
}

impl Endpoint {
    /// Whether this is one of Anthropic's APIs: its clients send their token in a header of its own.
    pub const fn is_anthropic(self) -> bool {
        matches!(self, Self::Call(api) | Self::CallNamed(api) if api.is_anthropic())
    }
}

fn route(method: Method, path: &str, access: Access, endpoint: Endpoint) -> Route {
    Route { method, path: path.to_owned(), access, endpoint }
}

/// The table, ready for look-ups.
pub(crate) struct Table(Router<Vec<Route>>);

/// What the table says of a request.
pub(crate) enum Match<'t, 'p> {
    /// The route, and the `{name}` in the path, still percent-encoded.
    Found(&'t Route, Option<&'p str>),
    /// The path is known; these are its methods.
    WrongMethod(String),
    /// The path is unknown.
    Unknown,
}

impl Table {
    pub(crate) fn new() -> Result<Self, matchit::InsertError> {
        let mut by_path: Vec<(String, Vec<Route>)> = Vec::new();
        for route in all() {
            match by_path.iter_mut().find(|(path, _)| *path == route.path) {
                Some((_, routes)) => routes.push(route),
                None => by_path.push((route.path.clone(), vec![route])),
            }
        }
        // A Secret may be called `migrate`: what is asked of it by another method is asked of the Secret.
        let named = by_path.iter().find(|(path, _)| path == NAMED_SECRET).map(|(_, routes)| routes.clone());
        if let Some((_, routes)) = by_path.iter_mut().find(|(path, _)| path == MIGRATE) {
            routes.extend(named.into_iter().flatten());
        }
        let mut router = Router::new();
        for (path, routes) in by_path {
            router.insert(path, routes)?;
        }
        Ok(Self(router))
    }

    pub(crate) fn find<'t, 'p>(&'t self, method: &Method, path: &'p str) -> Match<'t, 'p> {
        let Ok(found) = self.0.at(path) else { return Match::Unknown };
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        match found.value.iter().find(|route| route.method == *wanted) {
            Some(route) if route.path == NAMED_SECRET => Match::Found(route, path.rsplit('/').next()),
            Some(route) => Match::Found(route, found.params.get("name")),
            None => {
                let mut methods: Vec<&str> = found.value.iter().map(|route| route.method.as_str()).collect();
                if methods.contains(&"GET") {
                    methods.push("HEAD");
                }
                Match::WrongMethod(methods.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_spellings_of_a_path_are_unknown() {
        let table = Table::new().unwrap();
        assert!(matches!(table.find(&Method::GET, "/api/v1/llms/a"), Match::Found(_, Some("a"))));
        assert!(matches!(table.find(&Method::HEAD, "/api/v1/llms"), Match::Found(_, None)));
        for path in [
            "//api/v1/llms",
            "/api/v1/./llms",
            "/api/v1/llms/",
            "/API/v1/llms",
            "/api/v1/llms//infer",
            "/api/%761/llms",
        ] {
            assert!(matches!(table.find(&Method::GET, path), Match::Unknown), "{path}");
        }
        assert!(
            matches!(table.find(&Method::DELETE, "/api/v1/llms"), Match::WrongMethod(allow) if allow == "GET, POST, HEAD")
        );
    }
}
