#![doc = include_str!("../README.md")]

#[cfg(feature = "client")]
pub mod client;
pub mod error;
mod random;
pub mod rbac;
pub mod resource;
pub mod store;

pub use error::{Error, ErrorKind, Result};
