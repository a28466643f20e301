//! SIGTERM at 500 requests a second: what was asked before it is answered, streams end in their own time, and the
//! audit trail has all of it.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Api, Server, chaos, chaos::Seeded, eventually_within, http1::Connection, within};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};

use super::{
    all_audited, connect,
    light::{Deed, Light, answer, end, event},
    options, request,
};

/// Callers, and how often each asks.
const CALLERS: u64 = 50;
const EVERY: Duration = Duration::from_millis(100);
const STREAMS: u64 = 20;
/// A stream's events, one every 40 ms.
const EVENTS: u64 = 30;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    /// The server took no connections any more.
    Refused,
    /// The connection was closed, and no byte of an answer had come.
    Closed,
}

/// A request: its id, when it was sent, and how it ended.
type Asked = (String, Instant, End);

/// Sends a request and reads its answer; says when all of it was sent. The connection is left open where the server
/// leaves it open.
async fn ask(
    address: SocketAddr,
    connection: &mut Option<Connection>,
    request: &[u8],
    expected: &str,
) -> (Instant, End) {
    let limit = Duration::from_secs(60);
    // As any client that keeps connections looks whether they are still there.
    if let Some(open) = connection
        && timeout(Duration::ZERO, open.closed()).await.is_ok()
    {
        *connection = None;
    }
    if connection.is_none() {
        *connection = connect(address).await;
    }
    let Some(open) = connection else { return (Instant::now(), End::Refused) };
    if open.write(request).await.is_err() {
        *connection = None;
        return (Instant::now(), End::Closed);
    }
    let sent = Instant::now();
    let head = match within(limit, "the head of an answer", open.head()).await {
        Ok(Some(head)) => head,
        Err(fault) if fault.kind() == ErrorKind::UnexpectedEof => panic!("half a head"),
        Ok(None) | Err(_) => {
            *connection = None;
            return (sent, End::Closed);
        }
    };
    let mut body = Vec::new();
    let whole = within(limit, "a whole answer", open.body(&head, true, &mut body)).await;
    let text = String::from_utf8_lossy(&body);
    whole.unwrap_or_else(|fault| panic!("cut off by {fault}: {} {text}", head.start));
    assert!(head.start.contains(" 200 "), "{} {text}", head.start);
    assert_eq!(text, expected);
    if head.header("connection") == Some("close") {
        *connection = None;
    }
    (sent, End::Answered)
}

/// A caller that asks at its own pace until it is refused; every other one with a connection for each request.
async fn caller(address: SocketAddr, api: Api, number: u64, round: u64) -> Vec<Asked> {
    let (mut clock, mut connection, mut asked) = (interval(EVERY), None, Vec::new());
    for step in 0.. {
        clock.tick().await;
        if number.is_multiple_of(2) {
            connection = None;
        }
        let (id, number) = (format!("call-{round}-{number}-{step}"), number * 100_000 + step);
        let request = request(&api, "gpt", &id, &Deed::Answer.user(number), false);
        let (at, end) = ask(address, &mut connection, &request, &answer(number)).await;
        asked.push((id, at, end));
        if end == End::Refused {
            break;
        }
    }
    asked
}

/// A caller of one stream after another, until it is refused.
async fn streamer(address: SocketAddr, api: Api, number: u64, round: u64) -> Vec<Asked> {
    let (mut connection, mut asked) = (None, Vec::new());
    for step in 0.. {
        let (id, number) = (format!("stream-{round}-{number}-{step}"), (1000 + number) * 100_000 + step);
        let request = request(&api, "gpt", &id, &Deed::Tick(40, EVENTS).user(number), true);
        let expected: String = (0..EVENTS).map(|step| event(number, step)).chain([end(number)]).collect();
        let (at, end) = ask(address, &mut connection, &request, &expected).await;
        asked.push((id, at, end));
        if end == End::Refused {
            break;
        }
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_at_500_requests_a_second_fails_none() {
    let mut random = Seeded::new(20_261_204);
    let mut server = Server::start_with(options(&[])).await;
    let (light, admin) = (Light::start(), server.login_admin().await);
    admin.create_llm_at("gpt", "openai", &light.url(), json!({})).await;
    let mut answered = Vec::new();
    for round in 0..chaos::rounds(1) {
        let (address, before) = (server.address(), light.answered());
        let all: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let mut callers = JoinSet::new();
        for number in 0..CALLERS + STREAMS {
            let (api, all) = (admin.clone(), all.clone());
            callers.spawn(async move {
                let asked = match number {
                    0..CALLERS => caller(address, api, number, round).await,
                    _ => streamer(address, api, number, round).await,
                };
                all.lock().unwrap().extend(asked);
            });
        }
        let began = Instant::now();
        let load = 600 + random.below(200) as usize;
        let under_load = async || (light.answered() - before >= load).then_some(());
        eventually_within(Duration::from_secs(60), "a load", under_load).await;
        let rate = load as f64 / began.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        let told = Instant::now();
        server.sigterm();
        callers.join_all().await;
        assert_eq!(server.exit_status().code(), Some(0));
        let gone = told.elapsed();
        let all = std::mem::take(&mut *all.lock().unwrap());
        let of = |wanted: End| all.iter().filter(move |(_, _, end)| *end == wanted);
        let early: Vec<_> = all.iter().filter(|(_, at, end)| *at < told && *end != End::Answered).collect();
        let (ok, closed) = (of(End::Answered).count(), of(End::Closed).count());
        println!(
            "round {round}: {rate:.0} requests a second, gone after {gone:?}; {ok} answered, {} after the signal, \
             {closed} closed unanswered after it, {} before it",
            of(End::Answered).filter(|(_, at, _)| *at >= told).count(),
            early.len()
        );
        assert!(early.is_empty(), "asked before the signal, and not answered: {early:?}");
        answered.extend(of(End::Answered).map(|(id, ..)| id.clone()));
        server.restart().await;
    }
    all_audited(&admin, answered.iter()).await;
}
