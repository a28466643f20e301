//! Streams over HTTP/2 that their clients do not read.
//!
//! Over HTTP/1 a client that takes nothing in blocks its connection, which then fails. Over HTTP/2 the connection goes
//! on with other requests, and nobody asks the stalled answer for more: somebody else has to look after it.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use mcpctl_core::gateway::AnswerBody;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

/// An Llm's answer that is dropped, and its provider's connection with it, once its client stalls.
pub(crate) struct Watched {
    answer: Arc<Mutex<Answer>>,
    watch: AbortHandle,
}

struct Answer {
    /// `None` once it was dropped.
    body: Option<AnswerBody>,
    polled_at: Instant,
    /// Whether it gave something when it was asked last: then the client is the one to wait for, not the provider.
    gave: bool,
}

/// The client took in nothing of its answer for too long.
#[derive(Debug)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client read nothing of its answer for too long")
    }
}

impl Error for Stalled {}

impl Watched {
    pub(crate) fn new(body: AnswerBody, patience: Duration) -> Self {
        let answer = Answer { body: Some(body), polled_at: Instant::now(), gave: false };
        let answer = Arc::new(Mutex::new(answer));
        let watch = tokio::spawn(watch(answer.clone(), patience)).abort_handle();
        Self { answer, watch }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        let mut answer = lock(&self.answer);
        let Some(body) = &mut answer.body else { return Poll::Ready(Some(Err(Stalled))) };
        let polled = Pin::new(body).poll_frame(cx);
        answer.polled_at = Instant::now();
        answer.gave = polled.is_ready();
        polled.map_err(|never| match never {})
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
        // The watch may be about to end and not have let go yet; a client that left must not keep its provider.
        lock(&self.answer).body = None;
    }
}

async fn watch(answer: Arc<Mutex<Answer>>, patience: Duration) {
    let mut deadline = Instant::now() + patience;
    loop {
        sleep_until(deadline).await;
        let mut answer = lock(&answer);
        let now = Instant::now();
        deadline = if answer.gave { answer.polled_at + patience } else { now + patience };
        if deadline <= now {
            answer.body = None;
            return;
        }
    }
}

/// Only the stream's own task and its watch ever want this, and the watch once a minute.
fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}
