//! Groups, McpTokens, and acting for others.

use serde_json::{Value, json};

use super::{
    Created,
    tests::{PASSWORD, World, body, kind_of, world},
};
use crate::{
    ErrorKind, Principal, Result,
    rbac::{Action, Operation, Permission},
    registry::Origin,
    resource::{Kind, Object, kinds, view},
    secret::SecretValue,
    store::{SessionStore as _, Store as _, Txn, Write},
};

const RUN_LLMS: Permission = Permission::Kind(Action::Run, kinds::LLMS);

impl World {
    async fn group(&self, name: &str, members: Value, bindings: Value) -> Object {
        let group = self.create(kinds::GROUPS, json!({"name": name, "members": members})).await;
        let subjects = json!([{"kind": "Group", "name": name}]);
        let definition = json!({"name": name, "subjects": subjects, "roleBindings": bindings});
        self.create(kinds::RBAC, definition).await;
        group
    }

    async fn token(&self, who: &Principal, value: Value) -> Result<Created> {
        self.registry.create(who, kinds::MCP_TOKENS, body(value)).await
    }

    fn with(&self, token: &Created) -> Result<Principal> {
        self.registry.authenticate(token.token.as_ref().unwrap().expose(), None)
    }

    async fn again(&self, email: &str) -> Principal {
        self.log_in(email).await.unwrap()
    }

    fn may(&self, who: &Principal, permission: &Permission) -> bool {
        self.registry.can_i(who, permission).allowed
    }
}

#[tokio::test]
async fn a_group_gives_its_users_what_it_has_until_they_leave() {
    let world = world().await;
    world.user("a@b.example", json!([])).await;
    world.user("c@b.example", json!([])).await;
    let bindings = json!([{"role": "run", "resource": "llms"}]);
    world.group("devs", json!(["c@b.example", "a@b.example"]), bindings).await;
    let who = world.again("a@b.example").await;
    let answer = world.registry.can_i(&who, &RUN_LLMS);
    assert_eq!(answer.reason, "allowed by `devs`, through the group `devs`");
    let shown = view(&world.registry.get(&world.root, kinds::GROUPS, "devs").await.unwrap());
    assert_eq!(shown["members"], json!(["c@b.example", "a@b.example"]), "as they were given");
    world.patch(&world.root, kinds::GROUPS, "devs", json!({"members": ["c@b.example"]})).await.unwrap();
    assert!(!world.may(&world.again("a@b.example").await, &RUN_LLMS));
    // A user who is deleted leaves, and one of the same name is not let in.
    world.registry.delete(&world.root, kinds::USERS, "c@b.example", None).await.unwrap();
    world.create(kinds::USERS, json!({"name": "c@b.example", "password": PASSWORD})).await;
    assert!(!world.may(&world.again("c@b.example").await, &RUN_LLMS));
    let shown = view(&world.registry.get(&world.root, kinds::GROUPS, "devs").await.unwrap());
    assert_eq!(shown["members"], json!([]));
}

#[tokio::test]
async fn a_group_must_name_users_that_exist_and_each_once() {
    let world = world().await;
    world.user("a@b.example", json!([])).await;
    for (members, fault) in [
        (json!(["a@b.example", "x@b.example"]), "members[1]: no user named `x@b.example`"),
        (json!(["a@b.example", "a@b.example"]), "members[1]: is in the list already"),
        (json!([1]), "members[0]: must be a name"),
        (json!("a@b.example"), "members: must be a list of names"),
    ] {
        let group = body(json!({"name": "g", "members": members}));
        let refused = world.registry.create(&world.root, kinds::GROUPS, group).await.unwrap_err();
        assert_eq!(refused.message(), fault);
    }
}

#[tokio::test]
async fn a_group_editor_cannot_join_or_let_in_who_would_get_more_than_the_editor_has() {
    let world = world().await;
    let editor = world.user("e@b.example", json!([{"role": "edit", "resource": "groups"}])).await;
    world.user("f@b.example", json!([])).await;
    world.group("strong", json!([]), json!([{"role": "run", "resource": "llms"}])).await;
    world.create(kinds::GROUPS, json!({"name": "weak"})).await;
    for member in ["e@b.example", "f@b.example"] {
        let refused = world.patch(&editor, kinds::GROUPS, "strong", json!({"members": [member]})).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden);
        assert!(refused.message().contains("missing permission `run:llms`"), "{refused}");
        world.patch(&editor, kinds::GROUPS, "weak", json!({"members": [member]})).await.unwrap();
    }
    world.patch(&editor, kinds::GROUPS, "strong", json!({"description": "x"})).await.unwrap();
    // Nor can roles be given to a group by who does not have them.
    let bindings = json!([{"role": "edit", "resource": "rbac"}]);
    let definer = world.user("d@b.example", bindings).await;
    let definition = json!({"name": "more", "subjects": [{"kind": "Group", "name": "weak"}],
                            "roleBindings": [{"role": "run", "resource": "llms"}]});
    let refused = world.registry.create(&definer, kinds::RBAC, body(definition)).await;
    assert_eq!(kind_of(refused), ErrorKind::Forbidden);
}

#[tokio::test]
async fn a_token_has_its_own_bindings_and_never_more_than_its_owner() {
    let world = world().await;
    world.llm("a", None).await;
    let bindings = json!([{"role": "run", "resource": "llms"}, {"role": "edit", "resource": "mcptokens"}]);
    let owner = world.user("o@b.example", bindings).await;
    let empty = world.token(&owner, json!({"name": "empty"})).await.unwrap();
    assert!(!world.may(&world.with(&empty).unwrap(), &RUN_LLMS));
    let clone = world.token(&owner, json!({"name": "clone", "rbac": "clone"})).await.unwrap();
    assert!(clone.token.as_ref().unwrap().expose().starts_with("mcpctl_pat_"));
    let one = json!({"name": "one", "roleBindings": [{"role": "run", "resource": "llms", "name": "a"}]});
    let one = world.token(&owner, one).await.unwrap();
    let run_a = world.registry.permission(Action::Run, kinds::LLMS, "a");
    assert!(world.may(&world.with(&clone).unwrap(), &RUN_LLMS));
    assert!(world.may(&world.with(&one).unwrap(), &run_a));
    assert!(!world.may(&world.with(&one).unwrap(), &RUN_LLMS));
    let more = json!({"name": "more", "roleBindings": [{"role": "view", "resource": "secrets"}]});
    let refused = world.token(&owner, more).await.unwrap_err();
    assert!(refused.message().contains("missing permission `view:secrets`"), "{refused}");

    // Nothing that is shown or stored holds the value.
    let stored = world.store.find(kinds::MCP_TOKENS, "clone").await.unwrap().unwrap();
    assert!(!format!("{stored:?}").contains(clone.token.as_ref().unwrap().expose()));

    // The owner loses what the token had: the token does at once, by itself, and says why.
    let weaker = json!({"roleBindings": [{"role": "edit", "resource": "mcptokens"}]});
    world.patch(&world.root, kinds::RBAC, "o-b-example", weaker).await.unwrap();
    let answer = world.registry.can_i(&world.with(&clone).unwrap(), &RUN_LLMS);
    assert_eq!(
        answer.reason,
        "clone has the permission `run:llms`, but its owner o@b.example has it no more"
    );
    world.registry.delete(&world.root, kinds::USERS, "o@b.example", None).await.unwrap();
    assert_eq!(kind_of(world.with(&clone)), ErrorKind::Unauthenticated);
    assert!(world.store.list(kinds::MCP_TOKENS).await.unwrap().is_empty(), "they go with their owner");
}

#[tokio::test]
async fn a_token_cannot_widen_itself_outlive_itself_or_become_its_owner() {
    let world = world().await;
    let all = json!([{"role": "edit", "resource": "*"}, {"role": "run", "resource": "*"}]);
    let owner = world.user("o@b.example", all).await;
    let bindings = json!([{"role": "edit", "resource": "mcptokens"}, {"role": "edit", "resource": "users"}]);
    let token = json!({"name": "ci", "ttl": "1h", "roleBindings": bindings});
    let token = world.token(&owner, token).await.unwrap();
    let who = world.with(&token).unwrap();
    let wider = json!({"roleBindings": [{"role": "run", "resource": "llms"}]});
    let refused = world.patch(&who, kinds::MCP_TOKENS, "ci", wider).await.unwrap_err();
    assert!(refused.message().contains("missing permission `run:llms`"), "{refused}");
    for (value, kind) in [
        (json!({"name": "next", "rbac": "clone"}), ErrorKind::Forbidden),
        (json!({"name": "next"}), ErrorKind::Forbidden),
        (json!({"name": "next", "ttl": "2h"}), ErrorKind::Forbidden),
    ] {
        assert_eq!(kind_of(world.token(&who, value.clone()).await), kind, "{value}");
    }
    world.token(&who, json!({"name": "next", "ttl": "10m"})).await.unwrap();
    let longer = world.patch(&who, kinds::MCP_TOKENS, "ci", json!({"ttl": ""})).await;
    assert_eq!(kind_of(longer), ErrorKind::Forbidden);
    let mine = world.patch(&who, kinds::USERS, "o@b.example", json!({"password": "mine now!"})).await;
    assert_eq!(kind_of(mine), ErrorKind::Forbidden);
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let (old, new) = (SecretValue::new(PASSWORD), SecretValue::new("mine now!"));
    assert_eq!(kind_of(world.registry.change_password(&who, old, new, origin).await), ErrorKind::Forbidden);
}

#[tokio::test]
async fn a_token_ends_with_its_lifetime() {
    let world = world().await;
    let owner = world.user("o@b.example", json!([{"role": "edit", "resource": "mcptokens"}])).await;
    let token = world.token(&owner, json!({"name": "t", "ttl": "1h"})).await.unwrap();
    assert!(world.with(&token).is_ok());
    let shown = view(&token);
    let end: jiff::Timestamp = shown["expiresAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(end, token.created_at.checked_add(jiff::SignedDuration::from_hours(1)).unwrap());
    // As if it had been made two hours ago.
    let mut old = token.object.updated(token.object.spec.clone());
    old.created_at = old.created_at.checked_sub(jiff::SignedDuration::from_hours(2)).unwrap();
    world.store.commit(Txn { writes: vec![Write::Put(old)], ..Txn::default() }).await.unwrap();
    world.registry.refresh().await.unwrap();
    assert_eq!(kind_of(world.with(&token)), ErrorKind::Unauthenticated);
    for bad in ["soon", "-1h", "0s", "1 month", "99999999999999d"] {
        let refused = world.token(&owner, json!({"name": "u", "ttl": bad})).await.unwrap_err();
        assert!(refused.message().starts_with("ttl: must be a duration"), "{bad}: {refused}");
    }
}

#[tokio::test]
async fn tokens_show_when_they_were_last_used_and_what_comes_back_is_no_change() {
    let world = world().await;
    let owner = world.user("o@b.example", json!([{"role": "edit", "resource": "mcptokens"}])).await;
    let token = world.token(&owner, json!({"name": "t"})).await.unwrap();
    let get = async || view(&world.registry.get(&owner, kinds::MCP_TOKENS, "t").await.unwrap());
    assert_eq!(get().await["lastUsedAt"], "");
    world.with(&token).unwrap();
    let shown = get().await;
    let used: jiff::Timestamp = shown["lastUsedAt"].as_str().unwrap().parse().unwrap();
    assert!(used.duration_until(jiff::Timestamp::now()).as_secs() < 60);
    world.registry.flush_uses().await.unwrap();
    assert_eq!(world.store.last_uses().await.unwrap(), [(token.id.clone(), used)]);
    let put = world.registry.put(&owner, kinds::MCP_TOKENS, "t", shown, None).await.unwrap();
    assert_eq!(put.version, 1);
    let other = super::Registry::builder(world.store.clone()).open().await.unwrap();
    let shown = view(&other.get(&owner, kinds::MCP_TOKENS, "t").await.unwrap());
    assert_eq!(shown["lastUsedAt"], used.to_string(), "another server knows of it");
}

#[tokio::test]
async fn acting_for_another_needs_the_operation_and_leaves_both_names() {
    let world = world().await;
    world.llm("a", None).await;
    world.user("u@b.example", json!([{"role": "view", "resource": "llms"}])).await;
    let plain = world.user("p@b.example", json!([{"role": "edit", "resource": "*"}])).await;
    let refused = world.registry.impersonate(plain, "u@b.example", "GET /x").await;
    assert_eq!(kind_of(refused), ErrorKind::Forbidden);
    let bindings = json!([{"role": "run", "action": "impersonate"}, {"role": "view", "resource": "llms"}]);
    let helper = world.user("h@b.example", bindings).await;
    world.user("strong@b.example", json!([{"role": "run", "resource": "llms"}])).await;
    let stronger =
        world.registry.impersonate(helper.clone(), "strong@b.example", "GET /x").await.unwrap_err();
    assert!(stronger.message().contains("missing permission `run:llms`"), "{stronger}");
    let missing = world.registry.impersonate(helper.clone(), "no@b.example", "GET /x").await;
    assert_eq!(kind_of(missing), ErrorKind::NotFound);
    let acting = world.registry.impersonate(helper, "u@b.example", "GET /api/v1/llms").await.unwrap();
    assert!(world.may(&acting, &Permission::Kind(Action::View, kinds::LLMS)));
    assert!(!world.may(&acting, &Permission::Operation(Operation::Impersonate)), "it does not chain");
    let actor = acting.actor();
    assert_eq!(
        (actor.user.as_deref(), actor.impersonator.as_deref()),
        (Some("u@b.example"), Some("h@b.example"))
    );
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let (old, new) = (SecretValue::new(PASSWORD), SecretValue::new("another one"));
    let taken = world.registry.change_password(&acting, old, new, origin).await;
    assert_eq!(kind_of(taken), ErrorKind::Forbidden);
}

#[tokio::test]
async fn users_change_their_own_password_knowing_the_old_one() {
    let world = world().await;
    let who = world.user("u@b.example", json!([])).await;
    let origin = Origin { address: "127.0.0.1", request_id: None };
    let change = |current: &str, new: &str| {
        let (current, new) = (SecretValue::new(current), SecretValue::new(new));
        let (registry, who) = (world.registry.clone(), who.clone());
        async move { registry.change_password(&who, current, new, origin).await }
    };
    assert_eq!(kind_of(change("wrong", "another one").await), ErrorKind::Forbidden);
    assert_eq!(kind_of(change(PASSWORD, "short").await), ErrorKind::Invalid);
    let login = change(PASSWORD, "another one").await.unwrap();
    assert!(world.registry.authenticate(login.token.expose(), None).is_ok());
    assert_eq!(kind_of(world.log_in("u@b.example").await), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn who_can_names_users_groups_and_tokens_with_what_decides() {
    let world = world().await;
    let edit_tokens = json!([{"role": "edit", "resource": "mcptokens"}, {"role": "run", "resource": "llms"}]);
    let ann = world.user("ann@b.example", edit_tokens).await;
    world.user("bob@b.example", json!([])).await;
    world.group("devs", json!(["bob@b.example"]), json!([{"role": "run", "resource": "llms"}])).await;
    world.token(&ann, json!({"name": "ci", "rbac": "clone"})).await.unwrap();
    world.token(&ann, json!({"name": "none"})).await.unwrap();
    let able = world.registry.who_can(&world.root, &RUN_LLMS).await.unwrap();
    let lines: Vec<String> = able
        .iter()
        .map(|one| {
            format!("{} {} {} {}", one.kind, one.name, one.binding, one.group.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "User ann@b.example ann-b-example -",
            "User bob@b.example devs devs",
            "Group devs devs -",
            "McpToken ci mcptoken/ci -"
        ]
    );
    assert_eq!(kind_of(world.registry.who_can(&ann, &RUN_LLMS).await), ErrorKind::Forbidden);
}

#[tokio::test]
async fn the_role_admin_of_old_is_rewritten_when_a_registry_opens() {
    let world = world().await;
    let who = world.user("a@b.example", json!([{"role": "view", "resource": "llms"}])).await;
    let stored = world.store.find(kinds::RBAC, "a-b-example").await.unwrap().unwrap();
    let mut spec = stored.spec.clone();
    spec.insert("roleBindings".into(), json!([{"role": "admin", "resource": "*"}]));
    let writes = vec![Write::Put(stored.updated(spec))];
    world.store.commit(Txn { writes, ..Txn::default() }).await.unwrap();
    let reopened = super::Registry::builder(world.store.clone()).open().await.unwrap();
    let grants = reopened.snapshot().policy().grants(who.user_id().unwrap());
    for kind in Kind::all() {
        for action in Action::ALL {
            assert!(grants.decide(&Permission::Kind(action, kind)).allowed(), "{action:?} {kind}");
        }
    }
    for operation in Operation::ALL {
        assert!(grants.decide(&Permission::Operation(operation)).allowed(), "{operation:?}");
    }
    let shown = reopened.get(&reopened.root("test"), kinds::RBAC, "a-b-example").await.unwrap();
    assert_eq!(shown.version, 3, "rewritten once");
    super::Registry::builder(world.store.clone()).open().await.unwrap();
    assert_eq!(world.store.find(kinds::RBAC, "a-b-example").await.unwrap().unwrap().version, 3);
}

#[tokio::test]
async fn the_last_way_to_manage_access_stays_until_there_is_another() {
    let world = world().await;
    let everything = json!([{"role": "edit", "resource": "*"}, {"role": "run", "resource": "*"}]);
    let first = world.user("r@b.example", everything.clone()).await;
    let kept = |refused: Result<()>| {
        let refused = refused.unwrap_err();
        assert!(refused.is_conflict() && refused.message().contains("another user"), "{refused}");
    };
    kept(world.registry.delete(&first, kinds::RBAC, "r-b-example", None).await);
    kept(world.registry.delete(&first, kinds::USERS, "r@b.example", None).await);
    for change in [json!({"roleBindings": []}), json!({"subjects": []})] {
        kept(world.patch(&first, kinds::RBAC, "r-b-example", change).await.map(drop));
    }
    // A second one, by way of a group: now the first may go, and the second is the last.
    world.user("a@b.example", json!([])).await;
    world.group("admins", json!(["a@b.example"]), everything).await;
    world.registry.delete(&first, kinds::RBAC, "r-b-example", None).await.unwrap();
    let second = world.again("a@b.example").await;
    kept(world.registry.delete(&second, kinds::GROUPS, "admins", None).await);
    kept(world.patch(&second, kinds::GROUPS, "admins", json!({"members": []})).await.map(drop));
    kept(world.registry.delete(&second, kinds::USERS, "a@b.example", None).await);
}
