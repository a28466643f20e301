//! What the user's other commands ask of the proxy that runs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use mcpctl_core::{
    client::Client,
    failover::{LocalLlm, Provider as _, managed::ManagedVllm},
};
use serde_json::{Value, json};

use super::{
    Note, Proxy,
    answer::{Body, Refusal, json_response},
    providers::{shown, try_out},
};
use crate::{failure::Failure, home::Home};

/// How long the proxy may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Answers what is asked below `/-/`.
pub(super) async fn answer(
    proxy: &Arc<Proxy>,
    method: &Method,
    path: &str,
) -> Result<Response<Body>, Refusal> {
    let parts: Vec<&str> = path.split('/').collect();
    match (method, parts.as_slice()) {
        (&Method::GET, ["status"]) => Ok(json_response(StatusCode::OK, &status(proxy).await)),
        (&Method::POST, ["providers", name, what @ ("start" | "stop" | "test")]) => {
            let provider = find(proxy, name)?;
            Ok(json_response(StatusCode::OK, &act(provider, what).await?))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no_such_route", "no such route")),
    }
}

async fn status(proxy: &Proxy) -> Value {
    json!({
        "url": proxy.note.url,
        "pid": proxy.note.pid,
        "since": proxy.note.since,
        "server": proxy.calls.client().base_url(),
        "providers": shown(proxy.calls.router().providers(), true).await,
        "failovers": proxy.journal.shown(),
    })
}

fn find(proxy: &Proxy, name: &str) -> Result<Arc<LocalLlm>, Refusal> {
    proxy.calls.router().providers().get(name).ok_or_else(|| {
        let message =
            format!("the proxy has no local provider called `{name}`; it reads config.json when it starts");
        Refusal::new(StatusCode::NOT_FOUND, "no_such_provider", message)
    })
}

async fn act(provider: Arc<LocalLlm>, what: &str) -> Result<Value, Refusal> {
    let name = provider.name().to_owned();
    match what {
        "test" => {
            let took = try_out(&provider).await?;
            Ok(json!({"name": name, "tookMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX)}))
        }
        "start" => {
            require_managed(&provider)?.settings().check()?;
            // Whoever asked looks at the status meanwhile.
            tokio::spawn(async move {
                if let Some(managed) = provider.managed() {
                    let _ = managed.ready().await;
                }
            });
            Ok(json!({"name": name}))
        }
        _ => {
            require_managed(&provider)?.stop().await;
            Ok(json!({"name": name}))
        }
    }
}

fn require_managed(provider: &LocalLlm) -> Result<&ManagedVllm, Refusal> {
    provider.managed().ok_or_else(|| {
        let name = provider.name();
        let message = format!(
            "local provider `{name}` is not of type vllm-managed: it is started and stopped where it runs"
        );
        Refusal::new(StatusCode::BAD_REQUEST, "not_managed", message)
    })
}

/// The proxy of this user, asked by another program.
pub(crate) struct Remote {
    client: Client,
}

/// What the proxy says of itself.
pub(crate) struct Done(pub(crate) Value);

impl Remote {
    /// The proxy that runs, and how it is; `None` when none does.
    pub(crate) async fn find(home: &Home) -> Result<Option<(Self, Done)>, Failure> {
        let Some(note) = Note::load(home)? else { return Ok(None) };
        let remote = Self { client: Client::new(&note.url, note.token.clone())? };
        let status = tokio::time::timeout(PATIENCE, remote.status()).await;
        Ok(match status {
            // Somebody else may have got its port.
            Ok(Ok(status)) if status.0.get("pid") == Some(&note.pid.into()) => Some((remote, status)),
            _ => None,
        })
    }

    /// How it is.
    pub(crate) async fn status(&self) -> Result<Done, Failure> {
        self.ask(Method::GET, &["-", "status"]).await
    }

    /// Has it do something with a provider.
    pub(crate) async fn act(&self, provider: &str, what: &str) -> Result<Done, Failure> {
        self.ask(Method::POST, &["-", "providers", provider, what]).await
    }

    async fn ask(&self, method: Method, path: &[&str]) -> Result<Done, Failure> {
        let gone = |_| Failure::new("the proxy does not answer any more");
        let answer = self.client.forward(method, path, HeaderMap::new(), Bytes::new()).await.map_err(gone)?;
        let status = answer.status;
        let body = answer.whole(MAX_ANSWER).await.map_err(gone)?.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(Done(body));
        }
        let message = body.pointer("/error/message").and_then(Value::as_str);
        Err(Failure::new(message.map_or_else(|| format!("the proxy answered {status}"), str::to_owned)))
    }
}

impl Done {
    /// The providers.
    pub(crate) fn providers(&self) -> Vec<Value> {
        self.0.get("providers").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// One of them.
    pub(crate) fn provider(&self, name: &str) -> Option<&Value> {
        let providers = self.0.get("providers")?.as_array()?;
        providers.iter().find(|provider| provider.get("name").and_then(Value::as_str) == Some(name))
    }
}
