//! A model's answer as it comes.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{Method, header};
use serde_json::Value;

use super::{
    Client, RawBody, Unreachable,
    failure::{message_in, of_transport},
    transport::Patience,
};
use crate::{
    error::{Error, ErrorKind, Result},
    wire::SseDecoder,
};

/// The chunks of a streamed answer, in OpenAI's format, up to the `[DONE]` that ends it.
///
/// Dropping it ends the request, and the server then ends the provider's.
pub struct ChatStream {
    body: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    decoder: SseDecoder,
    /// Was there before it was asked for: see [`begin`](Self::begin).
    first: Option<Value>,
    /// Nothing more will come: the end was seen, or a failure was handed out.
    ended: bool,
    /// The connection is at its end; what the decoder still holds counts.
    drained: bool,
}

impl Client {
    /// Asks an Llm for an answer in pieces: an OpenAI chat-completions body in, its chunks out.
    ///
    /// # Errors
    ///
    /// Those of [`infer`](Self::infer), when the answer fails before it begins. Later failures are items of the stream.
    pub async fn infer_stream(&self, llm: &str, body: &Value) -> Result<ChatStream> {
        let mut body = body.clone();
        if let Some(body) = body.as_object_mut() {
            body.insert("stream".into(), true.into());
        }
        let path = ["api", "v1", "llms", llm, "infer"];
        let response = self.send(Method::POST, &path, &[], Some(&body), Patience::Endless).await?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            // A server of ours would have: this is something else in its place, and so no sign that it is down.
            let error = Error::new(ErrorKind::Provider, format!("llm `{llm}` did not answer with a stream"));
            return Err(error.caused_by(Unreachable::NotOurs { status: None }));
        }
        Ok(ChatStream::new(RawBody::of(response, self.base_url(), of_transport)))
    }
}

impl ChatStream {
    /// The chunks in the bytes of a stream in OpenAI's format.
    pub(crate) fn new(body: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self { body: Box::pin(body), decoder: SseDecoder::new(), first: None, ended: false, drained: false }
    }

    /// Waits for the first chunk, which stays to be taken.
    ///
    /// # Errors
    ///
    /// The failure that came in its place: nothing of the answer has been seen.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.first = self.next().await.transpose()?;
        Ok(())
    }

    /// The next chunk; `None` after the end or a failure.
    ///
    /// # Errors
    ///
    /// Provider, when the model's server failed on the way; unavailable, when the connection broke off.
    pub async fn next(&mut self) -> Option<Result<Value>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// What the events that are there already hold.
    fn decoded(&mut self) -> Option<Result<Value>> {
        while let Some(event) = self.decoder.next_event() {
            if event.data.trim() == "[DONE]" {
                self.ended = true;
                return None;
            }
            if event.data.is_empty() {
                continue;
            }
            return Some(chunk(&event.data).inspect_err(|_| self.ended = true));
        }
        None
    }

    fn fail(&mut self, error: Error) -> Option<Result<Value>> {
        self.ended = true;
        Some(Err(error))
    }
}

fn chunk(data: &str) -> Result<Value> {
    let chunk: Value = serde_json::from_str(data)
        .map_err(|_| Error::new(ErrorKind::Provider, "the answer has a piece that is no JSON"))?;
    match chunk.get("error") {
        None | Some(Value::Null) => Ok(chunk),
        Some(error) => {
            let message = message_in(error).unwrap_or_else(|| error.to_string());
            Err(Error::new(ErrorKind::Provider, message))
        }
    }
}

impl Stream for ChatStream {
    type Item = Result<Value>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(item) = self.decoded() {
                return Poll::Ready(Some(item));
            }
            if self.ended {
                continue;
            }
            if self.drained {
                let error = Error::new(ErrorKind::Provider, "the answer broke off before its end");
                return Poll::Ready(self.fail(error));
            }
            let pushed = match ready!(self.body.as_mut().poll_next(context)) {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                Some(Err(error)) => return Poll::Ready(self.fail(error.context("the answer broke off"))),
                None => {
                    self.drained = true;
                    self.decoder.finish()
                }
            };
            if let Err(cause) = pushed {
                return Poll::Ready(self.fail(Error::new(ErrorKind::Provider, cause.to_string())));
            }
        }
    }
}

impl fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that arrives in these reads.
    struct Reads(std::vec::IntoIter<&'static str>);

    impl Stream for Reads {
        type Item = Result<Bytes>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next().map(|text| Ok(Bytes::from(text))))
        }
    }

    async fn all(reads: &[&'static str]) -> (Vec<Value>, Option<Error>) {
        let owned: Vec<&'static str> = reads.into();
        let reads = Reads(owned.into_iter());
        let mut stream = ChatStream::new(reads);
        let mut chunks = Vec::new();
        while let Some(item) = stream.next().await {
            match item {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => {
                    assert!(stream.next().await.is_none());
                    return (chunks, Some(error));
                }
            }
        }
        (chunks, None)
    }

    #[tokio::test]
    async fn chunks_come_until_done_however_they_are_split() {
        let (chunks, error) =
            all(&["data: {\"a\"", ":1}\n\n: ping\n\ndata: {\"a\":2}\n", "\ndata: [DONE]\n\ndata: x\n\n"])
                .await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(chunks, [serde_json::json!({"a": 1}), serde_json::json!({"a": 2})]);
    }

    #[tokio::test]
    async fn failures_on_the_way_end_the_stream() {
        let (chunks, error) =
            all(&["data: {\"a\":1}\n\ndata: {\"error\":{\"message\":\"gone\"}}\n\ndata: [DONE]\n\n"]).await;
        assert_eq!((chunks.len(), error.unwrap().message()), (1, "gone"));
        let (_, error) = all(&["data: {\"a\":1}\n\n"]).await;
        assert_eq!(error.unwrap().message(), "the answer broke off before its end");
        let (_, error) = all(&["data: nonsense\n\n"]).await;
        assert_eq!(error.unwrap().kind(), ErrorKind::Provider);
    }
}
