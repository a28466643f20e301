//! What a Secret's row says of values that may be elsewhere than where it points to.

use serde_json::Value;

use crate::resource::Object;

/// Where a Secret's row remembers backends, besides its own, that may hold a copy. It is no field.
pub(super) const COPIES: &str = "copies";

/// The ids of the backends that may hold a copy.
pub(super) fn copies(secret: &Object) -> impl Iterator<Item = &str> {
    let copies = secret.spec.get(COPIES).and_then(Value::as_array);
    copies.into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn has_copy_at(secret: &Object, backend: &Object) -> bool {
    copies(secret).any(|copy| copy == backend.id.as_str())
}

fn with_copies(secret: &Object, copies: Vec<String>) -> Object {
    let mut spec = secret.spec.clone();
    match copies.is_empty() {
        true => drop(spec.shift_remove(COPIES)),
        false => drop(spec.insert(COPIES.into(), copies.into())),
    }
    secret.updated(spec)
}

pub(super) fn with_copy_at(secret: &Object, backend: &Object) -> Object {
    let mut all: Vec<String> = copies(secret).map(str::to_owned).collect();
    if !has_copy_at(secret, backend) {
        all.push(backend.id.to_string());
    }
    with_copies(secret, all)
}

pub(super) fn without_copy_at(secret: &Object, backend: &Object) -> Object {
    with_copies(
        secret,
        copies(secret).filter(|copy| *copy != backend.id.as_str()).map(str::to_owned).collect(),
    )
}
