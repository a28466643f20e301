//! How to speak to a provider: request bytes in, the provider's request out; the provider's bytes in, OpenAI's
//! format out. Pure: no sockets, no clock, not async, so it can be fuzzed, measured and tested from files.
//!
//! * [`Adapter::OpenAi`] passes bytes through and watches them go by.
//! * [`Adapter::Anthropic`] translates chat completions to the Messages API and back.
//!
//! One call is one [`Adapter::encode`], then either [`Adapter::decode`] (a whole answer),
//! [`Adapter::decode_error`] (a status that is not a success) or [`Adapter::stream`]. What the answer must be
//! told about its request travels in the [`DecodeContext`].

mod answer;
mod anthropic;
mod failure;
mod openai;
mod provider;
mod stream;

pub use answer::{DecodeContext, Decoded, Summary};
pub use failure::ProviderError;
pub use provider::{Adapter, ProviderRequest, Settings};
pub use stream::StreamDecoder;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod property_tests;
