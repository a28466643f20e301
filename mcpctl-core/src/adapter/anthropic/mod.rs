//! Anthropic's Messages API, version `2023-06-01`: chat completions are translated to it and back.
//!
//! Nothing is lost in silence. A parameter is translated, or it is named in
//! [`ProviderRequest::dropped`](super::ProviderRequest::dropped), or the request is refused with the name of the
//! field at fault.

mod blocks;
mod cache;
mod content;
mod messages;
mod names;
mod request;
mod response;
mod stream;
mod thinking;
mod tools;
mod usage;

use super::fields;

pub(super) use names::Names;
pub(super) use request::{encode, is_neutral};
pub(super) use response::{decode, finish_reason};
pub(super) use stream::AnthropicStream;
pub(super) use usage::Usage;
