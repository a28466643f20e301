//! Inference with failover, in one call.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use super::{
    leases::LeaseBook,
    local::LocalLlm,
    permission::ServerPermission,
    providers::ProviderRegistry,
    router::{Decision, FailoverRouter, NotRouted, Permission, Routed},
};
use crate::{
    adapter::Api,
    client::{ChatStream, Client},
    error::{Error, ErrorKind, Result},
};

/// How long the server may take to begin a stream, or to give a whole answer, before it counts as down: longer than it
/// gives a provider itself unless an Llm says otherwise, so that its own word comes first.
const PATIENCE: Duration = Duration::from_secs(330);

/// A client whose calls local providers may answer while the server, or a provider behind it, is down. Mappings and
/// leases go by an Llm's name, so it is to be called by that.
#[derive(Clone)]
pub struct FailoverClient {
    client: Client,
    router: FailoverRouter<LocalLlm>,
    leases: Option<LeaseBook>,
    pub(super) patience: Duration,
}

impl FailoverClient {
    /// Calls through `client`, with these providers to stand in. Leases are taken and used when there is a book of
    /// them, unless the client acts for another user.
    pub fn new(
        client: &Client,
        providers: Arc<ProviderRegistry<LocalLlm>>,
        leases: Option<LeaseBook>,
    ) -> Self {
        let permission = Arc::new(ServerPermission::new(client, leases.clone()));
        Self::with_permission(client, providers, leases, permission)
    }

    /// The same, with something else that knows who may see an Llm.
    pub fn with_permission(
        client: &Client,
        providers: Arc<ProviderRegistry<LocalLlm>>,
        leases: Option<LeaseBook>,
        permission: Arc<dyn Permission>,
    ) -> Self {
        let leases = leases.filter(|_| !client.acts_for_another());
        let client = match &leases {
            Some(leases) => client.observed_by(leases.observer()),
            None => client.clone(),
        };
        let router = FailoverRouter::new(providers, permission);
        Self { client, router, leases, patience: PATIENCE }
    }

    /// The same, with another bound on how long the server may take to begin a stream, or to give a whole answer, while
    /// somebody may stand in. Without a stand-in there is none.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The client of the server. Leases in its answers are taken.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The router, for calls of other kinds.
    pub fn router(&self) -> &FailoverRouter<LocalLlm> {
        &self.router
    }

    /// The leases, when there is a book of them.
    pub fn leases(&self) -> Option<&LeaseBook> {
        self.leases.as_ref()
    }

    /// Asks an Llm: an OpenAI chat-completions body in, its answer out.
    ///
    /// # Errors
    ///
    /// Those of [`Client::infer`], unchanged, whenever no local provider answered.
    pub async fn infer(&self, llm: &str, body: &Value) -> Result<Routed<Value>, NotRouted<Error>> {
        let primary = self.bounded(llm, self.client.infer(llm, body));
        let local = |provider: Arc<LocalLlm>| async move {
            let mut answer = provider.call(Api::ChatCompletions, request(body, false)).await?;
            let mut whole = Vec::new();
            while let Some(bytes) = answer.body.next().await {
                whole.extend_from_slice(&bytes?);
            }
            let not_json = |_| Error::new(ErrorKind::Provider, "it answered with something other than JSON");
            serde_json::from_slice(&whole).map_err(not_json)
        };
        self.heed(llm, self.router.run(llm, primary, local).await)
    }

    /// Asks an Llm for an answer in pieces. When this returns, the first is there, and whoever gave it gives the rest.
    ///
    /// # Errors
    ///
    /// Those of [`Client::infer_stream`], unchanged, and of the first piece, whenever no local provider answered.
    pub async fn infer_stream(
        &self,
        llm: &str,
        body: &Value,
    ) -> Result<Routed<ChatStream>, NotRouted<Error>> {
        let primary = self.bounded(llm, async {
            let mut stream = self.client.infer_stream(llm, body).await?;
            stream.begin().await?;
            Ok(stream)
        });
        let local = |provider: Arc<LocalLlm>| async move {
            let answer = provider.call(Api::ChatCompletions, request(body, true)).await?;
            let mut stream = ChatStream::new(answer.body);
            stream.begin().await?;
            Ok(stream)
        };
        self.heed(llm, self.router.run(llm, primary, local).await)
    }

    /// A server that says nothing for long counts as down, if somebody could answer in its place.
    async fn bounded<T>(&self, llm: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.router.providers().stand_in(llm).is_none() {
            return call.await;
        }
        let answer = tokio::time::timeout(self.patience, call).await;
        answer.unwrap_or_else(|_| Err(self.client.too_slow()))
    }

    /// A server that says no has taken back its leases.
    fn heed<T>(
        &self,
        llm: &str,
        outcome: Result<Routed<T>, NotRouted<Error>>,
    ) -> Result<Routed<T>, NotRouted<Error>> {
        if let (Some(leases), Err(NotRouted { error, decision: Decision::Refused })) =
            (&self.leases, &outcome)
        {
            match error.kind() {
                ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::NotFound => leases.forget(llm),
                _ => {}
            }
        }
        outcome
    }
}

/// The request for a local provider.
fn request(body: &Value, stream: bool) -> Bytes {
    let mut body = body.clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("stream".into(), stream.into());
    }
    body.to_string().into()
}
