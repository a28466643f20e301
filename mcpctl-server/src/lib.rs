#![doc = include_str!("../README.md")]

mod app;
pub mod config;
mod connection;
mod cores;
mod descriptors;
mod gemini;
mod handlers;
mod listen;
mod master_key;
pub mod openapi;
mod rekey;
mod request;
mod respond;
pub mod routes;
mod stall;
mod start;
pub mod telemetry;

pub use app::App;
pub use config::Config;
pub use connection::ConnectionLimits;
pub use cores::serve_on_cores;
pub use listen::{Listener, serve};
pub use rekey::rekey;
pub use start::run;
pub use telemetry::Telemetry;
