//! `TCP_NODELAY` on both sides. Without it, a small write waits until the one before is acknowledged, and whoever
//! receives it takes 40 ms over that: what comes one by one arrives in steps.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Server, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    Spread, connect, options, request, scaled,
    light::{Deed, Light, event},
};

const GAP: u64 = 7;
/// A step of 40 ms, less what a gap may differ from another.
const STEP: Duration = Duration::from_millis(33);
const LIMIT: Duration = Duration::from_secs(60);

async fn with_light() -> (Server, tests::Api, Light) {
    let server = Server::start_with(options(&[])).await;
    let (light, admin) = (Light::start(), server.login_admin().await);
    admin.create_llm_at("gpt", "openai", &light.url(), json!({})).await;
    (server, admin, light)
}

/// How many of them are steps.
fn steps(gaps: &[Duration]) -> usize {
    gaps.iter().filter(|gap| **gap >= STEP).count()
}

#[tokio::test]
async fn events_written_one_by_one_arrive_one_by_one() {
    let (server, admin, _light) = with_light().await;
    let count = scaled("MCPCTL_CHAOS_STEPS", 300, 5_000) as u64;
    let mut connection = connect(server.address()).await.unwrap();
    let ask = request(&admin, "gpt", "steps", &Deed::Tick(GAP, count).user(1), true);
    connection.write(&ask).await.unwrap();
    within(LIMIT, "the head", connection.head()).await.unwrap().expect("an answer");
    let (mut gaps, mut last, mut seen) = (Vec::new(), Instant::now(), 0);
    while seen < count {
        let chunk = within(LIMIT, "a chunk", connection.chunk()).await.unwrap().expect("more");
        // Two that came in one read on the way count as one that came late.
        seen += memchr::memmem::find_iter(&chunk, b"\n\n").count() as u64;
        let first = event(1, 0);
        assert!(chunk.len() + 16 >= first.len(), "less than an event: {chunk:?}");
        gaps.push(last.elapsed());
        last = Instant::now();
    }
    let steps = steps(&gaps);
    let spread = Spread::of(gaps);
    println!("{count} events every {GAP} ms: {} arrivals, {steps} steps, gaps {spread}", spread.0.len());
    // A busy machine delays one now and then; Nagle's algorithm delays every other one.
    assert!(steps as u64 <= count / 25, "{steps} of {count} events came in steps of 40 ms");
    assert!(spread.0.len() as u64 >= count * 3 / 4, "{} arrivals of {count} events", spread.0.len());
}

#[tokio::test]
async fn requests_and_answers_wait_for_no_acknowledgement() {
    let (server, admin, _light) = with_light().await;
    let mut connection = connect(server.address()).await.unwrap();
    let mut times = Vec::new();
    for number in 0..scaled("MCPCTL_CHAOS_STEPS", 300, 5_000) as u64 {
        let ask = request(&admin, "gpt", &format!("call-{number}"), &Deed::Answer.user(number), false);
        let began = Instant::now();
        connection.write(&ask).await.unwrap();
        let reply = within(LIMIT, "an answer", connection.reply()).await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        times.push(began.elapsed());
    }
    let steps = steps(&times);
    let spread = Spread::of(times);
    println!("calls on one connection: {steps} steps, {spread}");
    assert!(steps * 25 <= spread.0.len(), "{steps} of {} calls took 40 ms more", spread.0.len());
    assert!(spread.at(0.5) < STEP / 2, "{spread}");
}

/// What the tests above would see if one side forgot the option.
#[tokio::test]
async fn without_the_option_there_would_be_steps() {
    const EVENTS: usize = 300;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let writer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(false).unwrap();
        let mut clock = tokio::time::interval(Duration::from_millis(GAP));
        for _ in 0..EVENTS {
            clock.tick().await;
            stream.write_all(event(1, 1).as_bytes()).await.unwrap();
        }
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut gaps, mut last, mut buffer) = (Vec::new(), Instant::now(), vec![0; 64 << 10]);
    while within(LIMIT, "bytes", stream.read(&mut buffer)).await.unwrap() > 0 {
        gaps.push(last.elapsed());
        last = Instant::now();
    }
    writer.await.unwrap();
    let steps = steps(&gaps);
    println!("with Nagle's algorithm: {} arrivals of {EVENTS} events, {steps} steps", gaps.len());
    assert!(steps > EVENTS / 25, "the measurement shows nothing: {steps} steps");
}
