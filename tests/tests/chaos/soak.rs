//! Thousands of streams at once, for minutes, each exact to the byte; and the memory for them comes back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use serde_json::json;
use tests::{Server, eventually_within, within};
use tokio::task::JoinSet;

use super::{
    Spread, connect,
    light::{Deed, Light, end, event},
    metric, options, quiet, request, scaled,
};

/// Milliseconds between the events of a stream.
const GAP: u64 = 100;

/// Compares what comes of a stream with what the provider says, piece by piece.
struct Exact {
    number: u64,
    count: u64,
    step: u64,
    /// What is still to come of the event that has begun.
    rest: Vec<u8>,
}

impl Exact {
    fn new(number: u64, count: u64) -> Self {
        Self { number, count, step: 0, rest: Vec::new() }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest.is_empty() {
                assert!(self.step <= self.count, "stream {}: more than there is: {bytes:?}", self.number);
                let next =
                    if self.step == self.count { end(self.number) } else { event(self.number, self.step) };
                self.step += 1;
                self.rest = next.into_bytes();
            }
            let both = bytes.len().min(self.rest.len());
            assert_eq!(&bytes[..both], &self.rest[..both], "stream {}, event {}", self.number, self.step - 1);
            self.rest.drain(..both);
            bytes = &bytes[both..];
        }
    }

    fn finish(&self) {
        assert!(self.step == self.count + 1 && self.rest.is_empty(), "stream {} was cut off", self.number);
    }
}

/// Reads a stream to its end; says what the longest gap in it was.
async fn read(address: SocketAddr, request: Vec<u8>, number: u64, count: u64) -> Duration {
    let limit = Duration::from_secs(60);
    let mut connection = connect(address).await.expect("a connection");
    connection.write(&request).await.unwrap();
    let head = within(limit, "the head", connection.head()).await.unwrap().expect("an answer");
    assert!(head.start.contains("200"), "{head:?}");
    let (mut exact, mut last, mut longest) = (Exact::new(number, count), Instant::now(), Duration::ZERO);
    while let Some(chunk) = within(limit, "a chunk", connection.chunk()).await.unwrap() {
        exact.take(&chunk);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    exact.finish();
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_by_the_thousand_are_exact_and_their_memory_comes_back() {
    crate::connections::raise_limit();
    let streams = scaled("MCPCTL_CHAOS_STREAMS", 100, 5_000) as u64;
    let seconds = scaled("MCPCTL_CHAOS_SECONDS", 3, 300) as u64;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(files > streams * 2 + 500, "`ulimit -n` is {files}: too few for {streams} streams at both ends");
    let server = Server::start_with(options(&[])).await;
    let (light, admin) = (Light::start(), server.login_admin().await);
    admin.create_llm_at("gpt", "openai", &light.url(), json!({})).await;
    let count = seconds * 1000 / GAP;
    let ask = |number: u64, count| {
        request(&admin, "gpt", &format!("soak-{number}"), &Deed::Tick(GAP, count).user(number), true)
    };
    for number in 0..10 {
        read(server.address(), ask(number, 1), number, 1).await;
    }
    quiet(&admin).await;
    let idle = server.resident_kib();

    let (mut readers, began) = (JoinSet::new(), Instant::now());
    for number in 10..streams + 10 {
        readers.spawn(read(server.address(), ask(number, count), number, count));
        if number % 10 == 0 {
            // All at once would be another test.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let all = async || {
        let in_flight = metric(&admin, "mcpctl_inference_in_flight{llm=\"gpt\"}").await as u64;
        (in_flight == streams).then_some(())
    };
    eventually_within(Duration::from_secs(60), "all streams at once", all).await;
    println!("{streams} streams after {:?}, of {count} events each", began.elapsed());
    tokio::time::sleep(Duration::from_secs(seconds) / 2).await;
    let (during, at_once) = (server.resident_kib(), light.connections());
    assert_eq!(at_once as u64, streams);
    let gaps = Spread::of(readers.join_all().await);
    let took = began.elapsed();
    quiet(&admin).await;
    let ok = metric(&admin, "mcpctl_inference_requests_total{llm=\"gpt\",status=\"200\"}").await;
    assert_eq!(ok as u64, streams + 10);
    let patience = Duration::from_secs(30);
    let ended = Instant::now();
    let gives_back = async || {
        let now = server.resident_kib();
        (now * 2 <= idle * 3).then_some(now)
    };
    let mut after = server.resident_kib();
    println!(
        "{} events in {took:?}; memory: idle {idle} KiB, during {during} KiB ({} KiB a stream), right after {after} \
         KiB; the longest gap of each stream: {gaps}",
        streams * count,
        during.saturating_sub(idle) / streams,
    );
    after = eventually_within(patience, "memory within 1.5 times of idle", gives_back).await;
    println!("{after} KiB {:?} after the end", ended.elapsed());
}
