//! How to speak to a provider: request bytes in, the provider's request out; the provider's bytes in, OpenAI's
//! format out. Pure: no sockets, no clock, not async, so it can be fuzzed, measured and tested from files.
//!
//! * [`Adapter::OpenAi`] passes bytes through and watches them go by.
//! * [`Adapter::Anthropic`] translates chat completions to the Messages API and back.
//! * [`Adapter::Gemini`] makes a prompt for the `gemini` program, and reads what it prints.
//!
//! One call is one [`Adapter::encode`], then either [`Adapter::decode`] (a whole answer),
//! [`Adapter::decode_error`] (a status that is not a success) or [`Adapter::stream`]. What the answer must be
//! told about its request travels in the [`DecodeContext`].
//!
//! That is chat completions. A [`Codec`] does the same for any [`Api`] a caller speaks: bytes pass through to a
//! provider that speaks it too, and go by way of chat completions to one that does not.

mod answer;
mod anthropic;
mod api;
mod chunk;
mod codec;
mod events;
mod failure;
mod fields;
mod gemini;
mod inbound;
mod openai;
mod provider;
mod stream;

pub use answer::{DecodeContext, Decoded, Summary};
pub use api::Api;
pub use codec::Codec;
pub(crate) use gemini::{LAST_LINE, Opening, after_exit};

pub use failure::{ProviderError, anthropic_error_type};
pub use provider::{Adapter, ProviderRequest, Settings};
pub use stream::StreamDecoder;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod inbound_property_tests;
#[cfg(test)]
mod property_tests;
