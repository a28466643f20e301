//! One call, step by step.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use foldhash::HashMap;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;

use super::{
    account::Account,
    admission::{Admission, Places},
    answer::Answer,
    ask::{self, Ask, Target},
    body::{BodyFault, read, read_whole},
    destination::{CallerHeaders, Destination, no_program, provider_error},
    meters::Meters,
    metrics,
    relay::Relay,
    revocation::Caller,
    span::{CallSpan, Propagate, TRACEPARENT},
    transport::{Fault, FaultKind, GeminiProgram, ProviderBody, Transport},
};
use crate::{
    adapter::{Api, Codec, DecodeContext, ProviderRequest},
    auth::Principal,
    error::{Error, ErrorKind, Result},
    net::describe,
    rbac::Action,
    registry::{LlmEntry, Registry},
    resource::{Id, kinds},
    secret::SecretValue,
    wire::ChatRequest,
};

/// Calls Llms. Clones share one.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    registry: Registry,
    transport: Transport,
    /// Llms that have been called, ready to be called again. Read without a lock.
    destinations: ArcSwap<HashMap<Id, Arc<Destination>>>,
    admission: Arc<Admission>,
    meters: Arc<Meters>,
    propagate: Option<Propagate>,
}

/// Limits of a gateway.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Calls at once; more wait in line. An Llm may have a limit of its own besides.
    pub max_in_flight: usize,
    /// Calls in each line at most; more are refused. As many as the limit they wait at, at most 1,000, when not set.
    pub max_queue: Option<usize>,
    /// How long a call waits in line before it is refused.
    pub queue_timeout: Duration,
    /// What tells a provider of the span of a call, when calls are traced. The default is to tell nothing.
    pub propagate: Option<Propagate>,
    /// The program behind Llms of type `gemini-cli`, which cannot be called without one.
    pub gemini: Option<GeminiProgram>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        let (max_queue, propagate, gemini) = (None, None, None);
        Self { max_in_flight: 10_000, max_queue, queue_timeout: Duration::from_secs(1), propagate, gemini }
    }
}

/// An Llm, as OpenAI's API lists models.
#[derive(Clone, Debug)]
pub struct Model {
    /// The Llm's name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The provider's type.
    pub owned_by: &'static str,
}

/// The longest answer that is not streamed, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// The longest error of a provider that is read, in bytes.
const MAX_ERROR: usize = 256 * 1024;

impl Gateway {
    /// A gateway over a registry.
    ///
    /// # Errors
    ///
    /// Internal, when TLS cannot be set up.
    pub fn new(registry: Registry, settings: GatewaySettings) -> Result<Self> {
        let admission = Arc::new(Admission::new(&settings));
        let GatewaySettings { propagate, gemini, .. } = settings;
        gemini.iter().for_each(GeminiProgram::sweep);
        let (transport, destinations, meters) = (Transport::new(gemini)?, ArcSwap::default(), Arc::default());
        Ok(Self(Arc::new(Inner { registry, transport, destinations, admission, meters, propagate })))
    }

    /// The same gateway, limits included, with connections to providers of its own: for a thread that must not
    /// wait for others.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let Inner { registry, transport, admission, meters, propagate, .. } = &*self.0;
        Self(Arc::new(Inner {
            registry: registry.clone(),
            transport: transport.with_own_connections(),
            destinations: ArcSwap::default(),
            admission: admission.clone(),
            meters: meters.clone(),
            propagate: *propagate,
        }))
    }

    /// Sends a chat-completions request to an Llm. Whatever the provider, the answer is in OpenAI's format.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn chat(&self, who: &Principal, target: Target<'_>, body: Bytes) -> Result<Answer> {
        self.call(who, Ask::new(target, Api::ChatCompletions, body)).await
    }

    /// Sends a request of any API to an Llm. Whatever the provider, the answer is in the format of that API.
    ///
    /// A provider's refusal is an `Ok` answer with the provider's status; an error of ours is an `Err`.
    ///
    /// # Errors
    ///
    /// Forbidden; not found; invalid, naming the field; secret unavailable; not implemented; provider and provider
    /// timeout; rate limited, at the Llm's limit of calls in flight; unavailable, at the server's, or when the audit
    /// trail cannot be written.
    pub async fn call(&self, who: &Principal, ask: Ask<'_>) -> Result<Answer> {
        let Ask { target, api, body, headers } = ask;
        // 1. Which Llm, and may the caller run it? Nothing of the body is judged before that, where the path names
        //    the Llm.
        let (llm, request) = match target {
            Target::Named(name) => (self.llm(who, name).await?, ChatRequest::scan_for(&body, api.required())),
            Target::FromBody => {
                let request = ChatRequest::scan_for(&body, api.required())?;
                let name = request.model().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| Error::invalid("model: is required, and names the Llm"))?;
                (self.llm(who, name).await?, Ok(request))
            }
            Target::Project(name) => {
                Box::pin(ask::of_project(&self.0.registry, who, name, api, &body)).await?
            }
        };
        // 2. A place in the audit trail: what cannot be audited is not done. However the call ends from here on,
        //    also by the caller going away, the account is written.
        let Inner { registry, admission, meters, .. } = &*self.0;
        let permit = registry.audit().reserve().await?;
        let streaming = api.streams() && request.as_ref().is_ok_and(ChatRequest::stream);
        let llm_meters = meters.of(&llm);
        let mut account = Account::new(permit, llm_meters.clone(), who, &llm, api, streaming);
        account.trace(CallSpan::begin(api, &llm, streaming));
        // 3. A place among those in flight, now or soon.
        let places = match admission.admit(registry, &llm, &llm_meters).await {
            Ok(places) => places,
            Err(error) => {
                meters.shed.fetch_add(1, Relaxed);
                account.fail(status_of(&error), error.message()).kept().await?;
                return Err(error);
            }
        };
        // 4. The call itself, for as long as the caller may make it.
        let caller = Caller { registry, who, llm: &llm };
        let (outcome, receipt) = match self.send(caller, api, request, &headers, &mut account, &places).await
        {
            Ok(Called::Whole { mut answer, bytes }) => {
                account.sent(bytes);
                caller.lease(&mut answer);
                let receipt = account.finish(answer.status);
                (Ok(answer), receipt)
            }
            Ok(Called::Refused { answer, why }) => {
                let receipt = account.fail(answer.status, &why);
                (Ok(answer), receipt)
            }
            Ok(Called::Stream(stream)) => return stream.begin(account, places, caller).await,
            Err(error) => {
                let receipt = account.fail(status_of(&error), error.message());
                (Err(error), receipt)
            }
        };
        receipt.kept().await?;
        outcome
    }

    /// One Llm that `who` may run, by id or name.
    ///
    /// # Errors
    ///
    /// Forbidden, whether it exists or not; not found.
    pub async fn model(&self, who: &Principal, name: &str) -> Result<Model> {
        let llm = self.llm(who, name).await?;
        let snapshot = self.0.registry.snapshot();
        let object = snapshot.shelf(kinds::LLMS).get(&llm.id);
        let created_at = object.map_or(Timestamp::UNIX_EPOCH, |object| object.created_at);
        Ok(Model { name: llm.name.clone(), created_at, owned_by: llm.spec.ty.as_str() })
    }

    /// The Llms that `who` may run, by name.
    pub fn models(&self, who: &Principal) -> Vec<Model> {
        let snapshot = self.0.registry.snapshot();
        let may_run =
            |llm: &&Arc<LlmEntry>| who.rights().allow_on(Action::Run, kinds::LLMS, &llm.name, Some(&llm.id));
        let model = |llm: &Arc<LlmEntry>| {
            let created_at = snapshot.shelf(kinds::LLMS).get(&llm.id)?.created_at;
            Some(Model { name: llm.name.clone(), created_at, owned_by: llm.spec.ty.as_str() })
        };
        snapshot.llms().filter(may_run).filter_map(model).collect()
    }

    /// The numbers of the Llms that `who` may view, and of the process, in the OpenMetrics text format.
    ///
    /// # Errors
    ///
    /// Internal, when the text cannot be written.
    pub fn metrics(&self, who: &Principal) -> Result<String> {
        metrics::expose(&self.0.registry, &self.0.meters, self.0.transport.connections(), who)
    }

    async fn llm(&self, who: &Principal, name: &str) -> Result<Arc<LlmEntry>> {
        let registry = &self.0.registry;
        registry.require_on(who, Action::Run, kinds::LLMS, name).await?;
        let llm = registry.snapshot().llm(name).cloned();
        llm.ok_or_else(|| Error::not_found(format!("no llm named `{}`", clip(name))))
    }

    async fn send(
        &self,
        caller: Caller<'_>,
        api: Api,
        request: Result<ChatRequest>,
        headers: &CallerHeaders,
        account: &mut Account,
        places: &Places,
    ) -> Result<Called> {
        let request = request?;
        // A key past its lifetime is resolved anew, which may make another entry.
        let renewed = self.0.registry.renewed_if_old(caller.llm).await?;
        let llm = renewed.as_ref().unwrap_or(caller.llm);
        let destination = self.destination(llm)?;
        let codec = destination.codec(api)?;
        // The model to ask for: the Llm's own, unless the caller wants another and may have it.
        let wanted = request.model();
        let model = destination.model(wanted)?;
        account.model(model);
        // The provider's key: in memory, but for the first call.
        let key = self.0.registry.api_key(llm).await?;
        let settings = destination.settings(model, Timestamp::now().as_second());
        let ProviderRequest { body, dropped, context } = codec.encode(&request, &settings)?;
        let mut outgoing = destination.request(codec, model, key.as_deref(), body, headers)?;
        if let (Some(span), Some(propagate)) = (account.span(), self.0.propagate)
            && let Some(parent) = span.traceparent(propagate)
        {
            outgoing.headers_mut().insert(TRACEPARENT, parent);
        }
        if let Some(place) = places.process() {
            outgoing.extensions_mut().insert(place);
        }
        let sending = pin!(destination.way.send(outgoing));
        let response = caller.wait(destination.timeout, sending).await?;
        let response = response.ok_or_else(|| too_slow(&destination))?;
        let response = response.map_err(|fault| no_response(&destination, fault))?;
        let mut called = match codec.streams(&request) {
            _ if !response.status().is_success() => {
                // Rare, and large: it must not make every call's future as large.
                Box::pin(refused(&destination, codec, response, key.as_deref())).await
            }
            true => stream(&destination, codec, response, context)?,
            false => whole(&destination, codec, response, &context, account, caller).await?,
        };
        called.report(&dropped);
        Ok(called)
    }

    /// The destination of an Llm, made at its first call and again when it changes.
    fn destination(&self, llm: &Arc<LlmEntry>) -> Result<Arc<Destination>> {
        if let Some(known) = self.0.destinations.load().get(&llm.id)
            && Arc::ptr_eq(&known.llm, llm)
        {
            return Ok(known.clone());
        }
        let made = Arc::new(Destination::new(llm.clone(), &self.0.transport)?);
        let snapshot = self.0.registry.snapshot();
        self.0.destinations.rcu(|known| {
            // Those of Llms that are gone or have changed go too.
            let current = known.iter().filter(|(id, known)| {
                snapshot.llm(id.as_str()).is_some_and(|llm| Arc::ptr_eq(llm, &known.llm))
            });
            let mut next: HashMap<Id, Arc<Destination>> =
                current.map(|(id, known)| (id.clone(), known.clone())).collect();
            next.insert(llm.id.clone(), made.clone());
            next
        });
        Ok(made)
    }
}

/// How a provider answered.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and a box would be an allocation per stream"
)]
enum Called {
    /// In full.
    Whole { answer: Answer, bytes: usize },
    /// With an error.
    Refused { answer: Answer, why: String },
    /// With a stream that has not begun.
    Stream(Stream),
}

struct Stream {
    provider: ProviderBody,
    codec: Codec,
    context: DecodeContext,
    destination: Arc<Destination>,
    dropped: Option<HeaderValue>,
}

/// Names the request parameters that the provider could not be told.
const DROPPED: &str = "x-mcpctl-dropped";

impl Called {
    fn report(&mut self, dropped: &[String]) {
        if dropped.is_empty() {
            return;
        }
        let Ok(names) = HeaderValue::from_str(&dropped.join(",")) else { return };
        match self {
            Self::Whole { answer, .. } | Self::Refused { answer, .. } => {
                answer.headers.insert(DROPPED, names);
            }
            Self::Stream(stream) => stream.dropped = Some(names),
        }
    }
}

impl Stream {
    /// Waits for the first bytes: until then, a failure is an HTTP error.
    async fn begin(self, account: Account, places: Places, caller: Caller<'_>) -> Result<Answer> {
        let (decoder, destination) = (self.codec.stream(self.context), self.destination.clone());
        let mut relay = Relay::new(self.provider, decoder, account, destination, places, caller.keep());
        if let Err(error) = relay.first().await {
            relay.fail(status_of(&error), error.message()).kept().await?;
            return Err(error);
        }
        let mut answer = Answer::stream(relay);
        caller.lease(&mut answer);
        if let Some(dropped) = self.dropped {
            answer.headers.insert(DROPPED, dropped);
        }
        Ok(answer)
    }
}

fn stream(
    destination: &Arc<Destination>,
    codec: Codec,
    response: Response<ProviderBody>,
    context: DecodeContext,
) -> Result<Called> {
    check_encoding(destination, &response)?;
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    if !content_type.starts_with(destination.adapter.stream_type()) {
        let what = if content_type.is_empty() { "no content type" } else { &content_type };
        return Err(provider_error(
            destination,
            &format!("the provider answered no event stream but {}", clip(what)),
        ));
    }
    let (provider, destination) = (response.into_body(), destination.clone());
    Ok(Called::Stream(Stream { provider, codec, context, destination, dropped: None }))
}

async fn whole(
    destination: &Destination,
    codec: Codec,
    response: Response<ProviderBody>,
    context: &DecodeContext,
    account: &mut Account,
    caller: Caller<'_>,
) -> Result<Called> {
    check_encoding(destination, &response)?;
    let status = response.status();
    let reading = pin!(read(response.into_body(), MAX_ANSWER));
    let body = caller.wait_if_needed(destination.timeout, reading).await?.unwrap_or(Err(BodyFault::TooSlow));
    let body = body.map_err(|fault| match fault {
        BodyFault::TooSlow => too_slow(destination),
        BodyFault::Broken(fault) if fault.is_late() => too_slow(destination),
        BodyFault::TooLong => {
            provider_error(destination, &format!("the provider's answer is longer than {MAX_ANSWER} bytes"))
        }
        BodyFault::Broken(fault) => {
            provider_error(destination, &format!("the provider broke off: {}", describe(&fault)))
        }
    })?;
    let decoded = codec.decode(&body, context).map_err(|error| destination.redact_error(error))?;
    account.summary(&decoded.summary, destination);
    let body = destination.redact(decoded.body);
    let bytes = body.len();
    Ok(Called::Whole { answer: Answer::whole(status, body), bytes })
}

/// The provider's refusal, in the caller's format, without our key if the provider repeated it.
async fn refused(
    destination: &Destination,
    codec: Codec,
    response: Response<ProviderBody>,
    key: Option<&SecretValue>,
) -> Called {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
    // A refusal whose body is too long or never ends is a refusal all the same.
    let body = read_whole(response.into_body(), MAX_ERROR, Duration::from_secs(10)).await.unwrap_or_default();
    let mut error = codec.decode_error(status, &body, &destination.llm.name);
    if let Some(key) = key {
        error = error.redact(key.expose().trim());
    }
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = Answer::whole(status, error.body_json);
    if let Some(wait) =
        retry_after.filter(|_| status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
    {
        answer.headers.insert(header::RETRY_AFTER, wait);
    }
    Called::Refused { answer, why: error.message }
}

/// We ask for no compression; what comes compressed all the same is not unpacked.
fn check_encoding(destination: &Destination, response: &Response<ProviderBody>) -> Result<()> {
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(provider_error(destination, "the provider's answer is compressed, which was not asked for"))
        }
        _ => Ok(()),
    }
}

fn too_slow(destination: &Destination) -> Error {
    let (name, seconds) = (&destination.llm.name, destination.timeout.as_secs_f64());
    Error::new(
        ErrorKind::ProviderTimeout,
        format!("llm `{name}`: the provider did not answer in {seconds} seconds"),
    )
}

fn no_response(destination: &Destination, fault: Fault) -> Error {
    let doing = match fault.kind {
        FaultKind::Connect => "the provider cannot be reached",
        FaultKind::Exchange => "the provider broke off",
        FaultKind::Missing => return no_program(&destination.llm),
        FaultKind::Late => return too_slow(destination),
    };
    provider_error(destination, &format!("{doing}: {}", fault.what))
}

fn status_of(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn clip(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}
