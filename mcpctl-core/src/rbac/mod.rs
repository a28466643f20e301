//! Who may do what: roles, permissions, and the evaluator. Pure: no I/O, no clock.

mod permission;
mod policy;

pub use permission::{Action, Operation, Permission, Role};
pub use policy::{Decision, Grants, Policy, Scope};
