//! Who may do what: roles, permissions, and the evaluator. Pure: no I/O, no clock.

mod grant;
mod permission;
mod policy;
mod rights;

pub use permission::{Action, Operation, Permission, Role};
pub use policy::{Decision, Definition, Grants, Membership, Policy};
pub use rights::Rights;
