#![doc = include_str!("../README.md")]

pub mod adapter;
pub mod audit;
pub mod auth;
#[cfg(feature = "client")]
pub mod backup;
#[cfg(feature = "client")]
pub mod client;
pub mod error;
#[cfg(feature = "client")]
pub mod failover;
pub mod gateway;
pub mod lease;
mod meter;
mod net;
mod process;
mod random;
pub mod rbac;
pub mod registry;
pub mod resource;
pub mod secret;
pub mod store;
pub mod wire;

pub use auth::Principal;
pub use error::{Error, ErrorKind, Result};
pub use registry::Registry;
