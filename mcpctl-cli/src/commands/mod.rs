//! The commands, a file per verb: each reads its arguments, calls the server and prints.

pub(crate) mod api_resources;
pub(crate) mod apply;
mod auditlogs;
pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod docs;
pub(crate) mod edit;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod migrate;
pub(crate) mod patch;
pub(crate) mod providers;
pub(crate) mod proxy;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod version;
mod watch;
pub(crate) mod whoami;
