//! Callers who leave before the first byte, in the middle of a stream, and while a whole answer is awaited: the
//! provider's connection goes with them, the audit trail says 499, and nothing of them stays.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Api, Server, chaos::Seeded, eventually, within};
use tokio::task::JoinSet;

use super::{
    CLIENTS, Spread, audited, connect, is_full,
    light::{Deed, Light},
    metric, options, quiet, request, scaled,
};

/// When a caller leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeTheFirstByte,
    MidStream,
    NotStreaming,
}

const MOMENTS: [Moment; 3] = [Moment::BeforeTheFirstByte, Moment::MidStream, Moment::NotStreaming];

/// One caller: when it leaves, and whether it does so without a word, as one that crashed.
#[derive(Clone, Copy)]
struct Leaver {
    number: u64,
    moment: Moment,
    resets: bool,
}

/// Lets a caller come and leave; says how long after it the provider's connection was closed.
async fn leave(address: SocketAddr, api: &Api, light: &Light, leaver: Leaver) -> Duration {
    let Leaver { number, moment, resets } = leaver;
    let visit = light.expect(number);
    let deed = if moment == Moment::MidStream { Deed::Tick(20, 1_000_000) } else { Deed::Hang };
    let stream = moment != Moment::NotStreaming;
    let request = request(api, "gpt", &format!("leaver-{number}"), &deed.user(number), stream);
    let limit = Duration::from_secs(20);
    let mut connection = connect(address).await.expect("a connection");
    connection.write(&request).await.unwrap();
    within(limit, "the request at the provider", visit.arrived).await.unwrap();
    if moment == Moment::MidStream {
        let head = within(limit, "the head", connection.head()).await.unwrap().expect("an answer");
        assert!(head.start.contains("200"), "{head:?}");
        within(limit, "the first chunk", connection.chunk()).await.unwrap().expect("a chunk");
    }
    let left = Instant::now();
    if resets {
        connection.reset();
    } else {
        drop(connection);
    }
    let gone = within(limit, "the end of the provider's connection", visit.gone).await.unwrap();
    gone.saturating_duration_since(left)
}

/// Lets `count` callers come and leave, `at_once` at a time.
async fn leave_all(
    address: SocketAddr,
    api: &Api,
    light: &Arc<Light>,
    leavers: impl Iterator<Item = Leaver>,
    at_once: usize,
) -> Vec<Duration> {
    let (mut running, mut measured) = (JoinSet::new(), Vec::new());
    for leaver in leavers {
        if running.len() == at_once {
            measured.push(running.join_next().await.unwrap().unwrap());
        }
        let (api, light) = (api.clone(), light.clone());
        running.spawn(async move { leave(address, &api, &light, leaver).await });
    }
    measured.extend(running.join_all().await);
    measured
}

fn leavers(random: &mut Seeded, numbers: std::ops::Range<u64>) -> Vec<Leaver> {
    let leaver =
        |number| Leaver { number, moment: MOMENTS[random.below(3) as usize], resets: random.below(2) == 0 };
    numbers.map(leaver).collect()
}

async fn with_light() -> (Server, Api, Arc<Light>) {
    crate::connections::raise_limit();
    let server = Server::start_with(options(&[])).await;
    let (light, admin) = (Arc::new(Light::start()), server.login_admin().await);
    admin.create_llm_at("gpt", "openai", &light.url(), json!({})).await;
    (server, admin, light)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_takes_the_provider_along_at_once() {
    let (server, admin, light) = with_light().await;
    let count = scaled("MCPCTL_CHAOS_LEAVERS", 60, 1_000) as u64;
    let leavers = leavers(&mut Seeded::new(20_261_201), 0..count);
    for moment in MOMENTS {
        let some = leavers.iter().copied().map(|leaver| {
            let number = leaver.number + count * moment as u64;
            Leaver { number, moment, ..leaver }
        });
        let spread = Spread::of(leave_all(server.address(), &admin, &light, some, 4).await);
        println!("{moment:?}: the provider's connection closed after {spread}");
        // Beside other tests, a thread may have to wait for its turn.
        let most = Duration::from_millis(if is_full() { 50 } else { 3000 });
        assert!(spread.max() <= most, "{moment:?}: {spread}");
        assert!(spread.at(0.5) <= Duration::from_millis(50), "{moment:?}: {spread}");
    }
    let noted = async || {
        let events = audited(&admin).await;
        (events.len() as u64 == count * 3).then_some(events)
    };
    let events = eventually("an event of each", noted).await;
    assert!(events.values().all(|status| *status == 499), "{events:?}");
    quiet(&admin).await;
    assert_eq!(light.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_those_who_left() {
    let (server, admin, light) = with_light().await;
    let count = scaled("MCPCTL_CHAOS_LEAKS", 600, 100_000) as u64;
    let mut random = Seeded::new(20_261_202);
    let warm_up = count / 5;
    let leavers = leavers(&mut random, 0..count + warm_up);
    let (first, rest) = leavers.split_at(warm_up as usize);
    let address = server.address();
    leave_all(address, &admin, &light, first.iter().copied(), 32).await;
    quiet(&admin).await;
    let (files, before) = (server.open_files(), settled_kib(&server).await);
    let began = Instant::now();
    let mut measured = Vec::new();
    for (part, leavers) in rest.chunks(rest.len().div_ceil(10)).enumerate() {
        measured.extend(leave_all(address, &admin, &light, leavers.iter().copied(), 32).await);
        println!("{part}: {} KiB, {} files", server.resident_kib(), server.open_files());
    }
    let took = began.elapsed();
    quiet(&admin).await;
    assert_eq!(light.connections(), 0);
    let left = metric(&admin, "mcpctl_inference_requests_total{llm=\"gpt\",status=\"499\"}").await;
    assert_eq!(left as u64, count + warm_up, "each is counted as one who left");
    eventually("the files are closed", async || (server.open_files() <= files + CLIENTS).then_some(())).await;
    assert!(metric(&admin, "process_open_fds").await as usize <= files + CLIENTS);
    let written = async || {
        let written = metric(&admin, "mcpctl_audit_events_written_total").await as u64;
        (written >= count + warm_up).then_some(())
    };
    eventually("every event is written", written).await;
    let after = settled_kib(&server).await;
    println!(
        "{count} left in {took:?}: {before} KiB before, {after} KiB after; the provider's connection closed after {}",
        Spread::of(measured)
    );
    // What a page cache and an allocator keep, and nothing that grows with the number of callers.
    assert!(after <= before + before / 10 + 4096, "{before} KiB became {after} KiB");
}

/// How much memory the server keeps, once it has given back what it does not need.
async fn settled_kib(server: &Server) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..if is_full() { 8 } else { 4 } {
        least = least.min(server.resident_kib());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    least
}
