//! Every route there is, walked from the server's own table: complete by construction.

use mcpctl_core::rbac::{Action, Operation};
use mcpctl_server::routes::{self, Access, Route};
use serde_json::{Value, json};
use tests::{
    Api, Reply, Server,
    evaluator::{Need, bindings_allow},
};

/// What may be asked without a token, and nothing else.
const OPEN: &[&str] = &[
    "GET /healthz",
    "GET /readyz",
    "GET /version",
    "GET /openapi.json",
    "POST /api/v1/auth/login",
    "GET /api/v1/auth/keys",
];

/// The Llm that paths and bodies name.
const NAME: &str = "walked";

fn title(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

fn path(route: &Route) -> String {
    route.path.replace("{name}", NAME)
}

async fn ask(api: &Api, route: &Route) -> Reply {
    let request = api.request(route.method.as_str(), &path(route));
    // What any API requires.
    let body =
        json!({"model": NAME, "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"});
    api.send(if route.method == "GET" { request } else { request.json(&body) }).await
}

/// Asserts an error in the form that callers of this path expect.
fn assert_error(route: &Route, reply: &Reply, status: u16) -> String {
    let path = route.path.strip_prefix("/api/v1/llms/{name}").unwrap_or(&route.path);
    match path {
        path if path.starts_with("/v1/messages") => reply.anthropic_error(status),
        path if path.starts_with("/v1/") => reply.openai_error(status),
        _ => reply.error(status),
    }
}

/// The role bindings that give everything but what `access` needs.
fn all_but(access: Access) -> Option<Value> {
    let roles = ["view", "create", "delete", "run", "expose"];
    let wanted = match access {
        Access::Open | Access::Authenticated => return None,
        Access::List(_) => Action::View,
        Access::Kind(action, _) | Access::Resource(action, _) => action,
        Access::Model | Access::ProjectLlm => Action::Run,
        Access::Operation(wanted) => {
            let others = Operation::ALL.into_iter().filter(|operation| *operation != wanted);
            let mut bindings: Vec<Value> =
                others.map(|operation| json!({"role": "run", "action": operation.as_str()})).collect();
            bindings.extend(["edit", "run"].map(|role| json!({"role": role, "resource": "*"})));
            return Some(bindings.into());
        }
    };
    let gives = |role: &&str| match *role {
        "expose" => wanted == Action::View,
        role => role == wanted.as_str(),
    };
    let mut bindings: Vec<Value> = roles
        .into_iter()
        .filter(|role| !gives(role))
        .map(|role| json!({"role": role, "resource": "*"}))
        .collect();
    if wanted == Action::Run {
        bindings.push(json!({"role": "edit", "resource": "*"}));
    }
    bindings.extend(Operation::ALL.map(|operation| json!({"role": "run", "action": operation.as_str()})));
    Some(bindings.into())
}

/// The permission that a refusal must name.
fn missing(access: Access) -> String {
    match access {
        Access::Open | Access::Authenticated => unreachable!("these are refused nobody who has a token"),
        Access::List(kind) => format!("view:{kind}"),
        Access::Kind(action, kind) => format!("{}:{kind}", action.as_str()),
        Access::Resource(action, kind) => format!("{}:{kind}:{NAME}", action.as_str()),
        Access::Model | Access::ProjectLlm => format!("run:llms:{NAME}"),
        Access::Operation(operation) => operation.as_str().to_owned(),
    }
}

/// Whether a refusal names what `access` needs. Who may not view a project is not told which Llm it leads to.
fn names_missing(access: Access, message: &str) -> bool {
    let hidden = format!("view:projects:{NAME}");
    message.contains(&missing(access)) || (access == Access::ProjectLlm && message.contains(&hidden))
}

/// Makes the project that leads to the walked Llm, unless it is there.
async fn make_project(admin: &Api) {
    let project = json!({"name": NAME, "llmProvider": NAME});
    let status = admin.post("/api/v1/projects", &project).await.status;
    assert!([201, 409].contains(&status), "{status}");
}

#[test]
fn the_open_list_is_short_and_known() {
    let open: Vec<String> =
        routes::all().iter().filter(|route| route.access == Access::Open).map(title).collect();
    assert_eq!(open, OPEN);
}

#[test]
fn the_access_follows_from_method_and_path() {
    for route in routes::all() {
        let parts: Vec<&str> = route.path.trim_start_matches('/').split('/').collect();
        let expected = match (route.method.as_str(), parts.as_slice()) {
            (_, ["api", "v1", "auth" | "auditlogs" | "apply", ..] | ["v1", ..] | [_]) => continue,
            ("POST", ["api", "v1", "secrets", "migrate"]) => "migrate-secrets".to_owned(),
            ("POST", ["api", "v1", operation @ ("backup" | "restore")]) => (*operation).to_owned(),
            ("GET", ["api", "v1", kind]) => format!("view:{kind}"),
            ("POST", ["api", "v1", kind]) => format!("create:{kind}"),
            ("GET", ["api", "v1", kind, "{name}"]) => format!("view:{kind}:{NAME}"),
            ("PUT" | "PATCH", ["api", "v1", kind, "{name}"]) => format!("edit:{kind}:{NAME}"),
            ("DELETE", ["api", "v1", kind, "{name}"]) => format!("delete:{kind}:{NAME}"),
            ("POST", ["api", "v1", "secretbackends", "{name}", "test"]) => {
                format!("edit:secretbackends:{NAME}")
            }
            ("POST", ["api", "v1", "llms", "{name}", "infer"])
            | ("POST" | "GET", ["api", "v1", "llms", "{name}", "v1", ..])
            | ("POST", ["api", "v1", "projects", "{name}", "infer"]) => format!("run:llms:{NAME}"),
            ("GET", ["api", "v1", "projects", "{name}", "llm"]) => format!("view:projects:{NAME}"),
            _ => panic!("{}: what should this need?", title(&route)),
        };
        assert_eq!(missing(route.access), expected, "{}", title(&route));
    }
}

#[tokio::test]
async fn without_a_token_every_other_route_is_a_401() {
    let server = Server::start().await;
    let anonymous = server.client();
    let expected = anonymous.get("/api/v1/llms").await.error(401);
    for route in routes::all().iter().filter(|route| route.access != Access::Open) {
        for api in
            [anonymous.clone(), anonymous.with_token("not-a-token"), anonymous.with_token("mcpctl_st_x")]
        {
            let reply = ask(&api, route).await;
            assert_eq!(assert_error(route, &reply, 401), expected, "{}", title(route));
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{}", title(route));
            if route.method == "GET" {
                let head = api.send(api.request("HEAD", &path(route))).await;
                assert_eq!((head.status, head.body.len()), (401, 0), "HEAD of {}", title(route));
            }
        }
    }
}

#[tokio::test]
async fn without_the_permission_every_route_is_a_403_that_names_it() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let nobody = admin.create_user_with(&json!([])).await;
    make_project(&admin).await;
    for route in routes::all() {
        let Some(bindings) = all_but(route.access) else { continue };
        let nearly = admin.create_user_with(&bindings).await;
        for user in [&nobody, &nearly] {
            let reply = ask(user, &route).await;
            let message = assert_error(&route, &reply, 403);
            assert!(names_missing(route.access, &message), "{}: {message}", title(&route));
            if route.method == "GET" {
                let head = user.send(user.request("HEAD", &path(&route))).await;
                assert_eq!((head.status, head.body.len()), (403, 0), "HEAD of {}", title(&route));
            }
        }
    }
}

#[tokio::test]
async fn no_other_method_opens_a_route() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let all = routes::all();
    for route in &all {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            // A Secret may be called `migrate`.
            let answers = |other: &&Route| {
                other.path == route.path || other.path.replace("{name}", "migrate") == route.path
            };
            if all.iter().filter(answers).any(|other| other.method == method) {
                continue;
            }
            let reply = admin.send(admin.request(method, &path(route))).await;
            assert_error(route, &reply, 405);
            assert!(reply.header("allow").contains(route.method.as_str()), "{method} {}", route.path);
            let anonymous = admin.anonymous();
            let status = anonymous.send(anonymous.request(method, &path(route))).await.status;
            assert!([401, 405].contains(&status), "{method} {}: {status}", route.path);
        }
    }
}

/// Who walks, and with which role bindings. `{name}` in a path is [`NAME`], which nothing has.
fn callers() -> Vec<(&'static str, Value)> {
    let on = |role: &str, resource: &str| json!({"role": role, "resource": resource});
    let scoped = |role: &str, name: &str| json!({"role": role, "resource": "llms", "name": name});
    let operations = Operation::ALL.map(|operation| json!({"role": "run", "action": operation.as_str()}));
    let mut admin = vec![on("edit", "*"), on("run", "*")];
    admin.extend(operations);
    vec![
        ("nobody", json!([])),
        ("viewer", json!([on("view", "*")])),
        ("of these names", json!([scoped("edit", "wal*"), scoped("run", "wal*")])),
        ("of other names", json!([scoped("edit", "walks*"), scoped("run", "walks*")])),
        ("run-only", json!([on("run", "llms")])),
        ("editor", json!([on("edit", "*")])),
        ("admin", admin.into()),
    ]
}

/// What a route needs, for the evaluator that was written from the contract.
fn need(access: Access) -> Option<Need<'static>> {
    Some(match access {
        Access::Open | Access::Authenticated => return None,
        Access::List(kind) => Need::List(kind.def().plural),
        Access::Kind(action, kind) => Need::Kind(action.as_str(), kind.def().plural),
        Access::Resource(action, kind) => Need::One(action.as_str(), kind.def().plural, NAME, ""),
        Access::Model | Access::ProjectLlm => Need::One("run", "llms", NAME, ""),
        Access::Operation(operation) => Need::Operation(operation.as_str()),
    })
}

#[tokio::test]
async fn every_caller_gets_through_where_the_contract_says_so_and_nowhere_else() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let (mut through, mut refused) = (0, 0);
    for (caller, bindings) in callers() {
        let session = admin.create_user_with(&bindings).await;
        // The same rights once more, as a token that was cloned from them: `edit` on tokens is what it takes.
        let mut more = bindings.as_array().cloned().unwrap_or_default();
        more.push(json!({"role": "create", "resource": "mcptokens"}));
        let owner = admin.create_user_with(&more.into()).await;
        let token = json!({"name": caller.replace(' ', "-"), "roleBindings": bindings});
        let (_, token) = owner.create_token(&token).await;
        for route in routes::all().iter().filter(|route| !route.path.ends_with("/logout")) {
            let allowed = need(route.access).is_none_or(|need| bindings_allow(&bindings, &need));
            for api in [&session, &token] {
                make_project(&admin).await;
                let reply = ask(api, route).await;
                let what = format!("{caller}: {}: {}", title(route), reply.status);
                assert_ne!(reply.status, 401, "{what}");
                // What comes after this check may be refused for a reason of its own, which says so.
                let is_refused = reply.status == 403 && reply.text().contains("missing permission");
                if allowed {
                    through += 1;
                    assert!(!is_refused || !reply.text().contains(&missing(route.access)), "{what}");
                } else {
                    refused += 1;
                    assert!(is_refused && names_missing(route.access, &reply.text()), "{what}");
                    assert_error(route, &reply, 403);
                }
            }
        }
    }
    println!("{through} let through, {refused} refused");
    assert!(through > 100 && refused > 100);
}
