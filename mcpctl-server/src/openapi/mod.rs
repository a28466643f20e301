//! The API's description in OpenAPI 3.1, made from the table of routes and the definitions of the kinds, so that it
//! cannot say anything else than they do.

mod document;
mod failures;
mod kinds;
mod operation;
mod schemas;

pub use document::document;
