#![doc = include_str!("../README.md")]

pub mod adapter;
pub mod error;
mod random;
pub mod rbac;
pub mod resource;
pub mod store;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
