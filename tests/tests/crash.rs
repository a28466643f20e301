//! `kill -9` while several clients write, again and again: what was acknowledged is there, what is there is whole.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tests::{Api, Server, ServerOptions, chaos::Seeded, eventually, postgres::Postgres, server::unique};

/// How many acknowledged writes there must be.
const WRITES: usize = 200;
const WRITERS: usize = 4;

/// What is known of one resource: what the server acknowledged last, and what it may have done since.
#[derive(Clone, Debug, Default)]
struct Known {
    kind: &'static str,
    /// The mark and the version of the last acknowledged write; `None` when none was.
    acknowledged: Option<(String, i64)>,
    /// Whether a deletion was acknowledged.
    deleted: bool,
    /// A write whose answer never came.
    in_doubt: Option<Doubt>,
}

#[derive(Clone, Debug)]
enum Doubt {
    Write(String),
    Delete,
}

type Ledger = Arc<Mutex<BTreeMap<String, Known>>>;

/// The fields of a resource that all say the same mark: half a write would show.
fn body(kind: &str, mark: &str) -> Value {
    match kind {
        "secrets" => json!({"description": mark, "data": {"one": mark, "two": mark}}),
        _ => json!({"description": mark, "model": mark, "extraConfig": {"mark": mark}}),
    }
}

/// Sends one write; `None` when the server died before it answered.
async fn write(api: &Api, method: &str, kind: &str, name: &str, mark: &str) -> Option<(u16, Value)> {
    let mut body = body(kind, mark);
    let path = if method == "POST" { format!("/api/v1/{kind}") } else { format!("/api/v1/{kind}/{name}") };
    if method == "POST" {
        body["name"] = name.into();
        if kind == "llms" {
            body["type"] = "openai".into();
        }
    }
    let response = api.request(method, &path).json(&body).send().await.ok()?;
    let status = response.status().as_u16();
    let answer = response.bytes().await.ok()?;
    Some((status, serde_json::from_slice(&answer).unwrap_or_default()))
}

/// Creates, changes and deletes its own resources until the server dies.
async fn writer(api: Api, ledger: Ledger, number: usize, done: Arc<AtomicUsize>) {
    for step in 0.. {
        let (kind, name) =
            (["llms", "secrets"][step % 2], format!("w{number}-{}", unique("x").replace("-canary", "")));
        for (method, last) in [("POST", false), ("PUT", false), ("PATCH", false), ("DELETE", step % 3 == 2)] {
            if method == "DELETE" && !last {
                break;
            }
            let mark = unique("mark");
            {
                let mut ledger = ledger.lock().unwrap();
                let known = ledger.entry(name.clone()).or_default();
                known.kind = kind;
                known.in_doubt =
                    Some(if method == "DELETE" { Doubt::Delete } else { Doubt::Write(mark.clone()) });
            }
            let Some((status, answer)) = write(&api, method, kind, &name, &mark).await else { return };
            let mut ledger = ledger.lock().unwrap();
            let known = ledger.get_mut(&name).unwrap();
            known.in_doubt = None;
            match status {
                200 | 201 => known.acknowledged = Some((mark, answer["version"].as_i64().unwrap())),
                204 => known.deleted = true,
                _ => panic!("{method} {name}: {status} {answer}"),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The mark that every field of a stored resource must bear.
async fn mark_of(admin: &Api, kind: &str, thing: &Value) -> String {
    let mark = thing["description"].as_str().unwrap().to_owned();
    let whole = match kind {
        "secrets" => {
            let path = format!("/api/v1/secrets/{}?showValues=true", thing["name"].as_str().unwrap());
            admin.get(&path).await.expect(200)["data"] == json!({"one": mark, "two": mark})
        }
        _ => thing["model"] == mark && thing["extraConfig"] == json!({"mark": mark}),
    };
    assert!(whole, "half a write: {thing}");
    mark
}

/// Every change in the audit log, as `name action version`.
async fn changes(admin: &Api) -> BTreeMap<(String, String, i64), usize> {
    let (mut found, mut next) = (BTreeMap::new(), String::new());
    loop {
        let page =
            admin.get(&format!("/api/v1/auditlogs?kind=resource_change&limit=1000{next}")).await.expect(200);
        for event in page["items"].as_array().unwrap() {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            *found.entry((text("name"), text("action"), event["version"].as_i64().unwrap())).or_default() +=
                1;
        }
        match page["continue"].as_str() {
            Some(more) => next = format!("&continue={more}"),
            None => return found,
        }
    }
}

/// Compares what is stored with what is known, settles what was in doubt, and checks the audit log.
async fn verify(admin: &Api, ledger: &Ledger) {
    let mut stored = BTreeMap::new();
    for kind in ["llms", "secrets"] {
        for thing in admin.get(&format!("/api/v1/{kind}")).await.expect(200).as_array().unwrap() {
            stored.insert(thing["name"].as_str().unwrap().to_owned(), thing.clone());
        }
    }
    let audited = changes(admin).await;
    assert!(audited.values().all(|count| *count == 1), "a change was audited twice");
    let known = ledger.lock().unwrap().clone();
    for name in stored.keys() {
        assert!(known.contains_key(name), "{name} was made by nobody");
    }
    for (name, mut known) in known {
        let found = stored.get(&name);
        let doubt = known.in_doubt.take();
        match (found, &known.acknowledged) {
            (None, None) => {
                assert!(matches!(doubt, Some(Doubt::Write(_))), "{name}");
                // It never was. Should it turn up later, nobody has made it.
                ledger.lock().unwrap().remove(&name);
                continue;
            }
            (None, Some(_)) => {
                assert!(known.deleted || matches!(doubt, Some(Doubt::Delete)), "{name} is gone: {known:?}");
                known.deleted = true;
            }
            (Some(thing), acknowledged) => {
                assert!(!known.deleted, "{name} is back");
                let mark = mark_of(admin, known.kind, thing).await;
                let version = thing["version"].as_i64().unwrap();
                let old = acknowledged.as_ref().is_some_and(|last| *last == (mark.clone(), version));
                let expected = acknowledged.as_ref().map_or(1, |(_, version)| version + 1);
                let new = version == expected && matches!(&doubt, Some(Doubt::Write(new)) if *new == mark);
                assert!(old || new, "{name} at version {version} says {mark}: {known:?}, in doubt {doubt:?}");
                known.acknowledged = Some((mark, version));
            }
        }
        let last = known.acknowledged.as_ref().map_or(0, |(_, version)| *version);
        for version in 1..=last {
            let action = if version == 1 { "create" } else { "edit" };
            let event = (name.clone(), action.to_owned(), version);
            assert!(audited.contains_key(&event), "no audit event of {event:?}");
        }
        let more = |(of, action, version): &(String, String, i64)| {
            *of == name && (*version > last || action == "delete") && !known.deleted
        };
        assert!(!audited.keys().any(more), "{name}: an audit event of a change that did not happen");
        ledger.lock().unwrap().insert(name, known);
    }
}

async fn kill_in_a_loop(options: ServerOptions, seed: u64) -> Server {
    let mut random = Seeded::new(seed);
    let mut server = Server::start_with(options).await;
    let admin = server.login_admin().await;
    let (ledger, done) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
    let mut rounds = 0;
    while done.load(Ordering::Relaxed) < WRITES || rounds < 5 {
        rounds += 1;
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| tokio::spawn(writer(admin.clone(), ledger.clone(), number, done.clone())))
            .collect();
        // A machine may be slow, so that the moment is counted in writes, and then in anything between two of them.
        let enough = done.load(Ordering::Relaxed) + 1 + random.below(16) as usize;
        let written = async || (done.load(Ordering::Relaxed) >= enough).then_some(());
        eventually("some writes are acknowledged", written).await;
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        server.kill9();
        for writer in writers {
            writer.await.unwrap();
        }
        let took = server.restart().await;
        assert!(took < Duration::from_secs(2), "restarted in {took:?}");
        verify(&admin, &ledger).await;
    }
    admin.create("llms", &json!({"name": "after", "type": "openai", "model": "m"})).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_sqlite() {
    kill_in_a_loop(ServerOptions::default(), 20_261_122).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_postgresql() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.create_database();
    let options = ServerOptions { database_url: Some(url.clone()), ..ServerOptions::default() };
    let mut server = kill_in_a_loop(options, 20_261_123).await;
    server.kill9();
    server.check_canary_in_postgres(postgres, &url);
}
