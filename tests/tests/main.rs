//! Everything that is tested from outside, in one binary.

mod access;
mod architecture;
mod audit;
mod audit_modes;
mod audit_tokens;
mod auth;
mod chaos;
mod cluster;
mod connections;
mod crash;
mod faults;
mod gemini;
mod inference;
mod input;
mod journey;
mod lifecycle;
mod metrics;
mod overload;
mod references;
mod resources;
mod routes;
mod secrets;
mod store;
mod streaming;
mod surface;
mod traces;
