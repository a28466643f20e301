//! The local providers of the configuration, and what is told of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mcpctl_core::{
    Result,
    adapter::Api,
    failover::{LocalLlm, Provider as _, ProviderRegistry, Surroundings, managed::ManagedState, registry_of},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::Url;

use crate::{config::Config, failure::Failure, home::Home};

/// How long a provider may take to accept a connection to count as up.
const KNOCK: Duration = Duration::from_millis(500);

/// The providers that `config.json` lists.
pub(crate) fn of_config(home: &Home) -> Result<Arc<ProviderRegistry<LocalLlm>>, Failure> {
    let mut settings = Config::load(home)?.providers()?;
    for settings in &mut settings {
        settings.surroundings =
            Surroundings { environment: std::env::vars_os().collect(), folder: Some(home.file("vllm")) };
    }
    let registry = registry_of(settings).map_err(|error| {
        Failure::from(error).context(format!("reading {}", home.file("config.json").display()))
    })?;
    Ok(Arc::new(registry))
}

/// Stops those that this program has started.
pub(crate) async fn stop(providers: &ProviderRegistry<LocalLlm>) {
    let mut stopping = tokio::task::JoinSet::new();
    for provider in providers.list() {
        stopping.spawn(async move {
            if let Some(managed) = provider.managed() {
                managed.stop().await;
            }
        });
    }
    stopping.join_all().await;
}

/// What the user is told of each. `holds` says whether this very program is the one that starts and stops them.
pub(crate) async fn shown(providers: &ProviderRegistry<LocalLlm>, holds: bool) -> Vec<Value> {
    let mut tasks = tokio::task::JoinSet::new();
    for (at, provider) in providers.list().into_iter().enumerate() {
        tasks.spawn(async move { (at, one(&provider, holds).await) });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, shown)| shown).collect()
}

async fn one(provider: &LocalLlm, holds: bool) -> Value {
    let settings = provider.settings();
    let mut url = settings.url.clone();
    let (state, detail) = match provider.managed() {
        Some(_) if !holds => ("stopped", String::new()),
        Some(managed) => match managed.state() {
            ManagedState::Stopped => ("stopped", String::new()),
            ManagedState::Starting { progress, .. } => ("starting", progress),
            ManagedState::Ready { url: at, pid } => {
                url = Some(at.to_string().trim_end_matches('/').to_owned());
                ("ready", format!("pid {pid}"))
            }
            ManagedState::Stopping => ("stopping", String::new()),
            ManagedState::Failed { why, .. } => ("failed", why),
        },
        None => match knock(settings.url.as_deref().unwrap_or_default()).await {
            true => ("up", String::new()),
            false => ("down", String::new()),
        },
    };
    json!({
        "name": provider.name(), "type": settings.ty.as_str(), "model": settings.model,
        "tier": settings.tier, "url": url, "standsInFor": settings.failover_for,
        "managed": provider.managed().is_some(), "state": state, "detail": detail,
    })
}

/// Whether anybody listens there.
async fn knock(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    matches!(tokio::time::timeout(KNOCK, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}

/// Has a provider say one token. Says how long that took.
pub(crate) async fn try_out(provider: &LocalLlm) -> Result<Duration> {
    let body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1});
    // What has to be started first is not what is measured.
    let _in_use = match provider.managed() {
        Some(managed) => Some(managed.ready().await?),
        None => None,
    };
    let began = Instant::now();
    let mut answer = provider.call(Api::ChatCompletions, Bytes::from(body.to_string())).await?;
    while let Some(bytes) = answer.body.next().await {
        bytes?;
    }
    Ok(began.elapsed())
}
