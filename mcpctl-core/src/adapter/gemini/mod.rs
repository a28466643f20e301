//! The `gemini` program, run without a terminal: a chat completion's messages become its prompt, and the lines of
//! JSON that it prints become a completion or chunks of one.
//!
//! The program takes a text and a model and nothing else, so every other parameter is reported as dropped, and a
//! message that is no text is refused.

mod event;
mod opening;
mod request;
mod response;
mod stream;

pub(crate) use opening::{Opening, after_exit};
pub(super) use request::encode;
pub(super) use response::decode;
pub(super) use stream::GeminiStream;

/// What the last line of an answer holds, and no text inside a line can: a quote in a text is escaped.
pub(crate) const LAST_LINE: &[u8] = b"\"type\":\"result\"";

#[cfg(test)]
mod tests;
