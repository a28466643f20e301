#![doc = include_str!("../README.md")]

pub mod audit;
pub mod auth;
pub mod error;
mod random;
pub mod rbac;
pub mod registry;
pub mod resource;
pub mod secret;
pub mod store;

pub use auth::Principal;
pub use error::{Error, ErrorKind, Result};
pub use registry::Registry;
