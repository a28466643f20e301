//! The sorts of load.

use std::time::Duration;

use crate::{
    answers::{CHUNKS, Shape},
    http,
    load::Plan,
    targets::{Target, Upstream},
};

/// A sort of load.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its title in the report.
    pub title: &'static str,
    /// The answers it asks for.
    pub shape: Shape,
    /// How the proxies fetch them.
    pub upstream: Upstream,
    /// The size of a request's body, roughly, in bytes.
    pub body: usize,
    /// Connections.
    pub connections: usize,
    /// Requests per second, when they are due at fixed times.
    pub rate: Option<f64>,
    /// The most that mcpctl's cost may be of nginx's: of its processor time, or of its added latency.
    pub limit: Option<f64>,
    /// What is compared.
    pub measure: Measure,
    /// Whether nginx with its log and mcpctl in its other modes of audit are measured as well.
    pub variants: bool,
}

/// What is compared in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Processor time per 10,000 requests.
    Requests,
    /// Processor time per million events.
    Chunks,
    /// The median latency above the stub's own.
    Latency,
}

/// The plainest: the others say in what they differ.
pub const PLAIN: Scenario = Scenario {
    title: "plain, 64 connections",
    shape: Shape::Plain,
    upstream: Upstream::Plain,
    body: 600,
    connections: 64,
    rate: None,
    limit: Some(1.5),
    measure: Measure::Requests,
    variants: false,
};

const COALESCED: Scenario = Scenario {
    title: "stream, coalesced, 16 streams",
    shape: Shape::Joined,
    connections: 16,
    measure: Measure::Chunks,
    ..PLAIN
};

/// All scenarios.
pub const ALL: [Scenario; 10] = [
    Scenario { variants: true, ..PLAIN },
    Scenario { title: "plain, 1 connection", connections: 1, measure: Measure::Latency, ..PLAIN },
    Scenario { title: "plain, 2,000 a second", rate: Some(2000.0), ..PLAIN },
    Scenario { title: "32 KiB body, 64 connections", body: 32 * 1024, limit: Some(1.6), ..PLAIN },
    Scenario {
        title: "stream, one write each, 64 streams",
        shape: Shape::Each,
        measure: Measure::Chunks,
        ..PLAIN
    },
    COALESCED,
    Scenario { title: "plain, upstream TLS", upstream: Upstream::Tls, limit: None, ..PLAIN },
    Scenario { title: "plain, upstream HTTP/2", upstream: Upstream::Http2, limit: None, ..PLAIN },
    Scenario { title: "stream, coalesced, upstream TLS", upstream: Upstream::Tls, limit: None, ..COALESCED },
    Scenario {
        title: "stream, coalesced, upstream HTTP/2",
        upstream: Upstream::Http2,
        limit: None,
        ..COALESCED
    },
];

impl Scenario {
    /// The load of this scenario on a target.
    pub fn plan(&self, target: &Target, duration: Duration) -> Plan {
        let body = body(&self.upstream.llm(self.shape), self.shape.is_stream(), self.body);
        let path = target.path(self.shape, self.upstream);
        Plan {
            address: target.address,
            request: http::request("POST", &path, &target.token, &body),
            expected: self.shape.body(),
            connections: self.connections,
            duration,
            rate: self.rate,
        }
    }

    /// How many units of the measure `answers` are, and what a unit is.
    pub fn units(&self, answers: u64) -> (f64, &'static str) {
        match self.measure {
            Measure::Chunks => (answers as f64 * (CHUNKS + 3) as f64 / 1e6, "1 M chunks"),
            Measure::Requests | Measure::Latency => (answers as f64 / 1e4, "10 k requests"),
        }
    }
}

/// A request's body of about `size` bytes for an Llm: a conversation, as clients send it.
pub fn body(llm: &str, is_stream: bool, size: usize) -> String {
    let stream = if is_stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let mut body = format!(
        r#"{{"model":"{llm}",{stream}"temperature":0.7,"max_tokens":512,"messages":[{{"role":"system","content":"You are a helpful assistant."}}"#
    );
    let text = "Say it \\\"again\\\", in other words,\\nand then once more: the quick brown fox jumps over the dog. ";
    let mut turn = 0;
    while body.len() + 4 < size {
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        let repeat = ((size - body.len()) / text.len()).clamp(1, 8);
        body.push_str(&format!(r#",{{"role":"{role}","content":"{}"}}"#, text.repeat(repeat)));
        turn += 1;
    }
    body.push_str("]}");
    body
}
