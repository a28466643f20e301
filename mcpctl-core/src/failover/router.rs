//! What a failure means, and whether a local provider may answer instead.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::providers::{Provider, ProviderRegistry};

/// Tells a primary that is down from one that refuses.
pub trait Down {
    /// Whether the server or the provider behind it is down: no connection, no answer in time, an answer that broke
    /// off, or a 5xx. A refusal (4xx) is an answer.
    fn is_down(&self) -> bool;
}

/// What is known of the caller's right to see an Llm at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// The server says yes.
    Allowed,
    /// The server does not answer, and a proof that it gave earlier still holds.
    Leased,
    /// The server says no.
    Forbidden,
    /// The server says neither, and nothing else may stand for it. The reason is for people.
    Unreachable(String),
}

/// Who knows whether the caller may see an Llm: the server, asked anew each time.
#[async_trait]
pub trait Permission: Send + Sync {
    /// Asks for one Llm. It always ends, within a bound of its own.
    async fn consent(&self, llm: &str) -> Consent;
}

/// Why a call went where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The primary answered.
    Primary,
    /// The primary refused, and that is the answer.
    Refused,
    /// The primary is down, and nobody stands in for the Llm.
    NoStandIn,
    /// The primary is down, and the server says that the caller may not see the Llm.
    Forbidden,
    /// The primary is down, and the server's consent could not be had. The reason is for people.
    Unreachable(String),
    /// The primary is down; a local provider answered with the server's consent.
    FailedOver,
    /// The primary is down; a local provider answered under a lease, as the server does not answer.
    Leased,
    /// The primary is down, and so is the local provider. The reason is for people.
    StandInFailed(String),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("the primary answered"),
            Self::Refused => f.write_str("the primary refused, which is an answer"),
            Self::NoStandIn => f.write_str("no local provider stands in for this llm"),
            Self::Forbidden => f.write_str("the server says that the caller may not see this llm"),
            Self::Unreachable(why) => write!(f, "the server could not be asked for its consent: {why}"),
            Self::FailedOver => f.write_str("a local provider answered, with the server's consent"),
            Self::Leased => f.write_str("a local provider answered, under a lease of the server"),
            Self::StandInFailed(why) => write!(f, "the local provider failed as well: {why}"),
        }
    }
}

/// A result, and where it comes from.
#[derive(Debug)]
pub struct Routed<T> {
    /// The result.
    pub value: T,
    /// Whether a local provider gave it.
    pub failover: bool,
    /// That provider's name.
    pub via: Option<String>,
    /// Why.
    pub decision: Decision,
}

/// The primary's own error, unchanged, and why nobody stood in.
#[derive(Debug)]
pub struct NotRouted<E> {
    /// The primary's error.
    pub error: E,
    /// Why it is the answer.
    pub decision: Decision,
}

/// Runs calls, and lets local providers stand in. Cheap to clone.
pub struct FailoverRouter<P> {
    providers: Arc<ProviderRegistry<P>>,
    permission: Arc<dyn Permission>,
}

impl<P> Clone for FailoverRouter<P> {
    fn clone(&self) -> Self {
        Self { providers: self.providers.clone(), permission: self.permission.clone() }
    }
}

impl<P: Provider> FailoverRouter<P> {
    /// A router over these providers, with the server's word on who may see what.
    pub fn new(providers: Arc<ProviderRegistry<P>>, permission: Arc<dyn Permission>) -> Self {
        Self { providers, permission }
    }

    /// The providers it lets stand in.
    pub fn providers(&self) -> &Arc<ProviderRegistry<P>> {
        &self.providers
    }

    /// Runs `primary`, a call of the Llm named `llm`; when it is down, and the caller may see that Llm, `local`
    /// with the provider that stands in.
    ///
    /// A stream is handed to this as a future that ends with its first chunk: from then on it is the answer, and what
    /// becomes of it is no matter of failover any more.
    ///
    /// # Errors
    ///
    /// The primary's own error, unchanged, whenever no local provider answered.
    pub async fn run<T, E, S>(
        &self,
        llm: &str,
        primary: impl Future<Output = Result<T, E>>,
        local: impl FnOnce(Arc<P>) -> S,
    ) -> Result<Routed<T>, NotRouted<E>>
    where
        E: Down,
        S: Future<Output = crate::Result<T>>,
    {
        let error = match primary.await {
            Ok(value) => {
                return Ok(Routed { value, failover: false, via: None, decision: Decision::Primary });
            }
            Err(error) => error,
        };
        let decision = match self.stand_in(llm, error.is_down()).await {
            Ok((provider, decision)) => {
                let via = provider.name().to_owned();
                match local(provider).await {
                    Ok(value) => {
                        tracing::warn!(llm, via, %decision, "failover");
                        return Ok(Routed { value, failover: true, via: Some(via), decision });
                    }
                    Err(fault) => Decision::StandInFailed(format!("{via}: {}", fault.message())),
                }
            }
            Err(decision) => decision,
        };
        tracing::debug!(llm, %decision, "no failover");
        Err(NotRouted { error, decision })
    }

    async fn stand_in(&self, llm: &str, is_down: bool) -> Result<(Arc<P>, Decision), Decision> {
        if !is_down {
            return Err(Decision::Refused);
        }
        let provider = self.providers.stand_in(llm).ok_or(Decision::NoStandIn)?;
        match self.permission.consent(llm).await {
            Consent::Allowed => Ok((provider, Decision::FailedOver)),
            Consent::Leased => Ok((provider, Decision::Leased)),
            Consent::Forbidden => Err(Decision::Forbidden),
            Consent::Unreachable(why) => Err(Decision::Unreachable(why)),
        }
    }
}
