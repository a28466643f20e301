//! The client of a running server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcpctl_core::{
    Result,
    client::{self, Token},
};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::{
    call::{Call, Output},
    convert::{fields, kind},
    errors::exception,
    runtime::Process,
    stream::ChunkStream,
};

/// The client of a running server.
#[pyclass(frozen, module = "mcpctl._native")]
pub(crate) struct Client {
    process: Process,
    session: Arc<Mutex<Session>>,
}

/// A login replaces both.
struct Session {
    client: client::Client,
    token: Option<Token>,
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// The client with the credential of now.
    pub(crate) fn current(&self) -> client::Client {
        lock(&self.session).client.clone()
    }

    /// A call that uses the credential of now.
    fn call<F>(&self, work: impl FnOnce(client::Client) -> F + Send + 'static) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        let (process, client) = (self.process, self.current());
        Call::new(async move {
            process.check()?;
            work(client).await
        })
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (url, token = None))]
    fn new(py: Python<'_>, url: &str, token: Option<String>) -> PyResult<Self> {
        let token = token.map(Token::new);
        let client = client::Client::new(url, token.clone()).map_err(|error| exception(py, &error))?;
        let session = Arc::new(Mutex::new(Session { client, token }));
        Ok(Self { process: Process::current(), session })
    }

    #[getter]
    fn url(&self) -> String {
        lock(&self.session).client.base_url().to_owned()
    }

    #[getter]
    fn token(&self) -> Option<String> {
        lock(&self.session).token.as_ref().map(|token| token.reveal().to_owned())
    }

    fn login(&self, email: String, password: String) -> Call {
        let session = self.session.clone();
        self.call(async move |client| {
            let login = client.login(&email, &password).await?;
            let client = client.with_token(Some(login.token.clone()))?;
            *lock(&session) = Session { client, token: Some(login.token) };
            Ok(Output::Json(json!({"user": login.user, "expiresAt": login.expires_at})))
        })
    }

    fn logout(&self) -> Call {
        let session = self.session.clone();
        self.call(async move |client| {
            client.logout().await?;
            let client = client.with_token(None)?;
            *lock(&session) = Session { client, token: None };
            Ok(Output::Done)
        })
    }

    fn whoami(&self) -> Call {
        self.call(async |client| Ok(Output::Json(client.whoami().await?.into())))
    }

    fn can_i(&self, action: String, resource: Option<String>, name: Option<String>) -> Call {
        self.call(async move |client| {
            let answer = client.can_i(&action, resource.as_deref(), name.as_deref()).await?;
            let (allowed, reason, binding) = (answer.allowed, answer.reason, answer.binding);
            Ok(Output::Json(json!({"allowed": allowed, "reason": reason, "binding": binding})))
        })
    }

    fn models(&self) -> Call {
        self.call(async |client| Ok(Output::Json(client.models().await?.into())))
    }

    fn list(&self, plural: &str, filters: Vec<(String, String)>) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self.call(async move |client| {
            let filters: Vec<_> =
                filters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Ok(Output::Json(client.list(kind, &filters).await?.into()))
        }))
    }

    fn get(&self, plural: &str, name: String, show_values: bool) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self
            .call(async move |client| Ok(Output::Json(client.get(kind, &name, show_values).await?.into()))))
    }

    fn create(&self, plural: &str, body: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (kind, body) = (kind(plural)?, fields(body)?);
        Ok(self.call(async move |client| Ok(Output::Json(client.create(kind, body).await?.into()))))
    }

    fn update(
        &self,
        plural: &str,
        name: String,
        body: &Bound<'_, PyAny>,
        version: Option<i64>,
    ) -> PyResult<Call> {
        let (kind, body) = (kind(plural)?, fields(body)?);
        Ok(self.call(async move |client| {
            Ok(Output::Json(client.patch(kind, &name, body, version).await?.into()))
        }))
    }

    fn delete(&self, plural: &str, name: String) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self.call(async move |client| {
            client.delete(kind, &name).await?;
            Ok(Output::Done)
        }))
    }

    fn infer(&self, name: String, body: &Bound<'_, PyAny>, stream: bool) -> PyResult<Call> {
        let body = Value::Object(fields(body)?);
        Ok(self.call(async move |client| {
            if stream {
                let stream = client.infer_stream(&name, &body).await?;
                return Ok(Output::Stream(ChunkStream::of_client(stream)));
            }
            Ok(Output::Json(client.infer(&name, &body).await?))
        }))
    }
}
