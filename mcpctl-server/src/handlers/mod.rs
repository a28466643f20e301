//! What answers each endpoint: read the request, one call into core, render.

mod apply;
mod auth;
mod backup;
mod health;
mod inference;
mod resources;
mod secrets;
mod watch;

pub(crate) use resources::MAX_LIMIT;

use hyper::Response;
use mcpctl_core::{Principal, adapter::Api, gateway::Target};

use crate::{
    app::{App, Call},
    request::Input,
    respond::{Body, Refusal},
    routes::Endpoint,
};

/// Answers an endpoint that needs a token.
pub(crate) async fn dispatch(
    app: &App,
    endpoint: Endpoint,
    who: &Principal,
    call: &Call<'_>,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    match endpoint {
        Endpoint::CallNamed(api) => inference::call(app, who, Target::Named(&call.name), api, request).await,
        Endpoint::Call(api) => inference::call(app, who, Target::FromBody, api, request).await,
        Endpoint::CallProject => {
            inference::call(app, who, Target::Project(&call.name), Api::ChatCompletions, request).await
        }
        // Boxed, so that they do not make the future of every call as large as the largest of them.
        _ => Box::pin(manage(app, endpoint, who, call, request)).await,
    }
}

/// Answers an endpoint that manages something, or tells about it.
async fn manage(
    app: &App,
    endpoint: Endpoint,
    who: &Principal,
    call: &Call<'_>,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    match endpoint {
        Endpoint::Metrics => health::metrics(app, who),
        Endpoint::Logout => auth::logout(app, who).await,
        Endpoint::Whoami => auth::whoami(app, who),
        Endpoint::CanI => auth::can_i(app, who, request).await,
        Endpoint::WhoCan => auth::who_can(app, who, request).await,
        Endpoint::Password => auth::change_password(app, who, call, request).await,
        Endpoint::AuditLogs => resources::audit_logs(app, who, &request).await,
        Endpoint::AuditLog => resources::audit_log(app, who, &call.name, &request).await,
        Endpoint::Apply => apply::apply(app, who, request).await,
        Endpoint::List(kind) => resources::list(app, who, kind, &request).await,
        Endpoint::Create(kind) => resources::create(app, who, kind, request).await,
        Endpoint::Get(kind) => resources::get(app, who, kind, &call.name, &request).await,
        Endpoint::Put(kind) => resources::put(app, who, kind, &call.name, request).await,
        Endpoint::Patch(kind) => resources::patch(app, who, kind, &call.name, request).await,
        Endpoint::Delete(kind) => resources::delete(app, who, kind, &call.name, &request).await,
        Endpoint::TestBackend => secrets::test_backend(app, who, &call.name).await,
        Endpoint::Migrate => secrets::migrate(app, who, request).await,
        Endpoint::Backup => backup::backup(app, who, request).await,
        Endpoint::Restore => backup::restore(app, who, request).await,
        Endpoint::Models => Ok(inference::models(app, who)),
        Endpoint::Model => inference::model(app, who, &call.name).await,
        Endpoint::ProjectLlm => inference::project_llm(app, who, &call.name).await,
        Endpoint::ModelsOf => inference::models_of(app, who, &call.name).await,
        Endpoint::CallNamed(_)
        | Endpoint::Call(_)
        | Endpoint::CallProject
        | Endpoint::Healthz
        | Endpoint::Readyz
        | Endpoint::Version
        | Endpoint::OpenApi
        | Endpoint::Keys
        | Endpoint::Login => Err(Refusal::not_found()),
    }
}

/// Answers an endpoint that needs none.
pub(crate) async fn dispatch_open(
    app: &App,
    endpoint: Endpoint,
    call: &Call<'_>,
    request: Input<'_>,
) -> Result<Response<Body>, Refusal> {
    match endpoint {
        Endpoint::Healthz => Ok(health::healthz()),
        Endpoint::Readyz => health::readyz(app).await,
        Endpoint::Version => Ok(health::version()),
        Endpoint::OpenApi => Ok(health::openapi()),
        Endpoint::Keys => auth::keys(app),
        Endpoint::Login => auth::login(app, call, request).await,
        Endpoint::Metrics
        | Endpoint::Logout
        | Endpoint::Whoami
        | Endpoint::CanI
        | Endpoint::WhoCan
        | Endpoint::Password
        | Endpoint::AuditLogs
        | Endpoint::AuditLog
        | Endpoint::Apply
        | Endpoint::List(_)
        | Endpoint::Create(_)
        | Endpoint::Get(_)
        | Endpoint::Put(_)
        | Endpoint::Patch(_)
        | Endpoint::Delete(_)
        | Endpoint::TestBackend
        | Endpoint::Migrate
        | Endpoint::Backup
        | Endpoint::Restore
        | Endpoint::CallNamed(_)
        | Endpoint::Call(_)
        | Endpoint::CallProject
        | Endpoint::ProjectLlm
        | Endpoint::Models
        | Endpoint::Model
        | Endpoint::ModelsOf => Err(Refusal::not_found()),
    }
}
