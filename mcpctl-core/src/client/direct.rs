//! Requests and answers as they are: no JSON, no judgement.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{
    Client,
    failure::{of_model_server, of_transport},
    transport::http_to,
};
use crate::error::{Error, Result};

/// Speaks to a model server of the caller's own. It knows nothing of mcpctl-server, nor of any token for it.
#[derive(Clone, Debug)]
pub struct Direct(reqwest::Client);

/// An answer, whatever its status.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it comes.
    pub body: RawBody,
}

/// The bytes of an answer as they come. Dropping it ends the request.
pub struct RawBody {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    /// Whose it is, and how a failure of theirs is told.
    from: Arc<str>,
    fault: fn(&str, &reqwest::Error) -> Error,
}

impl Direct {
    /// A client for the model server at `base`.
    ///
    /// # Errors
    ///
    /// Internal, when the machine's certificates cannot be read.
    pub fn new(base: &Url, connect_timeout: Duration) -> Result<Self> {
        Ok(Self(http_to(base, connect_timeout)?))
    }

    /// Sends a request with these headers and nothing else.
    ///
    /// # Errors
    ///
    /// Provider and provider timeout, with [`Unreachable`](super::Unreachable) as their source.
    pub async fn post(&self, url: &str, headers: HeaderMap, body: Bytes) -> Result<RawAnswer> {
        let sent = self.0.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|cause| of_model_server(url, &cause))?;
        Ok(RawAnswer::of(response, url, of_model_server))
    }
}

impl Client {
    /// Sends a request as a caller of the server's API made it: `body` with these headers, this client's credential,
    /// and nothing judged.
    ///
    /// # Errors
    ///
    /// Unavailable, when nothing answers; later failures are items of the body.
    pub async fn forward(
        &self,
        method: Method,
        path: &[&str],
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<RawAnswer> {
        let response =
            self.exchange(method, path, &[], |request| request.headers(headers).body(body)).await?;
        Ok(RawAnswer::of(response, self.base_url(), of_transport))
    }
}

impl RawAnswer {
    fn of(mut response: reqwest::Response, from: &str, fault: fn(&str, &reqwest::Error) -> Error) -> Self {
        let (status, headers) = (response.status(), mem::take(response.headers_mut()));
        Self { status, headers, body: RawBody::of(response, from, fault) }
    }

    /// The body as a whole; `None` when it is longer than `most` bytes.
    ///
    /// # Errors
    ///
    /// Those of the body.
    pub async fn whole(mut self, most: usize) -> Result<Option<Bytes>> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.body.next().await {
            whole.extend_from_slice(&bytes?);
            if whole.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(whole.into()))
    }
}

impl RawBody {
    pub(super) fn of(
        response: reqwest::Response,
        from: &str,
        fault: fn(&str, &reqwest::Error) -> Error,
    ) -> Self {
        Self { bytes: Box::pin(response.bytes_stream()), from: from.into(), fault }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the answer breaks off.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for RawBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.bytes.as_mut().poll_next(context));
        Poll::Ready(next.map(|read| read.map_err(|cause| (self.fault)(&self.from, &cause))))
    }
}

impl fmt::Debug for RawBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBody").field("from", &self.from).finish_non_exhaustive()
    }
}
