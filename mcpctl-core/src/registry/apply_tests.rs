//! Many resources at once, over a store in memory.

use serde_json::{Value, json};

use super::{
    Applied, ApplyMode, Done, Wanted,
    tests::{World, body, world},
};
use crate::{ErrorKind, Principal, resource::Kind, store::EventQuery};

const ATOMIC: ApplyMode = ApplyMode { dry_run: false, atomic: true };
const DRY: ApplyMode = ApplyMode { dry_run: true, atomic: false };

fn wanted(kind: &str, value: Value) -> Wanted {
    Wanted { kind: Kind::parse(kind).unwrap(), body: body(value) }
}

/// Resources that need each other, in the wrong order.
fn team() -> Vec<Wanted> {
    let binding = json!([{"role": "run", "resource": "llms", "name": "l"}]);
    let subject = json!([{"kind": "Group", "name": "g"}]);
    vec![
        wanted("mcptoken", json!({"name": "t", "owner": "u@b.example", "project": "p"})),
        wanted("rbac", json!({"name": "r", "subjects": subject, "roleBindings": binding})),
        wanted("project", json!({"name": "p", "llmProvider": "l"})),
        wanted("group", json!({"name": "g", "members": ["u@b.example"]})),
        wanted("user", json!({"name": "u@b.example"})),
        wanted(
            "llm",
            json!({"name": "l", "type": "openai", "model": "m", "apiKeyRef": {"name": "s", "key": "k"}}),
        ),
        wanted("secret", json!({"name": "s", "data": {"k": "sk-canary"}})),
    ]
}

fn told(applied: &[Applied]) -> Vec<String> {
    let word = |one: &Applied| match &one.outcome {
        Ok(Done::Created(_)) => "created".to_owned(),
        Ok(Done::Updated) => "updated".to_owned(),
        Ok(Done::Unchanged) => "unchanged".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    applied.iter().map(word).collect()
}

impl World {
    async fn apply(&self, who: &Principal, wanted: Vec<Wanted>, mode: ApplyMode) -> Vec<Applied> {
        self.registry.apply(who, wanted, mode).await.unwrap()
    }

    async fn count(&self) -> usize {
        let mut count = 0;
        for kind in Kind::all() {
            count += crate::store::Store::list(&*self.store, kind).await.unwrap().len();
        }
        count
    }

    pub(super) async fn changes_told(&self) -> usize {
        let query = EventQuery { kind: Some("resource_change".into()), limit: 1000, ..EventQuery::default() };
        crate::store::EventStore::events(&*self.store, &query).await.unwrap().len()
    }
}

#[tokio::test]
async fn new_resources_refer_to_each_other_in_one_transaction() {
    let world = world().await;
    let before = (world.count().await, world.changes_told().await);
    let revision = world.registry.snapshot().revision();
    for _ in 0..2 {
        let dry = world.apply(&world.root, team(), ApplyMode { dry_run: true, atomic: true }).await;
        assert_eq!(told(&dry), ["created"; 7]);
        assert_eq!((world.count().await, world.changes_told().await), before, "a dry run leaves nothing");
    }
    let applied = world.apply(&world.root, team(), ATOMIC).await;
    assert_eq!(told(&applied), ["created"; 7]);
    assert_eq!((world.count().await, world.changes_told().await), (before.0 + 7, before.1 + 7));
    assert_eq!(world.registry.snapshot().revision(), revision + 1);
    let Ok(Done::Created(Some(token))) = &applied[0].outcome else { panic!("a token is shown once") };
    let bearer = world.registry.authenticate(token.expose(), None).unwrap();
    assert_eq!(bearer.name(), "u@b.example");
    let llm = world.registry.snapshot().llm("l").unwrap().clone();
    let key = world.registry.api_key(&llm).await.unwrap().unwrap();
    assert_eq!(key.expose(), "sk-canary", "its value was written, too");
    // Once more, nothing changes; each once changed is changed on top of that.
    assert_eq!(told(&world.apply(&world.root, team(), ATOMIC).await), ["unchanged"; 7]);
    assert_eq!(world.registry.snapshot().revision(), revision + 1);
    let twice = || {
        vec![
            wanted("llm", json!({"name": "l", "model": "n"})),
            wanted("llm", json!({"name": "l", "tier": "heavy"})),
        ]
    };
    assert_eq!(told(&world.apply(&world.root, twice(), DRY).await), ["updated"; 2]);
    assert_eq!(told(&world.apply(&world.root, twice(), ATOMIC).await), ["updated"; 2]);
    let llm = world.registry.snapshot().llm("l").unwrap().clone();
    assert_eq!((llm.spec.model.as_str(), llm.spec.tier.as_str()), ("n", "heavy"));
}

#[tokio::test]
async fn one_that_is_refused_stops_a_transaction_and_nothing_else() {
    let world = world().await;
    let before = world.count().await;
    let mut some = team();
    some.push(wanted("llm", json!({"name": "bad", "type": "openai", "model": ""})));
    some.push(wanted("group", json!({"members": []})));
    let applied = told(&world.apply(&world.root, some.clone(), ATOMIC).await);
    assert_eq!(applied[0], "not applied, as another resource was refused");
    assert!(applied[7].contains("model") && applied[8].contains("name"), "{applied:?}");
    assert_eq!(world.count().await, before);
    let dry = told(&world.apply(&world.root, some.clone(), DRY).await);
    let real = told(&world.apply(&world.root, some, ApplyMode::default()).await);
    assert_eq!(dry, real, "a dry run says what will happen");
    assert_eq!(real[..7], ["created"; 7]);
    assert_eq!(world.count().await, before + 7);
}

#[tokio::test]
async fn each_needs_the_permission_that_it_would_need_alone() {
    let world = world().await;
    world.llm("known", None).await;
    let who = world.user("w@b.example", json!([{"role": "create", "resource": "llms"}])).await;
    let none = world.user("n@b.example", json!([])).await;
    let llm = |name: &str| {
        wanted("llm", json!({"name": name, "type": "vllm", "model": "x", "url": "http://127.0.0.1:1"}))
    };
    for mode in [DRY, ApplyMode::default()] {
        let applied = world.apply(&who, vec![llm("new"), llm("known")], mode).await;
        assert_eq!(told(&applied), ["created", "missing permission `edit:llms:known`"]);
        let applied = world.apply(&none, vec![llm("known"), llm("unknown")], mode).await;
        let refused = ["missing permission `edit:llms:known`", "missing permission `edit:llms:unknown`"];
        assert_eq!(told(&applied), refused, "it looks the same whether there is one or not");
    }
    // Nobody gets further with others' keys, or gives what they do not hold, than with a single write.
    let key = wanted("secret", json!({"name": "s", "data": {"k": "v"}}));
    world.apply(&world.root, vec![key], ATOMIC).await;
    let reference = json!({"name": "s", "key": "k"});
    let steal =
        wanted("llm", json!({"name": "mine", "type": "openai", "model": "m", "apiKeyRef": reference}));
    let granting = world.user("g@b.example", json!([{"role": "create", "resource": "rbac"}])).await;
    let subjects = json!([{"kind": "User", "name": "g@b.example"}]);
    let grant =
        json!({"name": "more", "subjects": subjects, "roleBindings": [{"role": "run", "resource": "*"}]});
    for (who, wanted) in [(&who, steal), (&granting, wanted("rbac", grant))] {
        let applied = world.apply(who, vec![wanted], ATOMIC).await;
        assert_eq!(applied[0].outcome.as_ref().unwrap_err().kind(), ErrorKind::Forbidden);
    }
}

#[tokio::test]
async fn what_changes_meanwhile_is_not_overwritten() {
    let world = world().await;
    world.llm("l", None).await;
    let stale = wanted("llm", json!({"name": "l", "model": "n", "version": 7}));
    let applied = world.apply(&world.root, vec![stale], ATOMIC).await;
    assert_eq!(applied[0].outcome.as_ref().unwrap_err().kind(), ErrorKind::Conflict);
    // Others write all the time, and both get through.
    let registry = &world.registry;
    let (one, other) = (
        async {
            for number in 0..20 {
                let wanted = vec![wanted("project", json!({"name": "p", "description": number.to_string()}))];
                world.apply(&world.root, wanted, ATOMIC).await;
            }
        },
        async {
            for number in 0..20 {
                let patch = body(json!({"model": number.to_string()}));
                registry.patch(&world.root, crate::resource::kinds::LLMS, "l", patch, None).await.unwrap();
            }
        },
    );
    tokio::join!(one, other);
    assert_eq!(world.registry.snapshot().llm("l").unwrap().spec.model, "19");
}

#[tokio::test]
async fn exactly_one_backend_is_the_default_afterwards() {
    let world = world().await;
    let backends = ["a", "b"]
        .map(|name| wanted("secretbackend", json!({"name": name, "type": "plaintext", "isDefault": true})));
    assert_eq!(told(&world.apply(&world.root, backends.to_vec(), ATOMIC).await), ["created"; 2]);
    let all =
        crate::store::Store::list(&*world.store, crate::resource::kinds::SECRET_BACKENDS).await.unwrap();
    let default: Vec<_> = all.iter().filter(|one| one.spec["isDefault"] == true).collect();
    assert_eq!(default.len(), 1);
    assert_eq!(default[0].name, "b");
}
