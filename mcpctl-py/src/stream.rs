//! Answers in chunks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use mcpctl_core::{
    Error, ErrorKind, Result,
    client::ChatStream,
    gateway::AnswerBody,
    wire::{SseDecoder, SseError},
};
use pyo3::{
    exceptions::{PyStopAsyncIteration, PyStopIteration},
    prelude::*,
};
use serde_json::Value;
use tokio::{
    sync::{Mutex, mpsc},
    task::AbortHandle,
};

use crate::{
    call::{Output, awaitable},
    errors::exception,
    runtime::{Process, wait},
};

/// Chunks that are read ahead of who iterates.
const AHEAD: usize = 64;

type Chunks = mpsc::Sender<Result<Value>>;

/// The chunks of an answer, as dicts in OpenAI's format: an iterator, and an asynchronous one.
///
/// Dropping or closing it ends the request. It is a context manager too:
///
///     with client.infer("gpt", messages, stream=True) as chunks:
///         for chunk in chunks: ...
#[pyclass(frozen, module = "mcpctl")]
pub(crate) struct ChunkStream {
    process: Process,
    inbox: Arc<Inbox>,
    reader: AbortHandle,
}

struct Inbox {
    chunks: Mutex<mpsc::Receiver<Result<Value>>>,
    /// The reader came to the end by itself, and was not ended.
    complete: AtomicBool,
    /// Nothing more is to be handed out.
    closed: AtomicBool,
}

impl ChunkStream {
    /// The chunks that a server sends.
    pub(crate) fn of_client(mut stream: ChatStream) -> Self {
        Self::read(async move |chunks: Chunks| {
            while let Some(chunk) = stream.next().await {
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        })
    }

    /// The chunks that the embedded core sends.
    pub(crate) fn of_gateway(body: AnswerBody) -> Self {
        Self::read(async move |chunks: Chunks| {
            // Who iterates has gone when a chunk cannot be sent; then neither can the error.
            if let Err(error) = decode(body, &chunks).await {
                let _ = chunks.send(Err(error)).await;
            }
        })
    }

    /// What ends the request from afar.
    pub(crate) fn reader(&self) -> AbortHandle {
        self.reader.clone()
    }

    /// Starts a task that reads. Must be called in the runtime.
    fn read<F: Future<Output = ()> + Send + 'static>(reader: impl FnOnce(Chunks) -> F) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let inbox = Arc::new(Inbox {
            chunks: Mutex::new(receiver),
            complete: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let (reading, told) = (reader(sender.clone()), inbox.clone());
        let task = tokio::spawn(async move {
            reading.await;
            told.complete.store(true, Ordering::Release);
            // The last to go: whoever finds the channel at its end finds the mark as well.
            drop(sender);
        });
        Self { process: Process::current(), inbox, reader: task.abort_handle() }
    }
}

impl Inbox {
    async fn next(&self) -> Option<Result<Value>> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let next = self.chunks.lock().await.recv().await;
        if next.is_some() || self.complete.load(Ordering::Acquire) {
            return next;
        }
        // Half an answer must not look like a whole one; but who closed it knows.
        let closed = self.closed.swap(true, Ordering::AcqRel);
        (!closed).then(|| {
            Err(Error::new(ErrorKind::Unavailable, "the answer was cut off: the registry has been closed"))
        })
    }
}

impl Drop for ChunkStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[pymethods]
impl ChunkStream {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.process.check().map_err(|error| exception(py, &error))?;
        let next = wait(py, self.inbox.next())?;
        item(py, next)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.process.check().map_err(|error| exception(py, &error))?;
        let inbox = self.inbox.clone();
        awaitable(py, async move {
            let next = inbox.next().await;
            move |py: Python<'_>| item(py, next)?.ok_or_else(|| PyStopAsyncIteration::new_err(()))
        })
    }

    /// Ends the request; nothing more comes.
    fn close(&self) {
        self.inbox.closed.store(true, Ordering::Release);
        self.reader.abort();
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.close();
    }
}

fn item(py: Python<'_>, next: Option<Result<Value>>) -> PyResult<Option<Py<PyAny>>> {
    match next {
        Some(Ok(chunk)) => Output::Json(chunk).into_python(py).map(Some),
        Some(Err(error)) => Err(exception(py, &error)),
        None => Ok(None),
    }
}

async fn decode(mut body: AnswerBody, chunks: &Chunks) -> Result<()> {
    let mut decoder = SseDecoder::new();
    loop {
        let bytes = next_bytes(&mut body).await;
        let rubbish = |cause: SseError| Error::new(ErrorKind::Provider, cause.to_string());
        match &bytes {
            Some(bytes) => decoder.push(bytes).map_err(rubbish)?,
            None => decoder.finish().map_err(rubbish)?,
        }
        while let Some(event) = decoder.next_event() {
            if event.data.trim() == "[DONE]" {
                return Ok(());
            }
            if !event.data.is_empty() && chunks.send(Ok(chunk(&event.data)?)).await.is_err() {
                return Ok(());
            }
        }
        if bytes.is_none() {
            return Err(Error::new(ErrorKind::Provider, "the answer broke off before its end"));
        }
    }
}

async fn next_bytes(body: &mut AnswerBody) -> Option<Bytes> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(bytes);
                }
            }
            Err(never) => match never {},
        }
    }
}

fn chunk(data: &str) -> Result<Value> {
    let chunk: Value = serde_json::from_str(data)
        .map_err(|_| Error::new(ErrorKind::Provider, "the answer has a piece that is no JSON"))?;
    match chunk.get("error") {
        None | Some(Value::Null) => Ok(chunk),
        Some(error) => Err(Error::new(ErrorKind::Provider, message(error))),
    }
}

/// The text of an answer's `error`.
pub(crate) fn message(error: &Value) -> String {
    let text = error.as_str().or_else(|| error.get("message")?.as_str());
    text.map_or_else(|| error.to_string(), str::to_owned)
}
