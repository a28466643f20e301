//! The evaluator, compared with one that was written a second time.
//!
//! A million random questions each time; `MCPCTL_QUESTIONS` asks another number, best with `--release`.

use std::sync::Arc;

use mcpctl_core::{
    rbac::{Action, Definition, Grants, Membership, Operation, Permission, Policy, Rights},
    resource::{Id, Kind, RbacSpec, RoleBinding},
};
use serde_json::{Value, json};
use tests::{
    chaos::Seeded,
    evaluator::{Need, bindings_allow, subject_may},
};

const ROLES: &[&str] = &["view", "create", "delete", "run", "edit", "expose"];
const NAMES: &[&str] = &["a", "ab", "abc", "b", "gpt-4", "gpt-4o"];
const SCOPES: &[&str] = &["a", "ab", "b", "gpt-4", "a*", "gpt-4*", "*", "c*"];
/// How many questions are put to one world.
const QUESTIONS_PER_WORLD: u64 = 200;

/// A resource: its kind, its name, its id, and the id of one that had its name before.
type Resource = (Kind, &'static str, Id, Id);

struct World {
    resources: Vec<Resource>,
    users: Vec<Id>,
    groups: Vec<Value>,
    /// Id, owner, own bindings.
    tokens: Vec<(Id, Id, Value)>,
    definitions: Vec<Value>,
}

fn pick<'a, T>(random: &mut Seeded, from: &'a [T]) -> &'a T {
    &from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

fn binding(random: &mut Seeded, resources: &[Resource]) -> Value {
    if random.below(6) == 0 {
        return json!({"role": "run", "action": pick(random, &Operation::ALL).as_str()});
    }
    let role = pick(random, ROLES);
    let (kind, name, id, former) = pick(random, resources);
    match random.below(8) {
        0 => json!({"role": role, "resource": "*"}),
        1 | 2 => json!({"role": role, "resource": kind.plural}),
        3 | 4 => {
            json!({"role": role, "resource": kind.plural, "name": pick(random, SCOPES).trim_end_matches('*').to_owned() + "*"})
        }
        5 => json!({"role": role, "resource": kind.plural, "name": name, "id": former}),
        _ => json!({"role": role, "resource": kind.plural, "name": name, "id": id}),
    }
}

fn bindings(random: &mut Seeded, resources: &[Resource]) -> Value {
    (0..random.below(9)).map(|_| binding(random, resources)).collect()
}

impl World {
    fn new(random: &mut Seeded) -> Self {
        let kinds: Vec<Kind> = Kind::all().collect();
        let resource =
            |random: &mut Seeded| (*pick(random, &kinds), *pick(random, NAMES), Id::random(), Id::random());
        let resources: Vec<Resource> = (0..8).map(|_| resource(random)).collect();
        let users: Vec<Id> = (0..5).map(|_| Id::random()).collect();
        let mut groups = Vec::new();
        for _ in 0..3 {
            let members: Vec<Value> =
                (0..random.below(4)).map(|_| json!({"id": pick(random, &users), "name": "x"})).collect();
            groups.push(json!({"id": Id::random(), "members": members}));
        }
        let tokens: Vec<(Id, Id, Value)> = (0..4)
            .map(|_| (Id::random(), pick(random, &users).clone(), bindings(random, &resources)))
            .collect();
        let mut definitions = Vec::new();
        for _ in 0..6 {
            let subject = |random: &mut Seeded| match random.below(3) {
                0 => json!({"kind": "User", "name": "x", "id": pick(random, &users)}),
                1 => json!({"kind": "Group", "name": "x", "id": pick(random, &groups)["id"]}),
                _ => json!({"kind": "McpToken", "name": "x", "id": pick(random, &tokens).0}),
            };
            let subjects: Vec<Value> = (0..1 + random.below(4)).map(|_| subject(random)).collect();
            let bindings = bindings(random, &resources);
            definitions.push(json!({"subjects": subjects, "roleBindings": bindings}));
        }
        Self { resources, users, groups, tokens, definitions }
    }

    fn policy(&self) -> Policy {
        let compile = |(index, definition): (usize, &Value)| {
            let spec: RbacSpec = serde_json::from_value(definition.clone()).unwrap();
            Arc::new(Definition::new(&format!("d{index}"), &spec))
        };
        let definitions: Vec<_> = self.definitions.iter().enumerate().map(compile).collect();
        let id = |value: &Value| Id::parse(value["id"].as_str().unwrap()).unwrap();
        let membership = |group: &Value| Membership {
            group: id(group),
            name: "g".into(),
            members: group["members"].as_array().unwrap().iter().map(id).collect(),
        };
        let groups: Vec<_> = self.groups.iter().map(membership).collect();
        Policy::new(&definitions, &groups)
    }
}

/// The same question for both.
fn question<'a>(random: &mut Seeded, world: &'a World) -> (Need<'a>, Option<Permission>) {
    let action = *pick(random, &Action::ALL);
    let (kind, name, id, _) = pick(random, &world.resources);
    match random.below(8) {
        0 => {
            let operation = *pick(random, &Operation::ALL);
            (Need::Operation(operation.as_str()), Some(Permission::Operation(operation)))
        }
        1 => (Need::Kind(action.as_str(), kind.def().plural), Some(Permission::Kind(action, *kind))),
        2 => (Need::List(kind.def().plural), None),
        _ => {
            let need = Need::One(action.as_str(), kind.def().plural, name, id.as_str());
            let (name, id) = ((*name).to_owned(), Some(id.clone()));
            (need, Some(Permission::Resource { action, kind: *kind, name, id }))
        }
    }
}

fn real(rights: &Rights, need: &Need<'_>, permission: Option<&Permission>) -> bool {
    match (need, permission) {
        (_, Some(permission)) => rights.decide(permission).allowed(),
        (Need::List(kind), _) => rights.may_list(Action::View, Kind::parse(kind).unwrap()),
        _ => unreachable!("every other need has a permission"),
    }
}

#[test]
fn two_evaluators_agree() {
    let questions = std::env::var("MCPCTL_QUESTIONS").map_or(1_000_000, |text| text.parse().unwrap());
    let mut random = Seeded::new(20_260_101);
    let (mut asked, mut allowed, started) = (0_u64, 0_u64, std::time::Instant::now());
    while asked < questions {
        let world = World::new(&mut random);
        let policy = world.policy();
        for _ in 0..QUESTIONS_PER_WORLD {
            let (need, permission) = question(&mut random, &world);
            let may = |subject: &Id| subject_may(&world.definitions, &world.groups, subject.as_str(), &need);
            let (rights, expected) = if random.below(2) == 0 {
                let user = pick(&mut random, &world.users);
                (Rights::from(policy.grants(user)), may(user))
            } else {
                let (id, owner, own) = pick(&mut random, &world.tokens);
                let parsed: Vec<RoleBinding> = serde_json::from_value(own.clone()).unwrap();
                let grants = Grants::from(Arc::new(Definition::of_bindings("own", &parsed)));
                let own_grants = Arc::new(grants.and(&policy.grants(id)));
                let expected = (bindings_allow(own, &need) || may(id)) && may(owner);
                (Rights::within(own_grants, policy.grants(owner)), expected)
            };
            let found = real(&rights, &need, permission.as_ref());
            assert_eq!(found, expected, "{need:?} in {:#?} with {:#?}", world.definitions, world.groups);
            asked += 1;
            allowed += u64::from(found);
        }
    }
    println!("{asked} questions in {:?}, of which {allowed} were allowed", started.elapsed());
    assert!(allowed * 10 > asked && allowed * 10 < asked * 9, "the questions tell too little: {allowed}");
}
