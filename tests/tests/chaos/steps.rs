//! `TCP_NODELAY` on both sides. Without it, a small write waits until the one before is acknowledged, and whoever
//! receives it takes 40 ms over that: what comes one by one arrives in steps. Linux does so once in each answer, on
//! a connection that has gone to and fro before, so there are many short streams on one.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Server, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{
    Spread, connect, is_full,
    light::{Deed, Light},
    options, request, scaled,
};

/// Events of a stream, and the milliseconds between them.
const EVENTS: u64 = 6;
const GAP: u64 = 4;
/// Streams that are judged together.
const ROUND: u64 = 10;
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
    let mut connection = connect(server.address()).await.unwrap();
    let (mut gaps, mut firsts, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..scaled("MCPCTL_CHAOS_STEPS", 100, 3_000) as u64 {
        let ask = request(&admin, "gpt", "steps", &Deed::Tick(GAP, EVENTS).user(number), true);
        if number % ROUND == 0 {
            rounds.push(0);
        }
        let began = Instant::now();
        let mut last = began;
        connection.write(&ask).await.unwrap();
        within(LIMIT, "the head", connection.head()).await.unwrap().expect("an answer");
        let mut seen = 0;
        while let Some(chunk) = within(LIMIT, "a chunk", connection.chunk()).await.unwrap() {
            seen += memchr::memmem::find_iter(&chunk, b"\n\n").count() as u64;
            if last == began {
                firsts.push(began.elapsed());
            }
            gaps.push(last.elapsed());
            *rounds.last_mut().unwrap() += steps(&gaps[gaps.len() - 1..]);
            last = Instant::now();
        }
        assert_eq!(seen, EVENTS + 2, "the end is two events");
    }
    let (late, events) = (steps(&gaps), gaps.len());
    println!(
        "{events} pieces, one every {GAP} ms: {late} steps, gaps {}, first {}",
        Spread::of(gaps),
        Spread::of(firsts)
    );
    // A busy machine makes a round worse and never better; Nagle's algorithm would delay a piece of each stream.
    let best = rounds.iter().min().unwrap();
    assert!(*best <= 1, "{best} steps of 40 ms in the best round of {ROUND} streams");
    assert!(!is_full() || late * 50 <= events, "{late} of {events} pieces came in steps of 40 ms");
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
    assert!(steps * 3 <= spread.0.len(), "{steps} of {} calls took 40 ms more", spread.0.len());
    assert!(spread.at(0.5) < STEP / 2, "{spread}");
}

/// What the tests above would see if a side forgot the option.
#[tokio::test]
async fn without_the_option_there_would_be_steps() {
    const STREAMS: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(false).unwrap();
        while stream.read_u8().await.is_ok() {
            for step in 0..EVENTS {
                stream.write_all(&[step as u8]).await.unwrap();
                sleep(Duration::from_millis(GAP)).await;
            }
        }
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut gaps = Vec::new();
    for _ in 0..STREAMS {
        let mut last = Instant::now();
        stream.write_u8(1).await.unwrap();
        for step in 0..EVENTS {
            assert_eq!(u64::from(within(LIMIT, "a byte", stream.read_u8()).await.unwrap()), step);
            gaps.push(last.elapsed());
            last = Instant::now();
        }
    }
    let late = steps(&gaps);
    println!("with Nagle's algorithm: {late} steps in {STREAMS} streams");
    assert!(late * 2 >= STREAMS, "the measurement shows nothing: {late} steps in {STREAMS} streams");
}
