//! Callers of other APIs, served by way of chat completions: their requests become chat requests, and chat answers
//! and chunks become what their API has in that place.
//!
//! `messages` reads Anthropic's requests, with `content` for what is said in them; `completion` and `chunks` read chat
//! answers, whole and streamed, into blocks that come one after the other; `message` writes these as Anthropic's
//! messages and events.

mod chunks;
mod completion;
mod content;
mod message;
mod messages;
mod stream;

use std::collections::HashMap;

use bytes::Bytes;

pub(super) use message::{MessageEvents, encode as encode_message};
pub(super) use messages::translate as translate_message;
pub(super) use stream::InboundStream;

/// A request as a chat request.
pub(super) struct Translated {
    pub(super) body: Bytes,
    /// What a chat request cannot say.
    pub(super) dropped: Vec<String>,
    /// Names of tools that had to be changed: the new one → the caller's.
    pub(super) names: HashMap<String, String>,
}
