//! How often the hot path asks for memory. The numbers are what it takes today: a change that needs more is to be
//! seen, and to be worth it. Only the caller's own polls are counted, in which all of a call is done.

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    pin::{Pin, pin},
    sync::{Arc, mpsc},
    task::Poll,
    thread,
};

use allocation_counter::measure;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{Answer, Gateway, GatewaySettings, Target};
use crate::{
    Principal, Registry,
    adapter::{Adapter, DecodeContext, Settings},
    registry::Origin,
    resource::{Kind, kinds},
    secret::SecretValue,
    store::MemoryStore,
    wire::ChatRequest,
};

/// A chunk that comes alone: what hyper takes to read it. The decoder takes nothing, which is tested below.
const PER_CHUNK: u64 = 2;
/// A plain call, from the caller's body to the answer's: the provider's connection and the audit event included.
const PER_CALL: u64 = 48;
/// What deciding on a lease takes: for an Llm that hands out none, and for one that has handed it out before.
const PER_LEASE: [u64; 2] = [0, 0];
/// Reading the request, writing the provider's, reading its answer.
const PER_STEP: [u64; 3] = [3, 7, 2];

const EVENT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                     \"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n";
const ANSWER: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\
                      \"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},\
                      \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\
                      \"total_tokens\":3}}";

/// A provider in a thread of its own, on one connection. `answer` is called with the socket for each request.
fn provider(mut answer: impl FnMut(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let mut piece = [0; 4096];
        // Each request is small, and comes in one piece.
        while socket.read(&mut piece).is_ok_and(|read| read > 0) {
            answer(&mut socket);
        }
    });
    url
}

async fn gateway(url: &str) -> (Gateway, Principal) {
    let (registry, root) = registry(url).await;
    (Gateway::new(registry, GatewaySettings::default()).unwrap(), root)
}

/// A registry with an Llm that has a key.
async fn registry(url: &str) -> (Registry, Principal) {
    let registry = Registry::builder(Arc::new(MemoryStore::new())).open().await.unwrap();
    let root = registry.root("test");
    let create = async |kind: Kind, body: Value| {
        registry.create(&root, kind, body.as_object().cloned().unwrap()).await.unwrap()
    };
    create(kinds::SECRETS, json!({"name": "k", "data": {"token": "sk-very-secret-1234"}})).await;
    let key = json!({"name": "k", "key": "token"});
    let llm = json!({"name": "a", "type": "openai", "model": "m", "url": url, "apiKeyRef": key});
    create(kinds::LLMS, llm).await;
    (registry, root)
}

/// Does `work`, and counts the allocations of its polls.
async fn counted<T>(work: impl Future<Output = T>) -> (T, u64) {
    let (mut work, mut count) = (pin!(work), 0);
    let done = poll_fn(|cx| {
        let mut polled = Poll::Pending;
        count += measure(|| polled = work.as_mut().poll(cx)).count_total;
        polled
    });
    (done.await, count)
}

async fn call(gateway: &Gateway, who: &Principal, stream: bool) -> Answer {
    let body = json!({"model": "a", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    gateway.chat(who, Target::FromBody, Bytes::from(body.to_string())).await.unwrap()
}

#[tokio::test]
async fn one_more_streamed_chunk_allocates_next_to_nothing() {
    let (next, due) = mpsc::channel();
    let url = provider(move |socket| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        for () in due.iter() {
            socket.write_all(format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).as_bytes()).unwrap();
        }
    });
    let (gateway, root) = gateway(&url).await;
    next.send(()).unwrap();
    let mut body = call(&gateway, &root, true).await.body;
    let mut most = 0;
    for chunk in 0..500 {
        if chunk > 0 {
            next.send(()).unwrap();
        }
        let (frame, count) = counted(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), EVENT);
        // Buffers find their sizes first.
        if chunk >= 100 {
            most = most.max(count);
        }
    }
    assert!(most <= PER_CHUNK, "{most} allocations for a chunk, not {PER_CHUNK}");
}

#[tokio::test]
async fn a_plain_call_allocates_no_more_than_it_did() {
    let url = provider(|socket| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            ANSWER.len()
        );
        socket.write_all(format!("{head}{ANSWER}").as_bytes()).unwrap();
    });
    let (gateway, root) = gateway(&url).await;
    let mut least = u64::MAX;
    for _ in 0..20 {
        let (answer, count) = counted(call(&gateway, &root, false)).await;
        assert_eq!(answer.body.collect().await.unwrap().to_bytes(), ANSWER);
        least = least.min(count);
    }
    assert!(least <= PER_CALL, "{least} allocations, not {PER_CALL}");
}

#[tokio::test]
async fn a_lease_that_was_handed_out_before_costs_next_to_nothing() {
    let (registry, root) = registry("http://127.0.0.1:9").await;
    let leasing =
        json!({"name": "b", "type": "openai", "model": "m", "extraConfig": {"failoverLeaseSeconds": 600}});
    registry.create(&root, kinds::LLMS, leasing.as_object().cloned().unwrap()).await.unwrap();
    let password = || SecretValue::new("a-long-enough-password".to_owned());
    registry.bootstrap("a@example.com", Some(password())).await.unwrap();
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let login = registry.login("a@example.com", password(), origin).await.unwrap();
    let who = registry.authenticate(login.token.expose(), None).unwrap();
    let snapshot = registry.snapshot();
    let [plain, leasing] = ["a", "b"].map(|name| snapshot.llm(name).unwrap());
    let first = registry.lease(&who, leasing).unwrap();
    let counts = [plain, leasing].map(|llm| measure(|| drop(registry.lease(&who, llm))).count_total);
    assert_eq!(registry.lease(&who, leasing), Some(first));
    let fine = counts.iter().zip(PER_LEASE).all(|(count, most)| *count <= most);
    assert!(fine, "{counts:?} allocations, not {PER_LEASE:?}");
}

#[test]
fn the_steps_of_a_passthrough_allocate_no_more_than_they_did() {
    let count = |work: &mut dyn FnMut()| measure(work).count_total;
    let body = json!({"model": "a", "temperature": 0.7, "messages": [{"role": "user", "content": "hi"}]});
    let body = Bytes::from(body.to_string());
    let request = ChatRequest::scan(&body).unwrap();
    let settings = Settings { llm_name: "a", model: "m", ..Settings::default() };
    let (context, answer) = (DecodeContext::new("a", "m", 0), Bytes::from_static(ANSWER.as_bytes()));
    let counts = [
        count(&mut || drop(ChatRequest::scan(&body))),
        count(&mut || drop(Adapter::OpenAi.encode(&request, &settings))),
        count(&mut || drop(Adapter::OpenAi.decode(&answer, &context))),
    ];
    let fine = counts.iter().zip(PER_STEP).all(|(count, most)| *count <= most);
    assert!(fine, "{counts:?} allocations, not {PER_STEP:?}");
    let (event, mut out) = (Bytes::from_static(EVENT.as_bytes()), Vec::with_capacity(4));
    let mut stream = Adapter::OpenAi.stream(DecodeContext::new("a", "m", 0));
    stream.push(event.clone(), &mut out);
    let pushed = count(&mut || {
        out.clear();
        stream.push(event.clone(), &mut out);
    });
    assert_eq!(pushed, 0, "an event passes through as it is");
}
