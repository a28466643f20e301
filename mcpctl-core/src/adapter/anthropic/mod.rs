//! Anthropic's Messages API, version `2023-06-01`.

mod stream;

use bytes::Bytes;

use super::{DecodeContext, Decoded, ProviderRequest, Settings};
use crate::{Error, ErrorKind, Result, wire::ChatRequest};

pub(super) use stream::AnthropicStream;

pub(super) fn encode(_request: &ChatRequest, _settings: &Settings<'_>) -> Result<ProviderRequest> {
    Err(Error::new(ErrorKind::NotImplemented, "the translation to Anthropic is not here yet"))
}

pub(super) fn decode(body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
    let _: serde_json::Map<String, serde_json::Value> = context.read_object(body)?;
    Err(context.provider_error("the translation from Anthropic is not here yet"))
}
