//! The token to show: one that is kept in a Secret, or one that a login gave.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use super::http::{Answer, Http, fault, no_answer};
use crate::{
    error::{Error, Result},
    resource::{ApiKeyRef, OpenBaoAuth, OpenBaoConfig},
    secret::{BackendFault, Credentials, SecretValue},
};

/// Gets tokens.
pub(super) struct Login {
    credentials: Arc<dyn Credentials>,
    /// What a login gave. Who needs a new one waits for who is at it.
    session: Mutex<Option<Session>>,
}

struct Session {
    token: Arc<SecretValue>,
    is_renewable: bool,
    renew_at: Instant,
    expires_at: Instant,
}

/// The part of an answer that carries a token.
#[derive(Deserialize)]
struct Given {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// A token without an end, in practice.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Login {
    pub(super) fn new(credentials: Arc<dyn Credentials>) -> Self {
        Self { credentials, session: Mutex::default() }
    }

    /// The token to show now. `refused` is one that OpenBao has just refused: then another is got, if there is a
    /// way to.
    pub(super) async fn token(
        &self,
        http: &Http,
        config: &OpenBaoConfig,
        refused: Option<&Arc<SecretValue>>,
    ) -> Result<Arc<SecretValue>> {
        if config.auth == OpenBaoAuth::Token {
            return Ok(Arc::new(self.credential(config.token_ref.as_ref()).await?));
        }
        let mut session = self.session.lock().await;
        if let Some(known) = &*session
            && !refused.is_some_and(|refused| Arc::ptr_eq(refused, &known.token))
        {
            let now = Instant::now();
            if now < known.renew_at {
                return Ok(known.token.clone());
            }
            if now < known.expires_at && known.is_renewable {
                match renewed(http, &known.token).await {
                    Ok(renewed) => return Ok(session.insert(renewed).token.clone()),
                    // A login may work where a renewal does not: the token may have reached its greatest age.
                    Err(error) => tracing::debug!(error = error.chain(), "token not renewed"),
                }
            }
        }
        *session = None;
        let fresh = self.log_in(http, config).await?;
        Ok(session.insert(fresh).token.clone())
    }

    async fn log_in(&self, http: &Http, config: &OpenBaoConfig) -> Result<Session> {
        let role = match (&config.role_id, &config.role_id_ref) {
            (_, Some(at)) => self.credential(Some(at)).await?,
            (Some(id), None) => SecretValue::new(id.as_str()),
            (None, None) => return Err(Error::invalid("config.roleId: is required")),
        };
        let secret = self.credential(config.secret_id_ref.as_ref()).await?;
        let body = json!({"role_id": role.expose().trim(), "secret_id": secret.expose().trim()});
        let body = Zeroizing::new(serde_json::to_vec(&Wiped(body).0).map_err(Error::internal)?);
        let path = format!("auth/{}/login", config.auth_mount);
        let answer = http.send(Method::POST, &path, None, Some(body)).await?;
        match answer.status.as_u16() {
            200 => session(&answer, None),
            400 | 401 | 403 => Err(fault(
                BackendFault::Permission,
                format!("the AppRole login was refused ({})", answer.status.as_u16()),
            )),
            _ => Err(answer.failure().context("the AppRole login")),
        }
    }

    async fn credential(&self, at: Option<&ApiKeyRef>) -> Result<SecretValue> {
        let at = at.ok_or_else(|| Error::invalid("its config names no credential"))?;
        let found = self.credentials.credential(at).await;
        found.map_err(|error| error.context(format_args!("its credential in secret `{}`", at.name)))
    }
}

async fn renewed(http: &Http, token: &Arc<SecretValue>) -> Result<Session> {
    let body = Zeroizing::new(b"{}".to_vec());
    let answer = http.send(Method::POST, "auth/token/renew-self", Some(token), Some(body)).await?;
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    session(&answer, Some(token))
}

/// The session in an answer: of the token in it, or of the one that was renewed.
fn session(answer: &Answer, renewed: Option<&Arc<SecretValue>>) -> Result<Session> {
    let given: Given = serde_json::from_slice(&answer.body).map_err(|_| no_answer())?;
    let auth = given.auth.ok_or_else(no_answer)?;
    let token = match renewed {
        Some(token) => token.clone(),
        None if auth.client_token.is_empty() => return Err(no_answer()),
        None => Arc::new(SecretValue::new(auth.client_token)),
    };
    let lease = match auth.lease_duration {
        0 => FOR_EVER,
        seconds => Duration::from_secs(seconds).min(FOR_EVER),
    };
    let now = Instant::now();
    Ok(Session {
        token,
        is_renewable: auth.renewable,
        renew_at: now + lease * 2 / 3,
        expires_at: now + lease,
    })
}

/// JSON whose texts are wiped when it is dropped.
struct Wiped(serde_json::Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        if let Some(map) = self.0.as_object_mut() {
            for value in map.values_mut() {
                if let serde_json::Value::String(text) = value {
                    zeroize::Zeroize::zeroize(text);
                }
            }
        }
    }
}
