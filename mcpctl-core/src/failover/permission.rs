//! The server's word on who may see an Llm, and what stands for it while the server is away.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;

use super::{
    down::in_short,
    leases::LeaseBook,
    router::{Consent, Down as _, Permission},
};
use crate::{client::Client, lease, resource::kinds::LLMS};

/// How long the server may take to say whether the caller may see an Llm.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the server with `HEAD /api/v1/llms/:name`, with the client's own token.
///
/// A lease counts only while the server itself gives no answer, or a 5xx. Whatever else it answers is its word. A
/// client that acts for another user has none: a lease says what its holder may see, not that user.
#[derive(Clone, Debug)]
pub struct ServerPermission {
    client: Client,
    leases: Option<LeaseBook>,
    deadline: Duration,
}

impl ServerPermission {
    /// The word of the server that `client` speaks to; leases count when there is a book of them.
    pub fn new(client: &Client, leases: Option<LeaseBook>) -> Self {
        let leases = leases.filter(|_| !client.acts_for_another());
        let client = match &leases {
            Some(leases) => client.observed_by(leases.observer()),
            None => client.clone(),
        };
        Self { client, leases, deadline: DEADLINE }
    }

    /// The same with another bound on the time it takes.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The server gives no word. `why` is for people.
    fn without_server(&self, llm: &str, why: &str) -> Consent {
        let Some(leases) = &self.leases else { return Consent::Unreachable(why.to_owned()) };
        let fingerprint = self.client.token().map(lease::token_fingerprint);
        match fingerprint.as_deref().map(|fingerprint| leases.judge(llm, fingerprint)) {
            Some(Ok(())) => Consent::Leased,
            Some(Err(fault)) => Consent::Unreachable(format!("{why}; {fault}")),
            None => Consent::Unreachable(why.to_owned()),
        }
    }

    fn answered(&self, llm: &str, status: StatusCode) -> Consent {
        let forget = || self.leases.as_ref().map(|leases| leases.forget(llm));
        match status.as_u16() {
            200 | 204 => Consent::Allowed,
            401 | 403 => {
                forget();
                Consent::Forbidden
            }
            404 => {
                forget();
                Consent::Unreachable("the server has no such llm".to_owned())
            }
            500.. => self.without_server(llm, &format!("the server answered {status}")),
            _ => Consent::Unreachable(format!("the server answered {status}")),
        }
    }
}

#[async_trait]
impl Permission for ServerPermission {
    async fn consent(&self, llm: &str) -> Consent {
        match tokio::time::timeout(self.deadline, self.client.probe(LLMS, llm)).await {
            Ok(Ok(status)) => self.answered(llm, status),
            Ok(Err(error)) if error.is_down() => self.without_server(llm, &in_short(&error)),
            Ok(Err(error)) => Consent::Unreachable(in_short(&error)),
            Err(_) => {
                let seconds = self.deadline.as_secs_f64();
                self.without_server(llm, &format!("the server has not answered in {seconds} seconds"))
            }
        }
    }
}
