use serde_json::json;

use super::*;
use crate::resource::kinds;

fn policy(bindings: serde_json::Value, user: &Id) -> Policy {
    let spec: RbacSpec = serde_json::from_value(json!({
        "subjects": [{"kind": "User", "name": "a@b.example", "id": user}],
        "roleBindings": bindings,
    }))
    .unwrap();
    Policy::new([&Arc::new(Definition::new("team", &spec))], [])
}

fn on(action: Action, name: &str, id: Option<&Id>) -> Permission {
    Permission::Resource { action, kind: kinds::LLMS, name: name.into(), id: id.cloned() }
}

#[test]
fn roles_give_exactly_the_actions_of_the_table() {
    use Action::{Create, Delete, Edit, Expose, Run, View};
    let table: [(&str, &[Action]); 6] = [
        ("view", &[View]),
        ("create", &[Create]),
        ("delete", &[Delete]),
        ("run", &[Run]),
        ("edit", &[View, Create, Edit, Delete, Expose]),
        ("expose", &[View, Expose]),
    ];
    for (role, given) in table {
        let user = Id::random();
        let grants = policy(json!([{"role": role, "resource": "llms"}]), &user).grants(&user);
        for action in Action::ALL {
            let decision = grants.decide(&Permission::Kind(action, kinds::LLMS));
            assert_eq!(decision.allowed(), given.contains(&action), "{role} {action:?}");
            assert!(!grants.decide(&Permission::Kind(action, kinds::SECRETS)).allowed());
        }
    }
}

#[test]
fn nothing_is_allowed_by_default() {
    let user = Id::random();
    let policy = policy(json!([{"role": "edit", "resource": "*"}]), &user);
    let stranger = policy.grants(&Id::random());
    for action in Action::ALL {
        assert!(!stranger.decide(&Permission::Kind(action, kinds::LLMS)).allowed());
    }
    assert!(!policy.grants(&user).decide(&Permission::Operation(Operation::Backup)).allowed());
    assert!(!policy.grants(&user).decide(&Permission::Kind(Action::Run, kinds::LLMS)).allowed());
}

#[test]
fn a_name_is_pinned_to_the_id_it_was_bound_with() {
    let (user, old, new) = (Id::random(), Id::random(), Id::random());
    let policy = policy(json!([{"role": "run", "resource": "llms", "name": "gpt", "id": old}]), &user);
    let grants = policy.grants(&user);
    assert_eq!(grants.decide(&on(Action::Run, "gpt", Some(&old))).binding.as_deref(), Some("team"));
    assert!(!grants.decide(&on(Action::Run, "gpt", Some(&new))).allowed(), "re-created under the same name");
    assert!(grants.decide(&on(Action::Run, "gpt", None)).allowed(), "so that the caller gets a 404");
    assert!(!grants.decide(&on(Action::Run, "gpt-4o", None)).allowed());
    assert!(!grants.decide(&Permission::Kind(Action::Run, kinds::LLMS)).allowed());
    assert!(grants.touch(Action::Run, kinds::LLMS));
    assert!(!grants.touch(Action::View, kinds::LLMS));
}

#[test]
fn a_trailing_star_matches_any_ending() {
    let user = Id::random();
    let grants = policy(json!([{"role": "view", "resource": "llms", "name": "team-*"}]), &user).grants(&user);
    assert!(grants.decide(&on(Action::View, "team-a", Some(&Id::random()))).allowed());
    assert!(!grants.decide(&on(Action::View, "teams", Some(&Id::random()))).allowed());
}

#[test]
fn operations_are_granted_one_by_one() {
    let user = Id::random();
    let grants = policy(json!([{"role": "run", "action": "audit"}]), &user).grants(&user);
    for operation in Operation::ALL {
        let decision = grants.decide(&Permission::Operation(operation));
        assert_eq!(decision.allowed(), operation == Operation::Audit);
    }
}

#[test]
fn what_a_group_has_counts_for_its_users_and_says_so() {
    let (user, other, group) = (Id::random(), Id::random(), Id::random());
    let spec: RbacSpec = serde_json::from_value(json!({
        "subjects": [{"kind": "Group", "name": "devs", "id": group}],
        "roleBindings": [{"role": "view", "resource": "llms"}],
    }))
    .unwrap();
    let membership = Membership { group: group.clone(), name: "devs".into(), members: vec![user.clone()] };
    let policy = Policy::new([&Arc::new(Definition::new("team", &spec))], [&membership]);
    let decision = policy.grants(&user).decide(&Permission::Kind(Action::View, kinds::LLMS));
    assert_eq!((decision.binding.as_deref(), decision.group.as_deref()), (Some("team"), Some("devs")));
    assert!(policy.grants(&other).is_empty());
    assert!(policy.grants(&group).decide(&Permission::Kind(Action::View, kinds::LLMS)).allowed());
}

#[test]
fn a_change_needs_what_it_adds_whole_and_not_what_was_there() {
    let given = |bindings: serde_json::Value| {
        let bindings: Vec<RoleBinding> = serde_json::from_value(bindings).unwrap();
        Grants::from(Arc::new(Definition::of_bindings("x", &bindings)))
    };
    let view = given(json!([{"role": "view", "resource": "llms"}]));
    let both = given(json!([{"role": "view", "resource": "llms"}, {"role": "edit", "resource": "llms"}]));
    assert!(Grants::default().first_not_covered(&both.beyond(&both)).is_none(), "nothing new needs nothing");
    let news = both.beyond(&view);
    assert_eq!(view.first_not_covered(&news).as_deref(), Some("create:llms"));
    assert_eq!(Grants::default().first_not_covered(&news).as_deref(), Some("view:llms"));
}

#[test]
fn a_token_has_what_both_it_and_its_owner_have() {
    use crate::rbac::Rights;
    let given = |role: &str, resource: &str| {
        let bindings: Vec<RoleBinding> =
            serde_json::from_value(json!([{"role": role, "resource": resource}])).unwrap();
        Arc::new(Grants::from(Arc::new(Definition::of_bindings("x", &bindings))))
    };
    let view = |kind| Permission::Kind(Action::View, kind);
    let rights = Rights::within(given("view", "*"), given("view", "llms"));
    assert!(rights.decide(&view(kinds::LLMS)).allowed());
    assert!(!rights.decide(&view(kinds::USERS)).allowed());
    assert!(rights.is_beyond_limit(&view(kinds::USERS)));
    assert!(rights.may_list(Action::View, kinds::LLMS) && !rights.may_list(Action::View, kinds::USERS));
    assert_eq!(rights.first_not_covered(&given("view", "users")).as_deref(), Some("view:users"));
    let none = Rights::within(Arc::default(), given("edit", "*"));
    assert!(!none.decide(&view(kinds::LLMS)).allowed());
}
