//! Providers that speak OpenAI's format: bytes pass through, looked at only as far as accounting and a proper end
//! require.

pub(super) mod frames;
mod stream;
mod whole;

pub(super) use stream::OpenAiStream;
pub(super) use whole::{decode, encode};
