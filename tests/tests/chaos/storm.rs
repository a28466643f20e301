//! Every fault of a provider, in an order that the seed decides, many at once and between calls that are healthy:
//! each ends as it must, the healthy ones are exact, and nothing stays.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{
    Api, Fault, Provider, Server,
    chaos::Seeded,
    eventually,
    http1::{self, RawReply},
    provider::{BlackHole, answer, refusing_url},
    server::unique,
    sse::Chat,
    within,
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{CLIENTS, connect, metric, options, peak_kib, quiet, request, scaled};

const TYPES: [&str; 2] = ["openai", "anthropic"];
/// Calls at once, and those of them that move megabytes.
const AT_ONCE: usize = 24;
const HEAVY_AT_ONCE: usize = 2;
/// What every key of a provider begins with.
const KEY: &str = "sk-provider-key";

/// What is wrong with the provider of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Refuses,
    BlackHole,
    Fault(Fault),
}

/// A call.
#[derive(Clone, Copy, Debug)]
struct Call {
    ty: &'static str,
    wrong: Wrong,
    stream: bool,
}

/// How a call must end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// An error with this status, that names the Llm unless it is the provider's own.
    Status(u16),
    /// The answer, as it was said.
    Exact,
    /// The answer, whatever its lines end in.
    Same,
    /// One error frame, and the end.
    Broken,
    /// Either of the two.
    SameOrBroken,
    /// The caller has to leave.
    Never,
}

impl Call {
    fn llm(self) -> String {
        match self.wrong {
            Wrong::Nothing => format!("healthy-{}", self.ty),
            Wrong::Refuses => format!("refuses-{}", self.ty),
            Wrong::BlackHole => format!("black-hole-{}", self.ty),
            Wrong::Fault(fault) => format!("fault-{fault}-{}", self.ty),
        }
    }

    fn is_heavy(self) -> bool {
        use Fault::{CompressedBomb, EndlessHeaders, EndlessLine, Flood, LongLine, NoBlankLine};
        let heavy = [Flood, LongLine, EndlessLine, NoBlankLine, CompressedBomb, EndlessHeaders];
        matches!(self.wrong, Wrong::Fault(fault) if heavy.contains(&fault))
    }

    fn end(self) -> End {
        use Fault::*;
        let fault = match self.wrong {
            Wrong::Nothing => return End::Exact,
            Wrong::Refuses | Wrong::BlackHole => return End::Status(502),
            Wrong::Fault(fault) => fault,
        };
        match (fault, self.stream) {
            (Status(status), _) => End::Status(status),
            (Silent, _) | (Stall | Endless, false) => End::Status(504),
            (Html | NotJson | Empty | Redirect | Compressed | CompressedBomb | EndlessHeaders, _)
            | (Reset | Truncated | Flood, false) => End::Status(502),
            (ErrorFrame, false) => End::Status(500),
            (Stall | Reset | Truncated | NoFinish | ErrorFrame | EndlessLine | NoBlankLine, true) => {
                End::Broken
            }
            (NoDone, true) if self.ty == "anthropic" => End::Broken,
            (LongLine, true) => End::SameOrBroken,
            (Endless | Flood, true) => End::Never,
            (_, true) => End::Same,
            (_, false) => End::Exact,
        }
    }

    /// Whether `reply` is how it must end.
    fn check(self, reply: &RawReply) -> Result<(), String> {
        let text = reply.text();
        let wrong = |why: &str| {
            let shown: String = text.chars().take(2000).collect();
            Err(format!("{self:?} {why}: {} {shown}", reply.status))
        };
        if text.contains(KEY) {
            return wrong("shows our key");
        }
        if let End::Status(status) = self.end() {
            let error = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
            let ours =
                error["error"]["message"].as_str().is_some_and(|message| message.contains(&self.llm()));
            let theirs = matches!(self.wrong, Wrong::Fault(Fault::Status(_) | Fault::ErrorFrame));
            return match reply.status == status && !error["error"].is_null() && (ours || theirs) {
                true => Ok(()),
                false => wrong("must be an error"),
            };
        }
        if reply.status != 200 {
            return wrong("must be answered");
        }
        if !self.stream {
            let same = reply.json()["choices"][0]["message"]["content"] == answer::text();
            let exact = self.ty != "openai" || reply.json() == answer::Api::OpenAi.plain(&self.model());
            return if same && exact { Ok(()) } else { wrong("is another answer") };
        }
        if matches!(self.end(), End::Exact) && self.ty == "openai" {
            let events = answer::Api::OpenAi.stream(&self.model(), false).all();
            let exact: String = events.iter().map(|event| format!("{event}\n\n")).collect();
            return if text == exact { Ok(()) } else { wrong("is another stream") };
        }
        let unified = text.replace("\r\n", "\n").replace('\r', "\n");
        let plain: String = unified.split_inclusive('\n').filter(|line| !line.starts_with(':')).collect();
        let errors = plain.matches("data: {\"error\":").count();
        if plain.matches("data: [DONE]\n\n").count() != 1 || !plain.ends_with("data: [DONE]\n\n") {
            return wrong("must end once");
        }
        match (self.end(), errors) {
            (End::Broken | End::SameOrBroken, 1) => Ok(()),
            (End::SameOrBroken, 0) => Ok(()),
            (End::Exact | End::Same, 0) if Chat::read(&plain).text() == answer::text() => Ok(()),
            _ => wrong("ends in another way"),
        }
    }

    fn model(self) -> String {
        match self.wrong {
            Wrong::Fault(fault) => format!("model-fault-{fault}"),
            _ => "model".to_owned(),
        }
    }
}

/// The providers of a storm.
struct World {
    server: Server,
    admin: Api,
    provider: Provider,
    _hole: BlackHole,
}

impl World {
    async fn make() -> Self {
        let (server, provider) = (Server::start_with(options(&[])).await, Provider::start().await);
        let (admin, hole) = (server.login_admin().await, BlackHole::open().await);
        provider.redirect_to(provider.url());
        admin.create_secret("key", &json!({"api-key": unique(KEY)})).await;
        for call in every_call().filter(|call| !call.stream) {
            let (url, timeout) = match call.wrong {
                Wrong::Refuses => (refusing_url(), 20_000),
                Wrong::BlackHole => (hole.url(), 20_000),
                Wrong::Fault(Fault::Silent | Fault::Stall | Fault::Endless) => (provider.url(), 500),
                _ => (provider.url(), 20_000),
            };
            let extra = json!({"timeoutMs": timeout, "connectTimeoutMs": 1000});
            let llm = json!({"name": call.llm(), "type": call.ty, "model": call.model(), "url": url,
                             "apiKeyRef": {"name": "key", "key": "api-key"}, "extraConfig": extra});
            admin.create("llms", &llm).await;
        }
        Self { server, admin, provider, _hole: hole }
    }
}

/// Each combination once.
fn every_call() -> impl Iterator<Item = Call> {
    let usual = [Wrong::Nothing, Wrong::Refuses, Wrong::BlackHole];
    // `Busy` is a fault only the first time.
    let faults = Fault::all().filter(|fault| !matches!(fault, Fault::Busy));
    let wrongs = usual.into_iter().chain(faults.map(Wrong::Fault));
    wrongs.flat_map(|wrong| {
        TYPES.into_iter().flat_map(move |ty| [true, false].map(move |stream| Call { ty, wrong, stream }))
    })
}

/// Every combination at least once, in random order, and half of all healthy.
fn plan(random: &mut Seeded, length: usize) -> Vec<Call> {
    let all: Vec<Call> = every_call().collect();
    let mut calls = all.clone();
    while calls.len() * 2 < length {
        let call = all[random.below(all.len() as u64) as usize];
        // What moves megabytes would be all that happens.
        if !call.is_heavy() || random.below(10) == 0 {
            calls.push(call);
        }
    }
    for _ in 0..calls.len() {
        let (ty, stream) = (TYPES[random.below(2) as usize], random.below(2) == 0);
        calls.push(Call { ty, wrong: Wrong::Nothing, stream });
    }
    for last in (1..calls.len()).rev() {
        calls.swap(last, random.below(last as u64 + 1) as usize);
    }
    calls
}

async fn make_call(server: &Server, admin: &Api, number: usize, call: Call) -> Result<(), String> {
    let limit = Duration::from_secs(60);
    let ask = request(admin, &call.llm(), &format!("storm-{number}"), "storm", call.stream);
    if matches!(call.end(), End::Never) {
        let mut connection = connect(server.address()).await.ok_or("refused")?;
        connection.write(&ask).await.map_err(|error| error.to_string())?;
        within(limit, "the head", connection.head()).await.map_err(|error| error.to_string())?;
        for _ in 0..8 {
            within(limit, "a chunk", connection.chunk()).await.map_err(|error| error.to_string())?;
        }
        return Ok(());
    }
    let reply = within(limit, "an answer", http1::exchange(server.address(), &ask)).await;
    call.check(&reply.ok_or(format!("{call:?}: no answer"))?)
}

/// What was found wrong, and how often and how long each kind of call took.
#[derive(Default)]
struct Found {
    wrong: Vec<String>,
    times: BTreeMap<String, (usize, Duration)>,
}

async fn storm(world: &Arc<World>, calls: Vec<Call>) -> Found {
    let found: Arc<Mutex<Found>> = Arc::default();
    let calls = Arc::new(Mutex::new(calls.into_iter().enumerate()));
    let heavy = Arc::new(Semaphore::new(HEAVY_AT_ONCE));
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (world, calls, found, heavy) = (world.clone(), calls.clone(), found.clone(), heavy.clone());
        callers.spawn(async move {
            loop {
                let Some((number, call)) = calls.lock().unwrap().next() else { return };
                let place = if call.is_heavy() { Some(heavy.acquire().await.unwrap()) } else { None };
                let began = Instant::now();
                let result = make_call(&world.server, &world.admin, number, call).await;
                drop(place);
                let mut found = found.lock().unwrap();
                found.wrong.extend(result.err());
                let (count, longest) = found.times.entry(call.llm()).or_default();
                (*count, *longest) = (*count + 1, began.elapsed().max(*longest));
            }
        });
    }
    callers.join_all().await;
    std::mem::take(&mut found.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_faults_each_call_ends_as_it_must() {
    crate::connections::raise_limit();
    let mut random = Seeded::new(20_261_203);
    let calls = plan(&mut random, scaled("MCPCTL_CHAOS_STORM", 0, 20_000));
    let world = Arc::new(World::make().await);
    let (files, before) = (world.server.open_files(), world.server.resident_kib());
    let (began, count) = (Instant::now(), calls.len());
    let mut found = Found::default();
    let peak = peak_kib(&world.server, async { found = storm(&world, calls).await }).await;
    quiet(&world.admin).await;
    println!("{count} calls in {:?}; memory: {before} KiB before, {peak} KiB at most", began.elapsed());
    found.times.iter().for_each(|(llm, (count, longest))| println!("  {llm}: {count}, at most {longest:?}"));
    assert!(found.wrong.is_empty(), "{} calls: {:#?}", found.wrong.len(), found.wrong);
    // Two answers of 64 MiB at once, each in a buffer that may have just been doubled.
    assert!(peak - before < 400 << 10, "{before} KiB became {peak} KiB");
    let idle = metric(&world.admin, "mcpctl_provider_connections_idle{scheme=\"http\"}").await as usize;
    eventually("the files are closed", async || {
        (world.server.open_files() <= files + idle + CLIENTS).then_some(())
    })
    .await;
    let settled = async || (world.server.resident_kib() <= before + before / 2 + (16 << 10)).then_some(());
    eventually("the memory is given back", settled).await;
    for call in every_call().filter(|call| call.wrong == Wrong::Nothing) {
        make_call(&world.server, &world.admin, count, call).await.unwrap();
    }
    assert!(world.provider.received().len() >= count / 2);
}
