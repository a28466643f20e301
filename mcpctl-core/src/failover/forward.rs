//! A call as a program made it, passed on byte for byte, with failover.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    client::FailoverClient,
    down::in_short,
    local::{LocalAnswer, LocalLlm},
    relay::LocalBody,
    router::{Decision, Down, NotRouted, Routed},
};
use crate::{
    adapter::Api,
    client::{RawAnswer, RawBody, Unreachable},
    error::{Error, ErrorKind, Result},
    wire::ChatRequest,
};

/// As much of a whole answer is read before it is handed out, so that one that breaks off is none. Of a longer one, the
/// rest is handed out as it comes.
const MAX_WHOLE: usize = 64 << 20;

/// A call of an Llm, as a program made it.
#[derive(Clone, Debug)]
pub struct Call {
    api: Api,
    headers: HeaderMap,
    body: Bytes,
    llm: Option<String>,
}

impl Call {
    /// A call with these headers, none of which may be a credential: the client adds its own.
    pub fn new(api: Api, headers: HeaderMap, body: Bytes) -> Self {
        // What cannot be read is the server's to refuse, in its own words.
        let request = ChatRequest::scan_for(&body, api.required()).ok();
        let llm = request.and_then(|request| request.model().map(str::to_owned));
        Self { api, headers, body, llm }
    }

    /// The Llm that the body names.
    pub fn llm(&self) -> Option<&str> {
        self.llm.as_deref()
    }
}

/// What became of a call.
#[derive(Debug)]
pub struct Forwarded {
    /// The answer, be it a refusal; an error when there is none from anybody.
    pub answer: Result<Passed>,
    /// The local provider that gave it.
    pub via: Option<String>,
    /// Why it is the answer.
    pub decision: Decision,
    /// How the server failed, when it did. For people.
    pub failure: Option<String>,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Passed {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Dropping it ends the request.
    pub body: PassedBody,
}

/// The bytes of an answer, read only as fast as they are taken.
pub struct PassedBody {
    /// What has come already.
    ready: VecDeque<Bytes>,
    rest: Rest,
}

enum Rest {
    None,
    Server(RawBody),
    Local(LocalBody),
}

/// Why the server's answer is not the one that was wanted.
enum Failed {
    /// It is a refusal, or a 5xx: it is kept, for it may have to be the answer.
    Answered(Box<Passed>),
    /// There is none.
    Unanswered(Error),
}

impl Down for Failed {
    fn is_down(&self) -> bool {
        match self {
            Self::Answered(answer) => answer.status.is_server_error(),
            Self::Unanswered(error) => error.is_down(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "the server answered {}", answer.status),
            Self::Unanswered(error) => write!(f, "the server: {}", in_short(error)),
        }
    }
}

impl FailoverClient {
    /// Passes a call on to the server; when the server is down, to the local provider that stands in for the Llm.
    ///
    /// Unless a local provider answers, the server's answer comes back as it is: status, headers and bytes.
    pub async fn forward(&self, call: Call) -> Forwarded {
        let mut failure = None;
        let llm = call.llm.as_deref().unwrap_or_default();
        let primary = async {
            let answered = self.bounded_call(llm, &call).await;
            failure = answered.as_ref().err().map(ToString::to_string);
            answered
        };
        let local = |provider: Arc<LocalLlm>| {
            let (api, body) = (call.api, call.body.clone());
            async move { provider.call(api, body).await.map(Passed::from_local) }
        };
        let (answer, via, decision) = match self.router().run(llm, primary, local).await {
            Ok(Routed { value, via, decision, .. }) => (Ok(value), via, decision),
            Err(NotRouted { error: Failed::Answered(answer), decision }) => {
                self.heed_status(llm, answer.status);
                (Ok(*answer), None, decision)
            }
            Err(NotRouted { error: Failed::Unanswered(error), decision }) => (Err(error), None, decision),
        };
        Forwarded { answer, via, decision, failure }
    }

    /// A server that says nothing for long counts as down, if somebody could answer in its place.
    async fn bounded_call(&self, llm: &str, call: &Call) -> Result<Passed, Failed> {
        let called = self.ask_server(call);
        if self.router().providers().stand_in(llm).is_none() {
            return called.await;
        }
        let answer = tokio::time::timeout(self.patience, called).await;
        answer.unwrap_or_else(|_| Err(Failed::Unanswered(self.client().too_slow())))
    }

    /// The server's answer: begun, if it is a stream; else whole.
    async fn ask_server(&self, call: &Call) -> Result<Passed, Failed> {
        let path: Vec<&str> = call.api.path().split('/').skip(1).collect();
        let answer =
            self.client().forward(Method::POST, &path, call.headers.clone(), call.body.clone()).await;
        let answer = answer.map_err(Failed::Unanswered)?;
        if answer.status.is_redirection() {
            return Err(Failed::Unanswered(redirected(answer.status)));
        }
        let is_stream = answer.is_event_stream();
        let answer = Passed::from_server(answer);
        if !answer.status.is_success() {
            return Err(Failed::Answered(Box::new(answer)));
        }
        let most = if is_stream { 1 } else { MAX_WHOLE };
        let answer = answer.begin(most).await.map_err(Failed::Unanswered)?;
        if is_stream && answer.body.ready.is_empty() {
            let error = Error::new(ErrorKind::Provider, "the server closed the stream before it began");
            return Err(Failed::Unanswered(error));
        }
        Ok(answer)
    }

    /// A server that says no has taken back its leases.
    fn heed_status(&self, llm: &str, status: StatusCode) {
        if let Some(leases) = self.leases().filter(|_| matches!(status.as_u16(), 401 | 403 | 404)) {
            leases.forget(llm);
        }
    }
}

/// Not followed, and not passed on either: whoever called would take the local token there.
fn redirected(status: StatusCode) -> Error {
    let message = "the server's URL redirects elsewhere, which is not followed";
    Error::new(ErrorKind::Unavailable, message)
        .caused_by(Unreachable::NotOurs { status: Some(status.as_u16()) })
}

impl RawAnswer {
    fn is_event_stream(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

impl Passed {
    fn from_server(answer: RawAnswer) -> Self {
        let RawAnswer { status, headers, body } = answer;
        Self { status, headers, body: PassedBody { ready: VecDeque::new(), rest: Rest::Server(body) } }
    }

    fn from_local(answer: LocalAnswer) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let body = PassedBody { ready: VecDeque::new(), rest: Rest::Local(answer.body) };
        Self { status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK), headers, body }
    }

    /// Reads until at least `most` bytes are there, or all.
    async fn begin(mut self, most: usize) -> Result<Self> {
        let Rest::Server(mut body) = self.body.rest else { return Ok(self) };
        let (mut length, mut ready) = (0, VecDeque::new());
        while length < most {
            let Some(bytes) = body.next().await.transpose()? else {
                self.body = PassedBody { ready, rest: Rest::None };
                return Ok(self);
            };
            length += bytes.len();
            ready.extend(Some(bytes).filter(|bytes| !bytes.is_empty()));
        }
        self.body = PassedBody { ready, rest: Rest::Server(body) };
        Ok(self)
    }
}

impl From<RawAnswer> for Passed {
    fn from(answer: RawAnswer) -> Self {
        Self::from_server(answer)
    }
}

impl PassedBody {
    /// Its length, when all of it is here.
    pub fn length(&self) -> Option<u64> {
        let length = || self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        matches!(self.rest, Rest::None).then(length)
    }
}

impl Stream for PassedBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        match &mut self.rest {
            Rest::None => Poll::Ready(None),
            Rest::Server(body) => Pin::new(body).poll_next(context),
            Rest::Local(body) => Pin::new(body).poll_next(context),
        }
    }
}

impl fmt::Debug for PassedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassedBody").field("length", &self.length()).finish_non_exhaustive()
    }
}
