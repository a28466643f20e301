//! Callers of other APIs, served by way of chat completions: their requests become chat requests, and chat answers
//! and chunks become what their API has in that place.
//!
//! `messages` reads Anthropic's requests, with `content` for what is said in them; `completion` and `chunks` read chat
//! answers, whole and streamed, into blocks that come one after the other; `message` writes these as Anthropic's
//! messages and events. `responses` and `response` do the same for OpenAI's responses.

mod chunks;
mod completion;
mod content;
mod message;
mod messages;
mod response;
mod responses;
mod stream;

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};

pub(super) use message::{MessageEvents, encode as encode_message};
pub(super) use messages::translate as translate_message;
pub(super) use response::{ResponseEvents, encode as encode_response};
pub(super) use responses::translate as translate_response;
pub(super) use stream::InboundStream;

/// A request as a chat request.
pub(super) struct Translated {
    pub(super) body: Bytes,
    /// What a chat request cannot say.
    pub(super) dropped: Vec<String>,
    /// Names of tools that had to be changed: the new one → the caller's.
    pub(super) names: HashMap<String, String>,
    /// What the answer repeats of its request.
    pub(super) echo: Map<String, Value>,
}
