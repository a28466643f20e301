//! What it takes to move many Secrets: `make openbao && cargo bench -p benches --bench secrets`.
//!
//! 10,000 Secrets go from SQLite to a real OpenBao (a development server, in memory) and back: the time, the time for
//! each, and how far this process's memory rises meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use benches::process::Family;
use mcpctl_core::{
    Principal, Registry,
    registry::{ApplyMode, MigrationOrder, Wanted},
    resource::{Kind, kinds},
    secret::MasterKey,
    store::SqlStore,
};
use serde_json::{Value, json};
use tests::openbao::OpenBao;
use tikv_jemallocator::Jemalloc;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const SECRETS: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let Some(bao) = OpenBao::start().await else {
        println!("there is no OpenBao here: `make openbao` gets one");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("secrets.db").display());
    let store = Arc::new(SqlStore::open(&url).await.expect("a store"));
    let registry =
        Registry::builder(store).master_key(MasterKey::generate()).open().await.expect("a registry");
    let root = registry.root("bench");
    let token = json!({"name": "bao", "data": {"token": bao.root}});
    let config = json!({"url": bao.url(), "tokenRef": {"name": "bao", "key": "token"}});
    apply(&registry, &root, kinds::SECRETS, vec![token]).await;
    let backend = json!({"name": "bao", "type": "openbao", "config": config});
    apply(&registry, &root, kinds::SECRET_BACKENDS, vec![backend]).await;
    let names: Vec<String> = (0..SECRETS).map(|number| format!("secret-{number}")).collect();
    for part in names.chunks(1_000) {
        let secret =
            |name: &String| json!({"name": name, "data": {"key": format!("sk-{name}-{}", "x".repeat(40))}});
        apply(&registry, &root, kinds::SECRETS, part.iter().map(secret).collect()).await;
    }
    println!("| {SECRETS} Secrets | s | ms each | memory before, MiB | highest meanwhile, MiB |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (from, to) in [("default", "bao"), ("bao", "default")] {
        let before = resident();
        let highest = Arc::new(AtomicU64::new(before));
        let watching = tokio::spawn({
            let highest = highest.clone();
            async move {
                loop {
                    highest.fetch_max(resident(), Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        let began = Instant::now();
        let order = MigrationOrder {
            from: from.to_owned(),
            to: to.to_owned(),
            names: Some(names.clone()),
            keep_source: false,
            dry_run: false,
        };
        let report = registry.migrate(&root, &order).await.expect("a migration");
        let took = began.elapsed().as_secs_f64();
        watching.abort();
        assert_eq!((report.migrated.len(), report.failed.len()), (SECRETS, 0), "{:?}", report.failed.first());
        let highest = highest.load(Relaxed);
        let each = took * 1_000.0 / SECRETS as f64;
        println!("| {from} to {to} | {took:.1} | {each:.2} | {} | {} |", before >> 20, highest >> 20);
    }
}

async fn apply(registry: &Registry, who: &Principal, kind: Kind, bodies: Vec<Value>) {
    let wanted = |body: Value| Wanted { kind, body: body.as_object().cloned().expect("an object") };
    let mode = ApplyMode { dry_run: false, atomic: true };
    let applied =
        registry.apply(who, bodies.into_iter().map(wanted).collect(), mode).await.expect("an apply");
    for one in applied {
        one.outcome.expect("made");
    }
}

fn resident() -> u64 {
    let this = Family::of(std::process::id());
    this.and_then(|this| this.resident()).expect("this process")
}
