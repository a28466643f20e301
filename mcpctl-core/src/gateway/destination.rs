//! Where a request goes, and the credential it carries: decided here, from the stored Llm and nothing else.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    redact::Redactor,
    transport::{Invocation, Transport, Way},
};
use crate::{
    adapter::{Adapter, Api, Codec, Settings},
    error::{Error, ErrorKind, Result},
    registry::LlmEntry,
    resource::LlmType,
    secret::SecretValue,
};

/// How long a provider may take to begin its answer, and between two reads, unless the Llm says otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// An Llm, ready to be called.
pub(super) struct Destination {
    /// The Llm this was made from. Another entry, another destination.
    pub(super) llm: Arc<LlmEntry>,
    pub(super) adapter: Adapter,
    pub(super) way: Way,
    pub(super) timeout: Duration,
    /// The address of each path that the provider has, chat first.
    uris: Vec<(&'static str, Uri)>,
    /// All headers but the credential.
    headers: HeaderMap,
    /// All headers, once the key is known: an entry has one key for all its life.
    with_credential: OnceLock<HeaderMap>,
    /// Finds the key in what the provider says, once the key is known.
    redactor: OnceLock<Option<Redactor>>,
}

impl Destination {
    pub(super) fn new(llm: Arc<LlmEntry>, transport: &Transport) -> Result<Self> {
        let adapter = Adapter::of(llm.spec.ty);
        let base = match llm.spec.url.as_str() {
            "" => llm.spec.ty.default_url().unwrap_or_default(),
            url => url,
        };
        let mut uris: Vec<(&'static str, Uri)> = Vec::new();
        for codec in Api::ALL.into_iter().filter_map(|api| Codec::new(api, llm.spec.ty).ok()) {
            let uri = Adapter::endpoint(base, codec.path()).parse();
            let uri = uri.map_err(|cause| {
                Error::internal(cause).context(format_args!("llm `{}`: its URL", llm.name))
            })?;
            uris.push((codec.path(), uri));
        }
        let millis = |name: &str| llm.spec.extra(name).and_then(Value::as_u64).map(Duration::from_millis);
        let timeout = millis("timeoutMs").unwrap_or(DEFAULT_TIMEOUT);
        let way = match adapter {
            Adapter::Gemini => transport.way_to_gemini(timeout).ok_or_else(|| no_program(&llm))?,
            Adapter::OpenAi | Adapter::Anthropic => {
                // All paths are at one host, so they share their connections.
                let first = uris.first().map(|(_, uri)| uri);
                let first = first.ok_or_else(|| Error::internal("a provider without an address"))?;
                transport.way(first, millis("connectTimeoutMs").unwrap_or(DEFAULT_CONNECT_TIMEOUT))?
            }
        };
        let headers = base_headers(&llm, adapter);
        Ok(Self {
            llm,
            adapter,
            way,
            timeout,
            uris,
            headers,
            with_credential: OnceLock::new(),
            redactor: OnceLock::new(),
        })
    }

    /// How this Llm is spoken to by callers of `api`.
    ///
    /// # Errors
    ///
    /// Not implemented, naming the Llm, when the provider has nothing like it.
    pub(super) fn codec(&self, api: Api) -> Result<Codec> {
        Codec::new(api, self.llm.spec.ty)
            .map_err(|error| error.context(format_args!("llm `{}`", self.llm.name)))
    }

    /// The settings of a translation, for a request that asks for `model`.
    pub(super) fn settings<'a>(&'a self, model: &'a str, created: i64) -> Settings<'a> {
        let extra = |name: &str| self.llm.spec.extra(name);
        Settings {
            llm_name: &self.llm.name,
            model,
            max_tokens: extra("maxTokens").and_then(Value::as_u64),
            strict: extra("strict").and_then(Value::as_bool).unwrap_or_default(),
            defaults: extra("defaults").and_then(Value::as_object),
            anthropic_version: extra("anthropicVersion").and_then(Value::as_str),
            created,
            ask_usage: matches!(
                self.llm.spec.ty,
                LlmType::OpenAi | LlmType::DeepSeek | LlmType::Vllm | LlmType::Ollama
            ),
            ty: Some(self.llm.spec.ty),
        }
    }

    /// The model to ask for when the caller asks for `wanted`.
    ///
    /// # Errors
    ///
    /// Forbidden, when the Llm restricts its models to others.
    pub(super) fn model<'a>(&'a self, wanted: Option<&'a str>) -> Result<&'a str> {
        let own = || self.llm.spec.model.as_str();
        let wanted = match wanted {
            None | Some("") => return Ok(own()),
            Some(name) if name == self.llm.name || name == own() => return Ok(own()),
            Some(wanted) => wanted,
        };
        if let Some(allowed) = self.llm.spec.extra("allowedModels").and_then(Value::as_array) {
            let fits = |pattern: &str| match pattern.strip_suffix('*') {
                Some(prefix) => wanted.starts_with(prefix),
                None => wanted == pattern,
            };
            if !allowed.iter().filter_map(Value::as_str).any(fits) {
                let message = format!("llm `{}` does not allow the model `{}`", self.llm.name, clip(wanted));
                return Err(Error::new(ErrorKind::Forbidden, message));
            }
        }
        Ok(wanted)
    }

    /// The provider's request, built from nothing the caller sent but the body, and for Anthropic's own API the
    /// two headers that say how to read it.
    pub(super) fn request(
        &self,
        codec: Codec,
        model: &str,
        key: Option<&SecretValue>,
        body: Bytes,
        caller: &CallerHeaders,
    ) -> Result<Request<Full<Bytes>>> {
        let path = codec.path();
        let uri = self.uris.iter().find(|(known, _)| *known == path).map(|(_, uri)| uri.clone());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.ok_or_else(|| Error::internal(format!("no address for {path}")))?;
        *request.headers_mut() = match key {
            Some(key) => self.headers_with(key)?.clone(),
            None => self.headers.clone(),
        };
        if codec.is_anthropic_throughout() {
            caller.add_to(request.headers_mut());
        }
        if self.adapter == Adapter::Gemini {
            request.extensions_mut().insert(Invocation { model: model.to_owned(), key: key.cloned() });
        }
        Ok(request)
    }

    /// All headers, the credential last: nothing else can take its place.
    fn headers_with(&self, key: &SecretValue) -> Result<&HeaderMap> {
        if let Some(headers) = self.with_credential.get() {
            return Ok(headers);
        }
        self.redactor.get_or_init(|| Redactor::new(key));
        let (name, value) = self.credential(key)?;
        let mut headers = self.headers.clone();
        headers.insert(name, value);
        Ok(self.with_credential.get_or_init(|| headers))
    }

    /// What the provider said, without our key.
    pub(super) fn redact(&self, bytes: Bytes) -> Bytes {
        match self.redactor.get() {
            Some(Some(redactor)) => redactor.clean(bytes),
            Some(None) | None => bytes,
        }
    }

    /// The same for a text.
    pub(super) fn redact_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact(Bytes::copy_from_slice(text.as_bytes()))).into_owned()
    }

    /// The same for an error that tells what the provider said.
    pub(super) fn redact_error(&self, error: Error) -> Error {
        let clean = self.redact_text(error.message());
        if clean == error.message() { error } else { Error::new(error.kind(), clean) }
    }

    fn credential(&self, key: &SecretValue) -> Result<(HeaderName, HeaderValue)> {
        let key = key.expose().trim();
        let (name, text) = match self.adapter {
            Adapter::OpenAi => (AUTHORIZATION, Zeroizing::new(format!("Bearer {key}"))),
            Adapter::Anthropic => (HeaderName::from_static("x-api-key"), Zeroizing::new(key.to_owned())),
            // What the program itself sends it in; to the program it goes in its environment.
            Adapter::Gemini => (HeaderName::from_static("x-goog-api-key"), Zeroizing::new(key.to_owned())),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Error::new(
                ErrorKind::SecretUnavailable,
                "Failed to resolve API key: the value cannot be sent in a header",
            )
        })?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// What a caller's headers say about how to read the body. Nothing else of them gets here.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerHeaders {
    version: Option<HeaderValue>,
    betas: Vec<HeaderValue>,
}

const VERSION: &str = "anthropic-version";
const BETA: &str = "anthropic-beta";

impl CallerHeaders {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            version: headers.get(VERSION).cloned(),
            betas: headers.get_all(BETA).iter().cloned().collect(),
        }
    }

    fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(version) = &self.version {
            headers.insert(VERSION, version.clone());
        }
        for beta in &self.betas {
            headers.append(BETA, beta.clone());
        }
    }
}

fn base_headers(llm: &LlmEntry, adapter: Adapter) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    // A compressed answer would have to be unpacked to be relayed, and could unpack to anything.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcpctl/", env!("CARGO_PKG_VERSION"))));
    let text = |value: &Value| value.as_str().and_then(|text| HeaderValue::from_str(text).ok());
    if adapter == Adapter::Anthropic {
        let version = llm.spec.extra("anthropicVersion").and_then(text);
        headers.insert(VERSION, version.unwrap_or(HeaderValue::from_static(ANTHROPIC_VERSION)));
    }
    let extra = llm.spec.extra("headers").and_then(Value::as_object);
    for (name, value) in extra.into_iter().flatten() {
        // Both were checked when the Llm was saved.
        if let (Ok(name), Some(mut value)) = (HeaderName::from_bytes(name.as_bytes()), text(value)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// The provider could not be reached, or did not answer as it should.
pub(super) fn provider_error(destination: &Destination, why: &str) -> Error {
    Error::new(ErrorKind::Provider, format!("llm `{}`: {why}", destination.llm.name))
}

/// Why an Llm of type `gemini-cli` cannot be called.
pub(super) fn no_program(llm: &LlmEntry) -> Error {
    let message = format!(
        "Unsupported LLM provider: gemini-cli (llm `{}`): the server has no `gemini` program; install it there with \
         `npm install -g @google/gemini-cli` and restart the server",
        llm.name
    );
    Error::new(ErrorKind::NotImplemented, message)
}

fn clip(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}
