//! Faults on purpose, on the path of inference: who leaves, what breaks, what is taken away, and how many.
//!
//! A run without more is short. `MCPCTL_CHAOS=1` is the full scale (`make chaos`), and each test prints the seed that
//! does the same again.

mod disk;
mod leaving;
mod light;
mod managed;
mod outage;
mod revocation;
mod shutdown;
mod soak;
mod steps;
mod storm;

use std::{collections::BTreeMap, env, fmt, net::SocketAddr, time::Duration};

use tests::{Api, Server, ServerOptions, eventually, http1::Connection, within};

/// Connections that the tests' own client may have opened to the server meanwhile, and keeps.
const CLIENTS: usize = 4;

/// The full scale, not the few seconds of an ordinary run.
fn is_full() -> bool {
    env::var("MCPCTL_CHAOS").is_ok_and(|value| value == "1")
}

/// `few`, or `full` at the full scale, or what the environment variable says.
fn scaled(variable: &str, few: usize, full: usize) -> usize {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) if is_full() => full,
        Err(_) => few,
    }
}

fn options(args: &[&str]) -> ServerOptions {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    // A trace of thousands of requests is longer than anybody reads.
    let env = vec![("RUST_LOG".to_owned(), "info".to_owned())];
    ServerOptions { args, env, ..ServerOptions::default() }
}

/// A request for a chat with the Llm `llm`; `id` becomes the id of the request, and `user` goes on to the provider.
fn request(api: &Api, llm: &str, id: &str, user: &str, stream: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{llm}","stream":{stream},"user":"{user}","messages":[{{"role":"user","content":"hello"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Request-Id: {id}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        api.token(),
        body.len()
    )
    .into_bytes()
}

/// A connection, or `None` when it is refused.
async fn connect(address: SocketAddr) -> Option<Connection> {
    tokio::net::TcpStream::connect(address).await.ok().map(Connection::new)
}

/// A number of `/metrics`, by all that stands before it in its line.
async fn metric(api: &Api, name: &str) -> f64 {
    let reply = api.get("/metrics").await;
    let text = reply.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

/// Waits until no call is in flight at the server, and no connection of one to a provider.
async fn quiet(api: &Api) {
    eventually("no call in flight, and no connection of one", async || {
        let text = api.get("/metrics").await.text();
        let calls = text.lines().filter(|line| line.starts_with("mcpctl_inference_in_flight{"));
        let busy = calls.filter(|line| !line.ends_with(" 0")).count();
        let of = |name: &str| {
            let name = format!("{name}{{scheme=\"http\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)).expect("its line").to_owned()
        };
        let idle = of("mcpctl_provider_connections") == of("mcpctl_provider_connections_idle");
        (busy == 0 && idle).then_some(())
    })
    .await;
}

/// Every call in the audit trail: the request's id, and the status.
async fn audited(api: &Api) -> BTreeMap<String, u64> {
    let (mut found, mut next) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/api/v1/auditlogs?kind=llm_inference_call&limit=1000{next}");
        let page = api.get(&path).await.expect(200);
        for event in page["items"].as_array().unwrap() {
            let id = event["requestId"].as_str().unwrap().to_owned();
            let twice = found.insert(id, event["status"].as_u64().unwrap_or_default());
            assert_eq!(twice, None, "two events of one request: {event}");
        }
        match page["continue"].as_str() {
            Some(more) => next = format!("&continue={more}"),
            None => return found,
        }
    }
}

/// Waits until everything in `ids` is in the audit trail.
async fn all_audited<'a>(api: &Api, ids: impl Iterator<Item = &'a String> + Clone) {
    let missing = within(Duration::from_secs(60), "the audit events", missing(api, ids.clone())).await;
    assert!(missing.is_empty(), "{} of {} answers have no event: {missing:?}", missing.len(), ids.count());
}

/// What is missing of `ids` once nothing more arrives for a while.
async fn missing<'a>(api: &Api, ids: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
    let mut quiet_rounds = 0;
    let mut before = usize::MAX;
    loop {
        let known = audited(api).await;
        let missing: Vec<String> = ids.clone().filter(|id| !known.contains_key(*id)).cloned().collect();
        quiet_rounds = if missing.len() == before { quiet_rounds + 1 } else { 0 };
        if missing.is_empty() || quiet_rounds > 20 {
            return missing;
        }
        before = missing.len();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// How a number of measurements are spread.
struct Spread(Vec<Duration>);

impl Spread {
    fn of(mut measured: Vec<Duration>) -> Self {
        measured.sort_unstable();
        Self(measured)
    }

    /// Which one `share` of all do not exceed.
    fn at(&self, share: f64) -> Duration {
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len());
        self.0[index - 1]
    }

    fn max(&self) -> Duration {
        self.at(1.0)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}, p99.9 {:?}, ", self.at(0.5), self.at(0.99), self.at(0.999))?;
        write!(f, "max {:?} of {}", self.max(), self.0.len())
    }
}

/// The most memory that a server had since this began, looked at every few milliseconds.
async fn peak_kib(server: &Server, until: impl Future<Output = ()>) -> u64 {
    let mut peak = server.resident_kib();
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return peak,
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(server.resident_kib()),
        }
    }
}
