//! One route, told in full.

use mcpctl_core::{
    adapter::Api,
    resource::{FieldType, Kind, kinds},
};
use serde_json::{Map, Value, json};

use super::{
    failures::{Form, answers, of_provider},
    kinds::{Use, of},
    schemas::{named, request},
};
use crate::{
    handlers::MAX_LIMIT,
    respond::Dialect,
    routes::{Access, Endpoint, Route},
};

/// What there is to tell of a route beyond its method, path and access.
struct Told {
    id: String,
    summary: String,
    tag: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    success: (u16, Value),
    /// Statuses besides those that follow from the access and the body.
    failures: Vec<u16>,
}

/// A route as an operation of OpenAPI.
pub(super) fn operation(route: &Route) -> Value {
    let told = told(route);
    let is_call =
        matches!(route.endpoint, Endpoint::Call(_) | Endpoint::CallNamed(_) | Endpoint::CallProject);
    let form = match Dialect::of_path(&route.path) {
        Dialect::Mcpctl if is_call => Form::OwnOrProvider,
        dialect => Form::Own(dialect),
    };
    let mut statuses = told.failures;
    if route.access != Access::Open {
        // Each may be done for another user, who may not be there; and each may find the server sealed.
        statuses.extend([400, 401, 403, 404, 500, 503]);
    }
    if told.body.is_some() {
        statuses.extend([400, 408, 413, 415]);
    }
    statuses.sort_unstable();
    statuses.dedup();
    let mut responses = Map::from_iter([(told.success.0.to_string(), told.success.1)]);
    responses.extend(answers(form, &statuses));
    if is_call {
        responses.insert("default".to_owned(), of_provider(form));
    }
    let mut parameters = vec![json!({"$ref": "#/components/parameters/RequestId"})];
    if route.path.contains("{name}") {
        let schema = json!({"type": "string", "minLength": 1});
        parameters.insert(
            0,
            json!({"name": "name", "in": "path", "required": true,
                                    "description": "an id, or a name", "schema": schema}),
        );
    }
    if route.access != Access::Open {
        parameters.push(json!({"$ref": "#/components/parameters/ImpersonateUser"}));
    }
    parameters.extend(told.parameters);
    let mut operation = json!({
        "operationId": told.id,
        "summary": told.summary,
        "description": need(route.access),
        "tags": [told.tag],
        "parameters": parameters,
        "responses": responses,
        "security": security(route),
    });
    if let (Some(schema), Some(operation)) = (told.body, operation.as_object_mut()) {
        let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

/// What a request needs, in words.
fn need(access: Access) -> String {
    match access {
        Access::Open => "Needs nothing.".to_owned(),
        Access::Authenticated => "Needs a token.".to_owned(),
        Access::List(kind) => format!("Needs `view` on some of `{kind}`: only those are listed."),
        Access::Kind(action, kind) => format!("Needs `{}:{kind}`.", action.as_str()),
        Access::Resource(action, kind) => format!("Needs `{}:{kind}:<name>`.", action.as_str()),
        Access::Operation(operation) => format!("Needs the operation `{}`.", operation.as_str()),
        Access::Model => "Needs `run:llms:<model>`, of the Llm that the body's `model` names.".to_owned(),
        Access::ProjectLlm => "Needs `run:llms:<llm>`, of the Llm that the project leads to.".to_owned(),
    }
}

fn security(route: &Route) -> Value {
    match route.access {
        Access::Open => json!([]),
        _ if route.endpoint.is_anthropic() => json!([{"token": []}, {"apiKey": []}]),
        _ => json!([{"token": []}]),
    }
}

fn told(route: &Route) -> Told {
    use Endpoint as E;
    match route.endpoint {
        E::Healthz => of_server("healthz", "Whether the process is up", answer(named("Status"))),
        E::Readyz => Told {
            failures: vec![500, 503],
            ..of_server("readyz", "Whether the process can serve", answer(named("Status")))
        },
        E::Version => of_server("version", "Which version this is", answer(named("Version"))),
        E::OpenApi => of_server("openapi", "This description", answer(json!({"type": "object"}))),
        E::Metrics => of_server(
            "metrics",
            "The numbers, for Prometheus",
            response([("application/openmetrics-text", json!({"type": "string"}))], None),
        ),
        E::Keys => Told {
            failures: vec![500, 503],
            ..told_of("keys", "The keys that verify leases", "auth", (200, answer(named("Keys"))))
        },
        E::Login | E::Logout | E::Whoami | E::CanI | E::WhoCan | E::Password => of_caller(route.endpoint),
        E::AuditLogs => {
            let words =
                ["kind", "llm", "user", "continue"].map(|name| query(name, json!({"type": "string"})));
            let times =
                ["since", "until"].map(|name| query(name, json!({"type": "string", "format": "date-time"})));
            let limit = [query("limit", limit())];
            let parameters = words.into_iter().chain(times).chain(limit).collect();
            let success = (200, answer(named("AuditEvents")));
            Told {
                parameters,
                ..told_of("list_auditlogs", "The audit trail, newest first", "auditlogs", success)
            }
        }
        E::AuditLog => told_of(
            "get_auditlog",
            "One event of the audit trail",
            "auditlogs",
            (200, answer(named("AuditEvent"))),
        ),
        E::Apply => Told {
            body: Some(named("Apply")),
            failures: vec![409],
            ..told_of(
                "apply",
                "Make and change many resources",
                "apply",
                (200, answer(named("ApplyResults"))),
            )
        },
        E::TestBackend => Told {
            failures: vec![501],
            ..told_of(
                "test_secretbackend",
                "Try a secret backend, with the credentials that it has",
                "secretbackends",
                (200, answer(named("Checked"))),
            )
        },
        E::Migrate => Told {
            body: Some(named("Migrate")),
            failures: vec![501],
            ..told_of(
                "migrate_secrets",
                "Move Secrets from one backend to another",
                "secrets",
                (200, answer(named("Migrated"))),
            )
        },
        E::Backup | E::Restore => of_everything(route.endpoint),
        E::List(kind) => of_list(kind),
        E::Create(kind) => Told {
            body: Some(of(kind, Use::New)),
            failures: writing(kind),
            ..of_kind("create", "Make one of", kind, (201, tagged(of(kind, Use::Made))))
        },
        E::Get(kind) => {
            let shown = of_kind("get", "One of", kind, (200, shown(kind)));
            if kind != kinds::SECRETS {
                return shown;
            }
            let reveal = query("showValues", json!({"type": "string", "enum": ["true", "false"]}));
            Told { parameters: vec![reveal], failures: vec![501, 502, 504], ..shown }
        }
        E::Put(kind) => change("put", "Replace fields of one of", kind, Use::Put),
        E::Patch(kind) => change("patch", "Merge into one of", kind, Use::Patch),
        E::Delete(kind) => Told {
            parameters: vec![json!({"$ref": "#/components/parameters/IfMatch"})],
            failures: writing(kind),
            ..of_kind("delete", "Delete one of", kind, (204, empty()))
        },
        E::Call(api) => call(format!("call_{}", api.name()), "Ask the Llm that the body names", api, true),
        // The same way in, under the two names that it has.
        E::CallNamed(api) if route.path.ends_with("/infer") => {
            call("infer".to_owned(), "Ask the Llm in the path, in OpenAI's format", api, false)
        }
        E::CallNamed(api) => {
            call(format!("call_named_{}", api.name()), "Ask the Llm in the path", api, false)
        }
        E::CallProject => {
            let about = "Ask the Llm of the project in the path, in OpenAI's format";
            let mut told = call("infer_project".to_owned(), about, Api::ChatCompletions, false);
            told.failures.push(409);
            told
        }
        E::ProjectLlm => {
            let success = (200, answer(named("ProjectLlm")));
            told_of("get_project_llm", "Where a project's reference to an Llm leads", "projects", success)
        }
        E::Models => {
            told_of("list_models", "The Llms that may be run", "calls", (200, answer(named("Models"))))
        }
        E::Model => told_of("get_model", "One of the Llms", "calls", (200, answer(named("Model")))),
        E::ModelsOf => told_of(
            "list_models_of",
            "The Llm in the path, as a list",
            "calls",
            (200, answer(named("Models"))),
        ),
    }
}

fn told_of(id: &str, summary: &str, tag: &'static str, success: (u16, Value)) -> Told {
    let (parameters, body, failures) = (Vec::new(), None, Vec::new());
    Told { id: id.to_owned(), summary: summary.to_owned(), tag, parameters, body, success, failures }
}

fn of_server(id: &str, summary: &str, answer: Value) -> Told {
    told_of(id, summary, "server", (200, answer))
}

fn of_caller(endpoint: Endpoint) -> Told {
    let (id, summary, body, success) = match endpoint {
        Endpoint::Login => ("login", "Exchange a password for a token", Some("Login"), Some("Session")),
        Endpoint::Password => {
            ("change_password", "Change one's own password", Some("NewPassword"), Some("Session"))
        }
        Endpoint::CanI => ("can_i", "Whether something is allowed", Some("Question"), Some("CanI")),
        Endpoint::WhoCan => ("who_can", "Who may do something", Some("Question"), Some("WhoCan")),
        Endpoint::Whoami => ("whoami", "Who the token stands for", None, Some("Whoami")),
        _ => ("logout", "End the session", None, None),
    };
    let success = success.map_or((204, empty()), |name| (200, answer(named(name))));
    let failures = match endpoint {
        Endpoint::Login => vec![401, 409, 429, 500, 503],
        Endpoint::Password => vec![409, 429],
        _ => Vec::new(),
    };
    Told { body: body.map(named), failures, ..told_of(id, summary, "auth", success) }
}

fn of_kind(verb: &str, summary: &str, kind: Kind, success: (u16, Value)) -> Told {
    let (id, summary) = (format!("{verb}_{}", kind.singular), format!("{summary} {kind}"));
    told_of(&id, &summary, kind.def().plural, success)
}

fn of_everything(endpoint: Endpoint) -> Told {
    let (id, summary, body, answered, failures) = match endpoint {
        Endpoint::Backup => {
            ("backup", "Read everything, for a backup", "BackupOrder", "Backup", vec![409, 501, 502, 504])
        }
        _ => ("restore", "Write a backup back, all or nothing", "RestoreOrder", "RestoreResults", vec![409]),
    };
    let told = told_of(id, summary, "backup", (200, answer(named(answered))));
    Told { body: Some(named(body)), failures, ..told }
}

fn of_list(kind: Kind) -> Told {
    let item = of(kind, Use::Shown);
    let page = json!({
        "type": "object",
        "description": "a page, when there is a limit",
        "properties": {"items": {"type": "array", "items": item}, "continue": {"type": "string"}},
        "required": ["items"],
        "additionalProperties": false,
    });
    let schema = json!({"oneOf": [{"type": "array", "items": item}, page]});
    let mut parameters = vec![query("limit", limit()), query("continue", json!({"type": "string"}))];
    let fields = kind.def().fields.iter().filter(|field| !field.write_only);
    parameters.extend(fields.filter_map(|field| match field.ty {
        FieldType::Choice(options) => Some(query(field.name, json!({"type": "string", "enum": options}))),
        _ => None,
    }));
    parameters.push(query("watch", json!({"type": "string", "enum": ["true", "false"]})));
    // With `watch`: ADDED, MODIFIED, DELETED with the resource each, and at last perhaps ERROR.
    let stream = ("text/event-stream", json!({"type": "string"}));
    let success = response([("application/json", schema), stream], None);
    let told = of_kind("list", "Those that may be viewed of", kind, (200, success));
    Told { parameters, failures: vec![429], id: format!("list_{kind}"), ..told }
}

fn change(verb: &str, summary: &str, kind: Kind, usage: Use) -> Told {
    Told {
        parameters: vec![json!({"$ref": "#/components/parameters/IfMatch"})],
        body: Some(of(kind, usage)),
        failures: writing(kind),
        ..of_kind(verb, summary, kind, (200, tagged(of(kind, Use::Shown))))
    }
}

/// What else a change may come to. Some of a Secret's values are kept elsewhere.
fn writing(kind: Kind) -> Vec<u16> {
    if kind == kinds::SECRETS { vec![409, 501, 502, 504] } else { vec![409] }
}

fn call(id: String, summary: &str, api: Api, names_llm: bool) -> Told {
    let whole = ("application/json", json!({"type": "object"}));
    let stream = api.streams().then(|| ("text/event-stream", json!({"type": "string"})));
    let about = "the parameters that the provider could not be told";
    let dropped = json!({"description": about, "schema": {"type": "string"}});
    let headers = [("X-Mcpctl-Dropped", dropped), ("X-Mcpctl-Lease", lease())];
    let success = response([whole].into_iter().chain(stream), headers);
    let told = told_of(&id, summary, "calls", (200, success));
    Told { body: Some(request(api, names_llm)), failures: vec![429, 501, 502, 504], ..told }
}

fn query(name: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "schema": schema})
}

fn limit() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT})
}

fn answer(schema: Value) -> Value {
    response([("application/json", schema)], None)
}

fn tagged(schema: Value) -> Value {
    let version = json!({"$ref": "#/components/headers/Version"});
    response([("application/json", schema)], Some(("ETag", version)))
}

/// A resource that was asked for.
fn shown(kind: Kind) -> Value {
    let version = ("ETag", json!({"$ref": "#/components/headers/Version"}));
    let lease = (kind == kinds::LLMS).then(|| ("X-Mcpctl-Lease", lease()));
    response([("application/json", of(kind, Use::Shown))], [version].into_iter().chain(lease))
}

fn lease() -> Value {
    json!({"$ref": "#/components/headers/Lease"})
}

fn empty() -> Value {
    response([], None)
}

/// A success: what it carries, by media type, and the headers that it may have besides the request's id.
fn response<'a>(
    content: impl IntoIterator<Item = (&'a str, Value)>,
    headers: impl IntoIterator<Item = (&'a str, Value)>,
) -> Value {
    let id = ("X-Request-Id", json!({"$ref": "#/components/headers/RequestId"}));
    let headers = [id].into_iter().chain(headers).map(|(name, header)| (name.to_owned(), header));
    let content = content.into_iter().map(|(media, schema)| (media.to_owned(), json!({"schema": schema})));
    json!({
        "description": "done",
        "headers": headers.collect::<Map<_, _>>(),
        "content": content.collect::<Map<_, _>>(),
    })
}
