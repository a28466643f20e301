//! The typed HTTP client of a running server.
//!
//! ```no_run
//! use mcpctl_core::{client::{Client, Token}, resource::kinds};
//!
//! # async fn example() -> mcpctl_core::Result<()> {
//! let client = Client::new("http://127.0.0.1:3100", Some(Token::new("…")))?;
//! for llm in client.list(kinds::LLMS, &[("tier", "fast")]).await? {
//!     println!("{}", llm["name"]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The process that uses it installs rustls's crypto provider once, before the first [`Client`] is made.
//! Redirects are not followed: a token goes to the URL it is meant for and nowhere else.

mod api;
mod direct;
mod failure;
pub(crate) mod health;
mod stream;
mod token;
mod transport;

pub use api::{Able, CanI, LoggedIn};
pub use direct::{Direct, RawAnswer, RawBody};
pub use failure::Unreachable;
pub use stream::ChatStream;
pub use token::Token;
pub use transport::{Client, Observer, is_loopback, parse_base_url};

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
