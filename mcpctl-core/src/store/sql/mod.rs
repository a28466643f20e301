//! The store in a database: SQLite or PostgreSQL, from one source of SQL.
//!
//! `queries.rs` is compiled once for each database, as a module of `sqlite.rs` and of `postgres.rs`, which say
//! what a connection and a transaction are. Everything runs on threads that may block; see `pool.rs` for why.

mod fault;
#[cfg(feature = "postgres")]
mod listener;
mod migrate;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use store::SqlStore;
