//! Measures mcpctl side by side with nginx, on one machine, over loopback.
//!
//! A [stub provider](stub) answers with bytes that are known beforehand, [load] is made through each
//! [target](targets) in alternating rounds, and every answer is compared byte for byte. What a target costs is read
//! from the [system](process), not from the target. The program is `cargo run --release -p benches --bin bench`.

pub mod answers;
pub mod build;
pub mod http;
mod http2;
pub mod instructions;
pub mod load;
pub mod machine;
pub mod memory;
pub mod messages;
pub mod pieces;
pub mod process;
pub mod report;
pub mod rounds;
pub mod scenario;
pub mod stub;
pub mod targets;
mod tls;
pub mod translation;

/// What went wrong, in words.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The outcome of a step of a measurement.
pub type Result<T, E = Fault> = std::result::Result<T, E>;
