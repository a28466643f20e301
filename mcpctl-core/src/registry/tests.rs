//! The registry over a store in memory.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    ErrorKind, Principal, Result,
    rbac::{Action, Permission},
    resource::{Object, Spec, kinds, view},
    secret::{MasterKey, SecretValue},
    store::{EventQuery, MemoryStore, Storage, Store},
};

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) registry: Registry,
    pub(super) root: Principal,
}

pub(super) async fn world() -> World {
    let store = Arc::new(MemoryStore::new());
    let registry = Registry::builder(store.clone()).open().await.unwrap();
    let root = registry.root("test");
    World { store, registry, root }
}

pub(super) fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap()
}

impl World {
    pub(super) async fn create(&self, kind: crate::resource::Kind, value: Value) -> Object {
        self.registry.create(&self.root, kind, body(value)).await.unwrap().object
    }

    async fn secret(&self, name: &str, value: &str) -> Object {
        self.create(kinds::SECRETS, json!({"name": name, "data": {"token": value}})).await
    }

    pub(super) async fn llm(&self, name: &str, secret: Option<&str>) -> Object {
        let reference = secret.map(|name| json!({"name": name, "key": "token"}));
        let llm = json!({"name": name, "type": "vllm", "model": "m", "url": "http://127.0.0.1:1", "apiKeyRef": reference});
        self.create(kinds::LLMS, llm).await
    }

    /// A user with these role bindings, logged in.
    pub(super) async fn user(&self, email: &str, bindings: Value) -> Principal {
        self.create(kinds::USERS, json!({"name": email, "password": PASSWORD})).await;
        if bindings.as_array().is_some_and(|bindings| !bindings.is_empty()) {
            let name = email.replace(['@', '.'], "-");
            let subjects = json!([{"kind": "User", "name": email}]);
            self.create(kinds::RBAC, json!({"name": name, "subjects": subjects, "roleBindings": bindings}))
                .await;
        }
        self.log_in(email).await.unwrap()
    }

    pub(super) async fn log_in(&self, email: &str) -> Result<Principal> {
        let origin = Origin { address: "127.0.0.1", request_id: None };
        let login = self.registry.login(email, SecretValue::new(PASSWORD), origin).await?;
        self.registry.authenticate(login.token.expose(), None)
    }

    pub(super) async fn patch(
        &self,
        who: &Principal,
        kind: crate::resource::Kind,
        name: &str,
        value: Value,
    ) -> Result<Object> {
        self.registry.patch(who, kind, name, body(value), None).await
    }

    async fn key_of(&self, llm: &str) -> Result<Option<String>> {
        let entry = self.registry.snapshot().llm(llm).cloned().unwrap();
        Ok(self.registry.api_key(&entry).await?.map(|key| key.expose().to_owned()))
    }
}

pub(super) fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

#[tokio::test]
async fn a_new_store_has_one_default_backend() {
    let world = world().await;
    let backends = world.store.list(kinds::SECRET_BACKENDS).await.unwrap();
    assert_eq!(backends.len(), 1);
    assert_eq!(backends[0].name, "default");
    let gone = world.registry.delete(&world.root, kinds::SECRET_BACKENDS, "default", None).await;
    assert_eq!(kind_of(gone), ErrorKind::Conflict);
    world
        .create(kinds::SECRET_BACKENDS, json!({"name": "second", "type": "plaintext", "isDefault": true}))
        .await;
    let defaults = world.store.list(kinds::SECRET_BACKENDS).await.unwrap();
    let defaults: Vec<_> =
        defaults.iter().filter(|one| one.spec["isDefault"] == true).map(|one| &one.name).collect();
    assert_eq!(defaults, ["second"]);
    world.registry.delete(&world.root, kinds::SECRET_BACKENDS, "default", None).await.unwrap();
}

#[tokio::test]
async fn a_backend_that_holds_secrets_stays() {
    let world = world().await;
    world.create(kinds::SECRET_BACKENDS, json!({"name": "other", "type": "plaintext"})).await;
    world.create(kinds::SECRETS, json!({"name": "s", "backend": "other", "data": {"k": "v"}})).await;
    let refused =
        world.registry.delete(&world.root, kinds::SECRET_BACKENDS, "other", None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("in use by 1 secret, such as `s`"), "{refused}");
    world.registry.delete(&world.root, kinds::SECRETS, "s", None).await.unwrap();
    world.registry.delete(&world.root, kinds::SECRET_BACKENDS, "other", None).await.unwrap();
}

#[tokio::test]
async fn deleting_a_secret_unlinks_it_and_touches_nothing_else() {
    let world = world().await;
    world.secret("k", "v").await;
    world.secret("other", "w").await;
    let linked = world.llm("a", Some("k")).await;
    world.llm("b", Some("other")).await;
    assert_eq!(view(&linked)["apiKeyRef"], json!({"name": "k", "key": "token"}), "no ids on the wire");
    world.registry.delete(&world.root, kinds::SECRETS, "k", None).await.unwrap();
    let a = world.registry.get(&world.root, kinds::LLMS, "a").await.unwrap();
    assert_eq!((view(&a)["apiKeyRef"].clone(), a.version), (Value::Null, 2));
    let b = world.registry.get(&world.root, kinds::LLMS, "b").await.unwrap();
    assert_eq!((view(&b)["apiKeyRef"]["name"].clone(), b.version), (json!("other"), 1));
    // Re-created under the same name, it is not the one that was linked.
    world.secret("k", "new").await;
    assert_eq!(world.key_of("a").await.unwrap(), None);
    world.registry.delete(&world.root, kinds::LLMS, "b", None).await.unwrap();
    world.registry.get(&world.root, kinds::SECRETS, "other").await.unwrap();
}

#[tokio::test]
async fn references_must_exist() {
    let world = world().await;
    let llm = json!({"name": "a", "type": "openai", "model": "m", "apiKeyRef": {"name": "nope", "key": "k"}});
    let refused = world.registry.create(&world.root, kinds::LLMS, body(llm)).await.unwrap_err();
    assert_eq!(refused.message(), "apiKeyRef.name: no secret named `nope`");
    let rbac = json!({"name": "r", "subjects": [{"kind": "User", "name": "a@b.example"}],
                      "roleBindings": [{"role": "view", "resource": "llm", "name": "nope"}]});
    let refused = world.registry.create(&world.root, kinds::RBAC, body(rbac)).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "subjects[0].name: no user named `a@b.example`; roleBindings[0].name: no llm named `nope`"
    );
}

#[tokio::test]
async fn values_change_by_put_and_merge_by_patch_and_count_at_once() {
    let world = world().await;
    world.create(kinds::SECRETS, json!({"name": "k", "data": {"token": "one", "b": "2"}})).await;
    world.llm("a", Some("k")).await;
    assert_eq!(world.key_of("a").await.unwrap().as_deref(), Some("one"));
    let same =
        world.patch(&world.root, kinds::SECRETS, "k", json!({"data": {"token": "one"}})).await.unwrap();
    assert_eq!(same.version, 1, "nothing changed");
    let merged = world
        .patch(&world.root, kinds::SECRETS, "k", json!({"data": {"token": "two", "b": null, "c": "3"}}))
        .await;
    assert_eq!(view(&merged.unwrap())["keys"], json!(["c", "token"]));
    assert_eq!(world.key_of("a").await.unwrap().as_deref(), Some("two"));
    let described = world.patch(&world.root, kinds::SECRETS, "k", json!({"description": "d"})).await.unwrap();
    assert_eq!(described.version, 3);
    assert_eq!(world.key_of("a").await.unwrap().as_deref(), Some("two"), "values outlive other changes");
    let put =
        world.registry.put(&world.root, kinds::SECRETS, "k", body(json!({"data": {"x": "y"}})), None).await;
    assert_eq!(view(&put.unwrap())["keys"], json!(["x"]));
    let failed = world.key_of("a").await.unwrap_err();
    assert_eq!(failed.message(), "Failed to resolve API key: secret `k` has no key `token`");
}

#[tokio::test]
async fn values_are_nowhere_in_clear() {
    let world = world().await;
    let secret = world.secret("k", "sk-canary").await;
    assert!(!format!("{:?}{:?}", view(&secret), secret.spec).contains("sk-canary"));
    let sealed = crate::store::ValueStore::value(&*world.store, secret.id.as_str()).await.unwrap().unwrap();
    assert!(!sealed.contains("sk-canary"));
    let user = world.create(kinds::USERS, json!({"name": "a@b.example", "password": PASSWORD})).await;
    assert!(!format!("{:?}", view(&user)).contains("argon2"));
}

#[tokio::test]
async fn the_wrong_master_key_seals() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    let key = MasterKey::generate();
    let open = |key: MasterKey| Registry::builder(store.clone()).master_key(key).open();
    let registry = open(key.clone()).await.unwrap();
    assert!(!registry.is_sealed());
    assert!(open(MasterKey::generate()).await.unwrap().is_sealed());
    assert!(!open(key).await.unwrap().is_sealed());
}

#[tokio::test]
async fn stale_versions_conflict_and_change_nothing() {
    let world = world().await;
    world.llm("a", None).await;
    let put = |model: &str, version: i64| {
        world.registry.put(&world.root, kinds::LLMS, "a", body(json!({"model": model})), Some(version))
    };
    assert_eq!(put("two", 1).await.unwrap().version, 2);
    assert_eq!(kind_of(put("three", 1).await), ErrorKind::Conflict);
    let in_body = body(json!({"model": "three", "version": 1}));
    assert_eq!(
        kind_of(world.registry.put(&world.root, kinds::LLMS, "a", in_body, None).await),
        ErrorKind::Conflict
    );
    assert_eq!(
        kind_of(world.registry.delete(&world.root, kinds::LLMS, "a", Some(1)).await),
        ErrorKind::Conflict
    );
    let stored = world.registry.get(&world.root, kinds::LLMS, "a").await.unwrap();
    assert_eq!((stored.version, &stored.spec["model"]), (2, &json!("two")));
}

#[tokio::test]
async fn two_hundred_creates_of_one_name_make_one() {
    let world = Arc::new(world().await);
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let llm = json!({"name": "a", "type": "openai", "model": "m"});
                world.registry.create(&world.root, kinds::LLMS, body(llm)).await
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error.message(), "llm `a` already exists"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_change_is_made_and_shown_also_when_whoever_asked_has_gone() {
    let world = world().await;
    let llm = body(json!({"name": "a", "type": "openai", "model": "m"}));
    let shown = async |there: bool| {
        let as_it_should = async {
            while world.registry.snapshot().llm("a").is_some() != there {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), as_it_should).await.expect("it is not shown");
    };
    let mut asked = Box::pin(world.registry.create(&world.root, kinds::LLMS, llm));
    begin_only(asked.as_mut()).await;
    drop(asked);
    shown(true).await;
    let mut asked = Box::pin(world.registry.delete(&world.root, kinds::LLMS, "a", None));
    begin_only(asked.as_mut()).await;
    drop(asked);
    shown(false).await;
}

/// Lets work go as far as it can without waiting, and no further.
async fn begin_only(mut work: Pin<&mut impl Future>) {
    poll_fn(|context| {
        assert!(work.as_mut().poll(context).is_pending(), "it never waits");
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn whoever_decides_where_a_key_goes_must_be_allowed_to_read_it() {
    let world = world().await;
    world.secret("k", "v").await;
    world.llm("a", Some("k")).await;
    let editor = world.user("e@b.example", json!([{"role": "edit", "resource": "llms"}])).await;
    for change in [
        json!({"url": "http://127.0.0.1:2"}),
        json!({"apiKeyRef": {"name": "k", "key": "other"}}),
        json!({"extraConfig": {"headers": {"x": "y"}}}),
    ] {
        let refused = world.patch(&editor, kinds::LLMS, "a", change.clone()).await.unwrap_err();
        assert!(refused.message().starts_with("missing permission `edit:secrets:k`"), "{change}: {refused}");
    }
    let stolen = json!({"name": "b", "type": "vllm", "model": "m", "url": "http://127.0.0.1:2",
                        "apiKeyRef": {"name": "k", "key": "token"}});
    assert_eq!(
        kind_of(world.registry.create(&editor, kinds::LLMS, body(stolen)).await),
        ErrorKind::Forbidden
    );
    world.patch(&editor, kinds::LLMS, "a", json!({"model": "other"})).await.unwrap();
    world.patch(&editor, kinds::LLMS, "a", json!({"apiKeyRef": null})).await.unwrap();
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let world = world().await;
    let bindings = json!([{"role": "edit", "resource": "rbac"}, {"role": "edit", "resource": "users"},
                          {"role": "view", "resource": "llms"}]);
    let delegate = world.user("d@b.example", bindings).await;
    let define = |name: &str, binding: Value| {
        let subjects = json!([{"kind": "User", "name": "d@b.example"}]);
        let definition = json!({"name": name, "subjects": subjects, "roleBindings": [binding]});
        world.registry.create(&delegate, kinds::RBAC, body(definition))
    };
    for binding in [
        json!({"role": "run", "resource": "llms"}),
        json!({"role": "edit", "resource": "*"}),
        json!({"role": "view", "resource": "*"}),
        json!({"role": "run", "action": "backup"}),
    ] {
        assert_eq!(kind_of(define("more", binding.clone()).await), ErrorKind::Forbidden, "{binding}");
    }
    define("less", json!({"role": "view", "resource": "llms"})).await.unwrap();
    // Nor by becoming somebody who holds more.
    world.user("admin@b.example", json!([{"role": "edit", "resource": "*"}])).await;
    let stolen =
        world.patch(&delegate, kinds::USERS, "admin@b.example", json!({"password": "mine now!"})).await;
    assert_eq!(kind_of(stolen), ErrorKind::Forbidden);
    world.patch(&delegate, kinds::USERS, "d@b.example", json!({"password": "my own, new"})).await.unwrap();
}

#[tokio::test]
async fn a_deleted_and_recreated_user_or_llm_inherits_nothing() {
    let world = world().await;
    world.llm("a", None).await;
    let first = world.user("u@b.example", json!([{"role": "run", "resource": "llms", "name": "a"}])).await;
    let run = |who: &Principal| {
        let permission = world.registry.permission(Action::Run, kinds::LLMS, "a");
        world.registry.can_i(who, &permission).allowed
    };
    assert!(run(&first));
    world.registry.delete(&world.root, kinds::LLMS, "a", None).await.unwrap();
    world.llm("a", None).await;
    assert!(!run(&first), "not even by a principal that was authenticated before");
    world.registry.delete(&world.root, kinds::USERS, "u@b.example", None).await.unwrap();
    world.create(kinds::USERS, json!({"name": "u@b.example", "password": PASSWORD})).await;
    let again = world.log_in("u@b.example").await.unwrap();
    assert!(!run(&again));
    let definition = world.registry.get(&world.root, kinds::RBAC, "u-b-example").await.unwrap();
    assert_eq!((&definition.spec["subjects"], &definition.spec["roleBindings"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn lists_hold_what_may_be_viewed() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        world.llm(name, None).await;
    }
    let scoped = world.user("s@b.example", json!([{"role": "view", "resource": "llms", "name": "b"}])).await;
    let names = |page: Page<Arc<Object>>| page.items.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let all = ListQuery::default();
    assert_eq!(names(world.registry.list(&scoped, kinds::LLMS, &all).await.unwrap()), ["b"]);
    assert_eq!(kind_of(world.registry.list(&scoped, kinds::SECRETS, &all).await), ErrorKind::Forbidden);
    for name in ["a", "nope", "b2", "B", ""] {
        assert_eq!(
            kind_of(world.registry.get(&scoped, kinds::LLMS, name).await),
            ErrorKind::Forbidden,
            "{name}"
        );
    }
    let mut query = ListQuery { limit: Some(2), ..ListQuery::default() };
    let page = world.registry.list(&world.root, kinds::LLMS, &query).await.unwrap();
    query.after = page.next.clone();
    assert_eq!(names(page), ["a", "b"]);
    let page = world.registry.list(&world.root, kinds::LLMS, &query).await.unwrap();
    assert_eq!((page.next.clone(), names(page)), (None, vec!["c".to_owned()]));
    query.fields = vec![("teir".into(), "fast".into())];
    assert_eq!(kind_of(world.registry.list(&world.root, kinds::LLMS, &query).await), ErrorKind::Invalid);
}

#[tokio::test]
async fn sessions_end_by_logout_deletion_and_a_new_password() {
    let world = world().await;
    let origin = Origin { address: "127.0.0.1", request_id: None };
    world.user("u@b.example", json!([])).await;
    let log_in = || world.registry.login("U@B.example ", SecretValue::new(PASSWORD), origin);
    let valid = |token: &SecretValue| world.registry.authenticate(token.expose(), None).is_ok();
    let (first, second) = (log_in().await.unwrap().token, log_in().await.unwrap().token);
    world.registry.logout(&world.registry.authenticate(first.expose(), None).unwrap()).await.unwrap();
    assert!(!valid(&first) && valid(&second));
    world.patch(&world.root, kinds::USERS, "u@b.example", json!({"password": PASSWORD})).await.unwrap();
    assert!(valid(&second), "the same password is no change");
    world.patch(&world.root, kinds::USERS, "u@b.example", json!({"password": "another one"})).await.unwrap();
    assert!(!valid(&second));
    let wrong = log_in().await.map(drop).unwrap_err();
    let unknown =
        world.registry.login("nobody@b.example", SecretValue::new(PASSWORD), origin).await.map(drop);
    assert_eq!(wrong.message(), unknown.unwrap_err().message());
}

#[tokio::test]
async fn the_first_user_may_do_everything_and_is_made_once() {
    let world = world().await;
    let first = world.registry.bootstrap("Admin@localhost", Some(SecretValue::new(PASSWORD))).await.unwrap();
    assert!(first.unwrap().generated.is_none());
    assert!(world.registry.bootstrap("other@localhost", None).await.unwrap().is_none());
    let admin = world.log_in("admin@localhost").await.unwrap();
    for kind in crate::resource::Kind::all() {
        for action in Action::ALL {
            assert!(
                world.registry.can_i(&admin, &Permission::Kind(action, kind)).allowed,
                "{action:?} {kind}"
            );
        }
    }
    for operation in crate::rbac::Operation::ALL {
        assert!(world.registry.can_i(&admin, &Permission::Operation(operation)).allowed);
    }
}

#[tokio::test]
async fn every_change_and_denial_leaves_an_event_without_a_value() {
    let world = world().await;
    world.secret("k", "sk-canary").await;
    let weak = world.user("w@b.example", json!([])).await;
    world.registry.get(&weak, kinds::SECRETS, "k").await.unwrap_err();
    world.registry.reveal(&world.root, "k").await.unwrap();
    world.registry.delete(&world.root, kinds::SECRETS, "k", None).await.unwrap();
    world.registry.audit().flush(std::time::Duration::from_secs(5)).await.unwrap();
    let query = EventQuery { limit: 100, ..EventQuery::default() };
    let events = world.registry.audit_events(&world.root, query).await.unwrap().items;
    let kinds: Vec<_> = events.iter().map(crate::resource::AuditEvent::kind).collect();
    for kind in ["resource_change", "login", "denied", "secret_reveal"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    assert!(!format!("{events:?}").contains("sk-canary"));
    assert_eq!(
        kind_of(world.registry.audit_events(&weak, EventQuery::default()).await),
        ErrorKind::Forbidden
    );
}

#[tokio::test]
async fn a_second_registry_on_the_store_sees_changes_within_a_second() {
    let world = world().await;
    let other = Registry::builder(world.store.clone()).open().await.unwrap();
    world.llm("a", None).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while other.snapshot().llm("a").is_none() {
        assert!(std::time::Instant::now() < deadline, "not seen within a second");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
