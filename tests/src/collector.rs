//! A collector of traces that keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::span::SpanKind,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{Canary, http1::Connection, wait::eventually};

/// A collector on a free port of loopback, until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Each request's line and headers, and its body.
    received: Mutex<Vec<(String, Vec<u8>)>>,
    mood: Mutex<Mood>,
}

/// How a collector behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It takes what it gets.
    #[default]
    Good,
    /// It takes nothing, with a 400.
    Refusing,
    /// It never answers.
    Silent,
}

/// A span, as it was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// Whether it stands for a request that came, or one that was sent.
    pub kind: SpanKind,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// The id of the span around it; empty without one.
    pub parent: String,
    /// Whether it failed.
    pub failed: bool,
    /// Its start and end, in nanoseconds since 1970.
    pub time: (u64, u64),
    /// What is said of it.
    pub attributes: BTreeMap<String, Value>,
    /// What is said of the program that it is from.
    pub resource: BTreeMap<String, Value>,
}

impl Collector {
    /// A collector that takes what it gets.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, task }
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it behaves like this.
    pub fn behave(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// The lines and headers of all requests.
    pub fn heads(&self) -> Vec<String> {
        self.state.received.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    /// Everything that came, to be searched.
    pub fn bytes(&self) -> Vec<u8> {
        let received = self.state.received.lock().unwrap();
        received.iter().flat_map(|(head, body)| [head.as_bytes(), body]).flatten().copied().collect()
    }

    /// Has `canary` search everything that came.
    pub fn show(&self, canary: &Canary) {
        canary.saw("the collector of traces", self.bytes());
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Exported> {
        let received = self.state.received.lock().unwrap();
        received.iter().flat_map(|(_, body)| read(body)).collect()
    }

    /// The first span that is `wanted`, once it is there.
    pub async fn span(&self, what: &str, wanted: impl Fn(&Exported) -> bool) -> Exported {
        eventually(what, async || self.spans().into_iter().find(|span| wanted(span))).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let state = state.clone();
            tokio::spawn(async move { serve(stream, &state).await.ok() });
        }
    }
}

async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(head) = connection.head().await? {
        let mut body = Vec::new();
        connection.body(&head, false, &mut body).await?;
        let mood = *state.mood.lock().unwrap();
        state.received.lock().unwrap().push((format!("{}\n{:?}", head.start, head.headers), body));
        let status = match mood {
            Mood::Good => "200 OK",
            Mood::Refusing => "400 Bad Request",
            Mood::Silent => {
                connection.closed().await;
                return Ok(());
            }
        };
        connection.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn read(body: &[u8]) -> Vec<Exported> {
    let request = ExportTraceServiceRequest::decode(body).expect("a request of the protocol");
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.events.is_empty() && span.links.is_empty(), "nothing but the span: {span:?}");
            spans.push(Exported {
                kind: span.kind(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                failed: span.status.is_some_and(|status| status.code == 2),
                time: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: attributes(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    for attribute in list {
        let value = attribute.value.map(json_of).unwrap_or_default();
        let before = attributes.insert(attribute.key.clone(), value);
        assert!(before.is_none(), "{} is there twice", attribute.key);
    }
    attributes
}

fn json_of(value: AnyValue) -> Value {
    match value.value {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(yes)) => yes.into(),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::ArrayValue(list)) => list.values.into_iter().map(json_of).collect(),
        other => json!(format!("{other:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
