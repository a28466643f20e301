//! What many users, groups, bindings and tokens cost: `cargo bench -p benches --bench scale`.
//!
//! 10,000 users, 1,000 groups, 10,000 definitions and 100,000 tokens in SQLite; the time to open a registry on them
//! and the memory that takes; the time to turn a token into a principal and to decide on a call; and how long changes
//! take to count.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use benches::process::Family;
use mcpctl_core::{
    Registry,
    rbac::Action,
    resource::{Id, Kind, Object, Spec, TokenHash, kinds},
    secret::MasterKey,
    store::{SqlStore, Store, Txn, Write},
};
use serde_json::{Value, json};
use tikv_jemallocator::Jemalloc;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const LLMS: usize = 1_000;
const USERS: usize = 10_000;
const GROUPS: usize = 1_000;
const MEMBERS: usize = 30;
const DEFINITIONS: usize = 10_000;
const TOKENS: usize = 100_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("scale.db").display());
    let key = MasterKey::generate();
    let tokens = fill(&url, key.clone()).await;
    println!("| what | |\n| --- | ---: |");
    let before = resident();
    let began = Instant::now();
    let store = Arc::new(SqlStore::open(&url).await.expect("a store"));
    let registry = Registry::builder(store).master_key(key).open().await.expect("a registry");
    println!("| opening | {:.2} s |", began.elapsed().as_secs_f64());
    println!("| resident memory | {} MiB more |", (resident() - before) >> 20);
    lookups(&registry, &tokens);
    changes(&registry).await;
    println!("| resident memory after the changes | {} MiB more |", (resident() - before) >> 20);
}

fn resident() -> u64 {
    let this = Family::of(std::process::id());
    this.and_then(|this| this.resident()).expect("this process")
}

fn object(kind: Kind, name: String, spec: Value) -> Object {
    Object::new(kind, name, spec.as_object().cloned().expect("an object"))
}

fn reference(object: &Object) -> Value {
    json!({"id": object.id, "name": object.name})
}

/// Writes everything, as the registry would have, and gives the tokens' values.
async fn fill(url: &str, key: MasterKey) -> Vec<String> {
    let store = Arc::new(SqlStore::open(url).await.expect("a store"));
    drop(Registry::builder(store.clone()).master_key(key).open().await.expect("a registry"));
    let llm = |number| {
        json!({"type": "openai", "model": format!("m-{number}"), "url": "", "tier": "fast",
                              "description": "", "apiKeyRef": null, "extraConfig": {}})
    };
    let llms: Vec<_> = (0..LLMS).map(|n| object(kinds::LLMS, format!("llm-{n}"), llm(n))).collect();
    let user = json!({"displayName": "Somebody", "description": ""});
    let users: Vec<_> =
        (0..USERS).map(|n| object(kinds::USERS, format!("user-{n}@example.com"), user.clone())).collect();
    let group = |number: usize| {
        let members: Vec<_> =
            (0..MEMBERS).map(|m| reference(&users[(number * MEMBERS + m * 7) % USERS])).collect();
        object(kinds::GROUPS, format!("group-{number}"), json!({"description": "", "members": members}))
    };
    let groups: Vec<_> = (0..GROUPS).map(group).collect();
    let scoped = |role: &str, number: usize| {
        let llm = &llms[number % LLMS];
        json!({"role": role, "resource": "llms", "name": llm.name, "id": llm.id})
    };
    let definition = |number: usize| {
        let (kind, subject) = match number % 2 {
            0 => ("User", &users[number % USERS]),
            _ => ("Group", &groups[number % GROUPS]),
        };
        let subject = json!({"kind": kind, "name": subject.name, "id": subject.id});
        let bindings = [scoped("run", number), scoped("view", number * 3), scoped("run", number * 7)];
        let spec = json!({"description": "", "subjects": [subject], "roleBindings": bindings});
        object(kinds::RBAC, format!("definition-{number}"), spec)
    };
    let mut values = Vec::new();
    let token = |number: usize| {
        let value = format!("mcpctl_pat_{}", Id::random());
        let sha = TokenHash::of(&value).to_hex();
        let spec = json!({"description": "", "owner": reference(&users[number % USERS]), "ttl": "", "expiresAt": "",
                          "roleBindings": [scoped("run", number)], "tokenSha": sha});
        values.push(value);
        object(kinds::MCP_TOKENS, format!("token-{number}"), spec)
    };
    let definitions: Vec<_> = (0..DEFINITIONS).map(definition).collect();
    let tokens: Vec<_> = (0..TOKENS).map(token).collect();
    for objects in [llms.clone(), users.clone(), groups.clone(), definitions, tokens] {
        for part in objects.chunks(2_000) {
            let writes = part.iter().cloned().map(Write::Put).collect();
            store.commit(Txn { writes, ..Txn::default() }).await.expect("a commit");
        }
    }
    values
}

/// Nanoseconds per token, of the fastest of some rounds over other tokens.
fn lookups(registry: &Registry, tokens: &[String]) {
    let mut best = [Duration::MAX; 2];
    for round in 0..20 {
        let some: Vec<&String> = tokens.iter().skip(round).step_by(101).collect();
        let began = Instant::now();
        for token in &some {
            drop(black_box(registry.authenticate(token, None)));
        }
        let authenticated = began.elapsed();
        let snapshot = registry.snapshot();
        let who: Vec<_> =
            some.iter().map(|token| registry.authenticate(token, None).expect("valid")).collect();
        let began = Instant::now();
        for (index, who) in who.iter().enumerate() {
            let name = format!("llm-{}", index % LLMS);
            let llm = snapshot.llm(&name).expect("an Llm");
            black_box(who.rights().allow_on(Action::Run, kinds::LLMS, &llm.name, Some(&llm.id)));
        }
        let each = |time: Duration| time / u32::try_from(some.len()).expect("few");
        best = [best[0].min(each(authenticated)), best[1].min(each(began.elapsed()))];
    }
    println!("| a token becomes a principal | {} ns |", best[0].as_nanos());
    println!("| an Llm is found and running it decided | {} ns |", best[1].as_nanos());
}

/// How long changes take until they count, with all else in memory.
async fn changes(registry: &Registry) {
    let root = registry.root("bench");
    let spec = |value: Value| -> Spec { value.as_object().cloned().expect("an object") };
    let owner = "user-1@example.com";
    let mut worst = Duration::ZERO;
    let began = Instant::now();
    for number in 0..50 {
        let one = Instant::now();
        let token = spec(json!({"name": format!("new-{number}"), "owner": owner}));
        registry.create(&root, kinds::MCP_TOKENS, token).await.expect("a token");
        worst = worst.max(one.elapsed());
    }
    println!("| a token is made | {:.1} ms, at most {:.1} |", millis(began.elapsed() / 50), millis(worst));
    for (what, kind, name, body) in [
        ("a definition changes", kinds::RBAC, "definition-1", json!({"description": "x"})),
        ("a group changes", kinds::GROUPS, "group-1", json!({"members": [owner]})),
        ("an Llm changes", kinds::LLMS, "llm-1", json!({"model": "x"})),
    ] {
        let began = Instant::now();
        registry.patch(&root, kind, name, spec(body), None).await.expect("a change");
        println!("| {what} | {:.1} ms |", millis(began.elapsed()));
    }
    let began = Instant::now();
    registry.delete(&root, kinds::USERS, "user-2@example.com", None).await.expect("a deletion");
    println!("| a user is deleted, with {} tokens | {:.1} ms |", TOKENS / USERS, millis(began.elapsed()));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
