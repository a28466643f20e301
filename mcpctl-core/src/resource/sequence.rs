//! The order in which resources that refer to each other can be made.

use std::collections::HashMap;

use serde_json::Value;

use super::{Behaviour, FieldType, Kind, Spec, kinds::SECRETS, openbao};

/// The places of `items`, each a kind, a name and the fields, in an order in which they can be applied: kind by kind,
/// as [`KindDef::apply_order`](super::KindDef::apply_order) has them, and as given within a kind, but what another one
/// of them names comes before it. Some kinds name each other both ways: a Secret its backend, and a backend the Secret
/// with its credential. Where resources name each other in a circle, one of them comes before what it names.
pub fn apply_sequence(items: &[(Kind, &str, &Spec)]) -> Vec<usize> {
    let mut by_kind: Vec<usize> = (0..items.len()).collect();
    by_kind.sort_by_key(|place| items.get(*place).map(|(kind, ..)| kind.apply_order));
    let places = items.iter().enumerate().map(|(place, (kind, name, _))| ((*kind, *name), place)).collect();
    let mut sequence = Sequence { items, places, met: vec![false; items.len()], order: Vec::new() };
    by_kind.into_iter().for_each(|place| sequence.add(place));
    sequence.order
}

struct Sequence<'a> {
    items: &'a [(Kind, &'a str, &'a Spec)],
    places: HashMap<(Kind, &'a str), usize>,
    /// Those that are in the order, or wait for what they need: a circle ends here.
    met: Vec<bool>,
    order: Vec<usize>,
}

impl Sequence<'_> {
    fn add(&mut self, place: usize) {
        // Its own stack: how long a chain is, the caller decides.
        let mut waiting = Vec::new();
        self.meet(place, &mut waiting);
        while let Some((place, needed)) = waiting.last_mut() {
            match needed.pop() {
                Some(first) => self.meet(first, &mut waiting),
                None => {
                    self.order.push(*place);
                    waiting.pop();
                }
            }
        }
    }

    /// Lets one wait for what it needs, unless it was met before.
    fn meet(&mut self, place: usize, waiting: &mut Vec<(usize, Vec<usize>)>) {
        let (Some(met), Some((kind, _, spec))) = (self.met.get_mut(place), self.items.get(place)) else {
            return;
        };
        if !std::mem::replace(met, true) {
            let needed = named(*kind, spec).into_iter().rev();
            waiting.push((place, needed.filter_map(|one| self.places.get(&one).copied()).collect()));
        }
    }
}

/// The resources that the fields of one name.
fn named(kind: Kind, spec: &Spec) -> Vec<(Kind, &str)> {
    let mut names = Vec::new();
    for field in kind.def().fields {
        let value = spec.get(field.name);
        let items = value.and_then(Value::as_array).into_iter().flatten();
        match &field.ty {
            FieldType::Reference { kind, .. } => {
                let name = value.and_then(|value| value.as_str().or_else(|| value.get("name")?.as_str()));
                names.extend(Kind::parse(kind).zip(name));
            }
            FieldType::References { kind } => {
                names.extend(items.filter_map(|item| Some((Kind::parse(kind)?, item.as_str()?))));
            }
            // Subjects have a kind and a name, and bindings what they are for.
            FieldType::List(_) => names.extend(items.filter_map(|item| {
                let text = |name: &str| item.get(name).and_then(Value::as_str);
                Some((Kind::parse(text("kind").or_else(|| text("resource"))?)?, text("name")?))
            })),
            _ => {}
        }
    }
    if kind.def().behaviour == Behaviour::SecretBackend {
        let at = openbao::references(spec).filter_map(|(_, at)| at.get("name")?.as_str());
        names.extend(at.map(|name| (SECRETS, name)));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::kinds::{LLMS, MCP_TOKENS, RBAC, SECRET_BACKENDS};

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays_in_order() {
        let specs = [
            (LLMS, json!({"name": "gpt"})),
            (SECRETS, json!({"name": "inside", "backend": "bao"})),
            (
                SECRET_BACKENDS,
                json!({"name": "bao", "type": "openbao", "config": {"tokenRef": {"name": "token", "key": "k"}}}),
            ),
            (SECRETS, json!({"name": "token", "backend": "default"})),
            (SECRET_BACKENDS, json!({"name": "default", "type": "plaintext"})),
        ];
        let specs: Vec<(Kind, Spec)> =
            specs.into_iter().map(|(kind, spec)| (kind, spec.as_object().cloned().unwrap())).collect();
        let items: Vec<_> =
            specs.iter().map(|(kind, spec)| (*kind, spec["name"].as_str().unwrap(), spec)).collect();
        assert_eq!(apply_sequence(&items), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn a_definition_comes_after_the_tokens_it_is_for() {
        let rbac = json!({"subjects": [{"kind": "McpToken", "name": "ci"}], "roleBindings": []});
        let (rbac, token) = (rbac.as_object().unwrap(), Spec::new());
        assert_eq!(apply_sequence(&[(RBAC, "r", rbac), (MCP_TOKENS, "ci", &token)]), [1, 0]);
    }

    #[test]
    fn a_circle_comes_to_an_end() {
        let backend =
            json!({"name": "bao", "type": "openbao", "config": {"tokenRef": {"name": "token", "key": "k"}}});
        let (backend, secret) = (backend, json!({"name": "token", "backend": "bao"}));
        let items = [
            (SECRETS, "token", secret.as_object().unwrap()),
            (SECRET_BACKENDS, "bao", backend.as_object().unwrap()),
        ];
        assert_eq!(apply_sequence(&items), [0, 1]);
    }
}
