//! The order in which resources that refer to each other can be made.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    Behaviour, Kind, Spec,
    kinds::{SECRET_BACKENDS, SECRETS},
    openbao,
};

/// The places of `items`, each a kind and the fields with its `name`, in an order in which they can be applied: kind
/// by kind, as [`KindDef::apply_order`](super::KindDef::apply_order) has them, and as given within a kind, but what
/// another one of them needs comes before it. Secret backends and Secrets need each other both ways: a Secret its
/// backend, and a backend the Secret with its credential.
pub fn apply_sequence(items: &[(Kind, &Spec)]) -> Vec<usize> {
    let mut by_kind: Vec<usize> = (0..items.len()).collect();
    by_kind.sort_by_key(|place| items.get(*place).map(|(kind, _)| kind.apply_order));
    let name = |spec: &Spec| spec.get("name").and_then(Value::as_str).map(str::to_owned);
    let places = items.iter().enumerate();
    let places = places.filter_map(|(place, (kind, spec))| Some(((*kind, name(spec)?), place))).collect();
    let mut sequence = Sequence { items, places, met: vec![false; items.len()], order: Vec::new() };
    by_kind.into_iter().for_each(|place| sequence.add(place));
    sequence.order
}

struct Sequence<'a> {
    items: &'a [(Kind, &'a Spec)],
    places: HashMap<(Kind, String), usize>,
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
        let (Some(met), Some((kind, spec))) = (self.met.get_mut(place), self.items.get(place)) else {
            return;
        };
        if !std::mem::replace(met, true) {
            let needed = needs(*kind, spec).into_iter();
            waiting.push((place, needed.filter_map(|one| self.places.get(&one).copied()).collect()));
        }
    }
}

/// What must be there before this, and does not come before it by its kind.
fn needs(kind: Kind, spec: &Spec) -> Vec<(Kind, String)> {
    let named = |kind: Kind, name: Option<&Value>| Some((kind, name?.as_str()?.to_owned()));
    match kind.def().behaviour {
        Behaviour::Secret => named(SECRET_BACKENDS, spec.get("backend")).into_iter().collect(),
        Behaviour::SecretBackend => {
            openbao::references(spec).filter_map(|(_, at)| named(SECRETS, at.get("name"))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::kinds::LLMS;

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
        let items: Vec<(Kind, &Spec)> = specs.iter().map(|(kind, spec)| (*kind, spec)).collect();
        assert_eq!(apply_sequence(&items), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn a_circle_comes_to_an_end() {
        let backend =
            json!({"name": "bao", "type": "openbao", "config": {"tokenRef": {"name": "token", "key": "k"}}});
        let (backend, secret) = (backend, json!({"name": "token", "backend": "bao"}));
        let items = [(SECRETS, secret.as_object().unwrap()), (SECRET_BACKENDS, backend.as_object().unwrap())];
        assert_eq!(apply_sequence(&items), [0, 1]);
    }
}
