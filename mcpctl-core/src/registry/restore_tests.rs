//! Backing up and restoring, over stores in memory.

use serde_json::{Value, json};

use super::{
    OnConflict, RestoreMode, Restored, RestoredAs,
    tests::{World, body, world},
};
use crate::{
    ErrorKind,
    resource::{Kind, Spec, kinds},
};

impl World {
    async fn restore(&self, resources: Vec<Spec>, on_conflict: OnConflict) -> Vec<Restored> {
        let mode = RestoreMode { on_conflict, dry_run: false };
        self.registry.restore(&self.root, resources, mode).await.unwrap()
    }

    async fn backup(&self) -> Vec<Spec> {
        self.registry.backup(&self.root, true).await.unwrap().resources
    }
}

fn told(restored: &[Restored]) -> Vec<Option<RestoredAs>> {
    restored.iter().map(|one| one.outcome.as_ref().ok().copied()).collect()
}

/// A world in which names lead every way that they can.
async fn tangled() -> World {
    let world = world().await;
    world.create(kinds::SECRETS, json!({"name": "s", "data": {"token": "t"}})).await;
    let config = json!({"url": "http://127.0.0.1:1", "tokenRef": {"name": "s", "key": "token"}});
    // Its name is before that of the backend that it needs.
    world.create(kinds::SECRET_BACKENDS, json!({"name": "bao", "type": "openbao", "config": config})).await;
    world.llm("l", Some("s")).await;
    world.create(kinds::USERS, json!({"name": "u@b.example", "password": "eight letters"})).await;
    world.create(kinds::GROUPS, json!({"name": "g", "members": ["u@b.example"]})).await;
    world.create(kinds::MCP_TOKENS, json!({"name": "t", "owner": "u@b.example", "ttl": "1h"})).await;
    let subjects = json!([{"kind": "McpToken", "name": "t"}, {"kind": "Group", "name": "g"}]);
    let bindings = json!([{"role": "run", "resource": "llms", "name": "l"}, {"role": "view", "resource": "llms", "name": "x*"}]);
    world.create(kinds::RBAC, json!({"name": "r", "subjects": subjects, "roleBindings": bindings})).await;
    world
}

#[tokio::test]
async fn in_whichever_order_they_are_told() {
    let from = tangled().await;
    let all = from.backup().await;
    for reversed in [false, true] {
        let to = world().await;
        let mut given = all.clone();
        if reversed {
            given.reverse();
        }
        let restored = to.restore(given, OnConflict::Fail).await;
        let made = restored.iter().filter(|one| matches!(one.outcome, Ok(RestoredAs::Created))).count();
        assert_eq!(made, all.len() - 1, "all but the default backend: {restored:?}");
        let now = to.backup().await;
        let rest =
            |all: &[Spec]| all.iter().filter(|one| one["name"] != "default").cloned().collect::<Vec<_>>();
        assert_eq!(rest(&now), rest(&all));
        // Once more, and nothing happens.
        let before = to.changes_told().await;
        let again = to.restore(all.clone(), OnConflict::Fail).await;
        assert!(told(&again).iter().all(|one| *one == Some(RestoredAs::Unchanged)), "{again:?}");
        assert_eq!(to.changes_told().await, before);
    }
}

#[tokio::test]
async fn a_token_that_has_ended_stays_so() {
    let from = tangled().await;
    let mut all = from.backup().await;
    let token = all.iter_mut().find(|one| one["kind"] == "mcptoken").unwrap();
    for at in ["createdAt", "updatedAt"] {
        token.insert(at.into(), "2020-01-01T00:00:00Z".into());
    }
    let to = world().await;
    to.restore(all, OnConflict::Fail).await;
    let token = to.registry.get(&to.root, kinds::MCP_TOKENS, "t").await.unwrap();
    assert_eq!(token.spec["expiresAt"], "2020-01-01T01:00:00Z");
}

#[tokio::test]
async fn the_default_backend_changes_only_where_that_is_wanted() {
    let from = tangled().await;
    let change = body(json!({"isDefault": true}));
    from.registry.put(&from.root, kinds::SECRET_BACKENDS, "bao", change, None).await.unwrap();
    let all = from.backup().await;
    for (how, default) in
        [(OnConflict::Fail, "default"), (OnConflict::Skip, "default"), (OnConflict::Replace, "bao")]
    {
        let to = world().await;
        // No new server any more.
        to.llm("own", None).await;
        let restored = to.restore(all.clone(), how).await;
        let refused = restored.iter().filter(|one| one.outcome.is_err()).count();
        assert_eq!(refused, usize::from(how == OnConflict::Fail), "{how:?}: {restored:?}");
        assert_eq!(to.registry.default_backend().await.unwrap().name, default, "{how:?}");
    }
}

#[tokio::test]
async fn what_cannot_change_is_refused_and_skipped() {
    let (from, to) = (tangled().await, tangled().await);
    let change = |all: &mut Vec<Spec>, name: &str, field: &str, value: Value| {
        all.iter_mut().find(|one| one["name"] == name).unwrap().insert(field.into(), value);
    };
    let mut all = from.backup().await;
    // The same names and other ids: what is here keeps its own.
    let restored = to.restore(all.clone(), OnConflict::Skip).await;
    assert!(restored.iter().all(|one| one.outcome.is_ok()), "{restored:?}");
    change(&mut all, "l", "type", "openai".into());
    let restored = to.restore(all.clone(), OnConflict::Replace).await;
    let refused: Vec<&str> =
        restored.iter().filter_map(|one| Some(one.outcome.as_ref().err()?.message())).collect();
    assert_eq!(refused, ["type: cannot be changed"]);
    assert!(told(&restored).contains(&Some(RestoredAs::Held)));
    let restored = to.restore(all, OnConflict::Skip).await;
    assert!(restored.iter().all(|one| one.outcome.is_ok()), "{restored:?}");
}

#[tokio::test]
async fn hashes_that_are_none_are_refused() {
    let all = tangled().await.backup().await;
    let to = world().await;
    for (kind, field, value) in
        [("user", "passwordHash", "hunter2"), ("mcptoken", "tokenSha", "abc"), ("llm", "id", "c1")]
    {
        let mut bad = all.clone();
        bad.iter_mut().find(|one| one["kind"] == kind).unwrap().insert(field.into(), value.into());
        let refused = to.registry.restore(&to.root, bad, RestoreMode::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.message().contains(field) && !refused.message().contains("hunter2"), "{refused}");
    }
    let count = Kind::all().map(|kind| to.registry.snapshot().shelf(kind).after(None).count()).sum::<usize>();
    assert_eq!(count, 1, "the default backend alone");
}
