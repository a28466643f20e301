//! A local provider at work: the caller's request in, an answer in the caller's format out.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;
use zeroize::Zeroizing;

use super::{
    endpoint::{Endpoint, Reached},
    managed::ManagedVllm,
    providers::{Provider, ProviderRegistry},
    relay::{LocalBody, Relay},
    settings::ProviderSettings,
};
use crate::{
    adapter::{Adapter, Api, Codec, ProviderRequest, Settings},
    client::{Direct, RawAnswer, parse_base_url},
    error::{Error, ErrorKind, Result},
    wire::ChatRequest,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may take to begin its answer, and between two reads.
const SILENCE: Duration = Duration::from_secs(300);
/// The longest answer that is read as a whole.
const MAX_ANSWER: usize = 64 << 20;
/// As much of a refusal as is read.
const MAX_ERROR: usize = 64 << 10;
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// A local provider.
pub struct LocalLlm {
    settings: ProviderSettings,
    endpoint: Endpoint,
    http: Direct,
    headers: HeaderMap,
    silence: Duration,
}

/// A local provider's answer: a success, of which the first piece is there.
#[derive(Debug)]
pub struct LocalAnswer {
    /// The status.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body, in the format of the API that was called. Dropping it ends the request.
    pub body: LocalBody,
}

/// The providers of a configuration: each is registered, and stands in for the Llms it says.
///
/// # Errors
///
/// Invalid, naming the provider; conflict, when a name occurs twice or an Llm has two that stand in for it.
pub fn registry_of(settings: Vec<ProviderSettings>) -> Result<ProviderRegistry<LocalLlm>> {
    let registry = ProviderRegistry::new();
    for settings in settings {
        let llms = settings.failover_for.clone();
        let provider = registry.register(LocalLlm::new(settings)?)?;
        for llm in llms {
            let taken = registry.stand_in(&llm).filter(|known| !Arc::ptr_eq(known, &provider));
            if let Some(known) = taken {
                let (first, second) = (known.name(), provider.name());
                return Err(Error::conflict(format!(
                    "failoverFor: both `{first}` and `{second}` would stand in for llm `{llm}`"
                )));
            }
            registry.map(&llm, provider.name())?;
        }
    }
    Ok(registry)
}

impl Provider for LocalLlm {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn tier(&self) -> Option<&str> {
        self.settings.tier.as_deref()
    }
}

impl LocalLlm {
    /// A provider with these settings. Nothing is connected to or started yet.
    ///
    /// # Errors
    ///
    /// Invalid, naming the field.
    pub fn new(settings: ProviderSettings) -> Result<Self> {
        let named = |error: Error| error.context(format_args!("local provider `{}`", settings.name));
        settings.check().map_err(named)?;
        let base = match settings.url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => parse_base_url(url).map_err(named)?,
            None => Url::parse("http://127.0.0.1").map_err(Error::internal)?,
        };
        Ok(Self {
            endpoint: Endpoint::of(&settings),
            http: Direct::new(&base, CONNECT_TIMEOUT)?,
            headers: headers_of(&settings).map_err(named)?,
            silence: SILENCE,
            settings,
        })
    }

    /// What it was made from.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// The process behind it, when it is one that is started on demand.
    pub fn managed(&self) -> Option<&ManagedVllm> {
        self.endpoint.managed()
    }

    /// The same, which may take no longer than this to begin its answer and between two pieces of it.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Answers a request of `api`, with this provider's own model in place of the one asked for. When this returns, a
    /// stream has begun: from then on a failure is an event of the stream, as at the server.
    ///
    /// # Errors
    ///
    /// Invalid, naming the field; not implemented, when this type of provider has nothing like that API; provider and
    /// provider timeout, naming the provider and the cause.
    pub async fn call(&self, api: Api, body: Bytes) -> Result<LocalAnswer> {
        let named = |error: Error| error.context(format_args!("local provider `{}`", self.settings.name));
        let request = ChatRequest::scan_for(&body, api.required())?;
        let codec = Codec::new(api, self.settings.ty.speaks()).map_err(named)?;
        let sent = codec.encode(&request, &self.translation())?;
        let reached = self.endpoint.reach().await?;
        let answer = self.send(codec, &reached, sent.body.clone()).await.map_err(named)?;
        if !answer.status.is_success() {
            return Err(named(self.refusal(codec, answer).await));
        }
        let answered = match codec.streams(&request) {
            true => self.stream(codec, reached, sent, answer).await,
            false => self.whole(codec, &sent, answer).await,
        };
        answered.map_err(named)
    }

    async fn send(&self, codec: Codec, reached: &Reached, body: Bytes) -> Result<RawAnswer> {
        let url = Adapter::endpoint(&reached.url, codec.path());
        let answer =
            tokio::time::timeout(self.silence, self.http.post(&url, self.headers.clone(), body)).await;
        answer.unwrap_or_else(|_| Err(self.too_slow()))
    }

    async fn whole(&self, codec: Codec, sent: &ProviderRequest, answer: RawAnswer) -> Result<LocalAnswer> {
        let status = answer.status.as_u16();
        let body = tokio::time::timeout(self.silence, answer.whole(MAX_ANSWER)).await;
        let body = body.unwrap_or_else(|_| Err(self.too_slow()))?;
        let body = body.ok_or_else(|| {
            Error::new(ErrorKind::Provider, format!("its answer is longer than {MAX_ANSWER} bytes"))
        })?;
        let decoded = codec.decode(&body, &sent.context)?;
        let body = LocalBody::whole(decoded.body);
        Ok(LocalAnswer { status, content_type: "application/json", body })
    }

    async fn stream(
        &self,
        codec: Codec,
        reached: Reached,
        sent: ProviderRequest,
        answer: RawAnswer,
    ) -> Result<LocalAnswer> {
        let kind =
            answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(Error::new(ErrorKind::Provider, "it did not answer with a stream"));
        }
        let status = answer.status.as_u16();
        let decoder = codec.stream(sent.context);
        let mut relay = Relay::new(self.name(), answer.body, decoder, self.silence, reached.in_use);
        relay.first().await?;
        Ok(LocalAnswer { status, content_type: "text/event-stream", body: LocalBody::stream(relay) })
    }

    /// What it said when it refused, without its key.
    async fn refusal(&self, codec: Codec, answer: RawAnswer) -> Error {
        let status = answer.status.as_u16();
        let body = tokio::time::timeout(self.silence.min(CONNECT_TIMEOUT), answer.whole(MAX_ERROR)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let mut error = codec.decode_error(status, &body, self.name());
        if let Some(key) = &self.settings.api_key {
            error = error.redact(key.expose().trim());
        }
        Error::new(ErrorKind::Provider, format!("it answered {status}: {}", error.message))
    }

    fn too_slow(&self) -> Error {
        let message = format!("no answer in {} seconds", self.silence.as_secs_f64());
        Error::new(ErrorKind::ProviderTimeout, message)
    }

    fn translation(&self) -> Settings<'_> {
        Settings {
            llm_name: &self.settings.name,
            model: &self.settings.model,
            created: jiff::Timestamp::now().as_second(),
            anthropic_version: Some(ANTHROPIC_VERSION),
            ty: Some(self.settings.ty.speaks()),
            ..Settings::default()
        }
    }
}

impl fmt::Debug for LocalLlm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLlm").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// All that a local provider is told besides the body: nothing of the caller's, least of all a token.
fn headers_of(settings: &ProviderSettings) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let adapter = Adapter::of(settings.ty.speaks());
    if adapter == Adapter::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
    }
    if let Some(key) = &settings.api_key {
        let key = key.expose().trim();
        let (name, text) = match adapter {
            Adapter::Anthropic => (HeaderName::from_static("x-api-key"), Zeroizing::new(key.to_owned())),
            _ => (header::AUTHORIZATION, Zeroizing::new(format!("Bearer {key}"))),
        };
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| Error::invalid("apiKey: cannot be sent in a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
