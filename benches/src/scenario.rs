//! The sorts of load.

use std::time::Duration;

use crate::{
    answers::{CHUNKS, Shape},
    http,
    load::Plan,
    targets::Target,
};

/// A sort of load.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its title in the report.
    pub title: &'static str,
    /// The answers it asks for.
    pub shape: Shape,
    /// The size of a request's body, roughly, in bytes.
    pub body: usize,
    /// Connections.
    pub connections: usize,
    /// Requests per second, when they are due at fixed times.
    pub rate: Option<f64>,
    /// The most that mcpctl's cost may be of nginx's: of its processor time, or of its added latency.
    pub limit: f64,
    /// What is compared.
    pub measure: Measure,
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

/// All scenarios.
pub const ALL: [Scenario; 6] = [
    Scenario {
        title: "plain, 64 connections",
        shape: Shape::Plain,
        body: 600,
        connections: 64,
        rate: None,
        limit: 1.5,
        measure: Measure::Requests,
    },
    Scenario {
        title: "plain, 1 connection",
        shape: Shape::Plain,
        body: 600,
        connections: 1,
        rate: None,
        limit: 1.5,
        measure: Measure::Latency,
    },
    Scenario {
        title: "plain, 2,000 a second",
        shape: Shape::Plain,
        body: 600,
        connections: 64,
        rate: Some(2000.0),
        limit: 1.5,
        measure: Measure::Requests,
    },
    Scenario {
        title: "32 KiB body, 64 connections",
        shape: Shape::Plain,
        body: 32 * 1024,
        connections: 64,
        rate: None,
        limit: 1.6,
        measure: Measure::Requests,
    },
    Scenario {
        title: "stream, one write each, 64 streams",
        shape: Shape::Each,
        body: 600,
        connections: 64,
        rate: None,
        limit: 1.5,
        measure: Measure::Chunks,
    },
    Scenario {
        title: "stream, coalesced, 16 streams",
        shape: Shape::Joined,
        body: 600,
        connections: 16,
        rate: None,
        limit: 1.5,
        measure: Measure::Chunks,
    },
];

impl Scenario {
    /// The load of this scenario on a target.
    pub fn plan(&self, target: &Target, duration: Duration) -> Plan {
        let body = body(self.shape, self.body);
        Plan {
            address: target.address,
            request: http::request("POST", &target.path(self.shape), &target.token, &body),
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

/// A request's body of about `size` bytes: a conversation, as clients send it.
pub fn body(shape: Shape, size: usize) -> String {
    let stream =
        if shape.is_stream() { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let mut body = format!(
        r#"{{"model":"{}",{stream}"temperature":0.7,"max_tokens":512,"messages":[{{"role":"system","content":"You are a helpful assistant."}}"#,
        shape.name()
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
