use bytes::Bytes;
use serde_json::Value;

use super::{
    Adapter, Api, DecodeContext, Decoded, ProviderError, ProviderRequest, Settings, StreamDecoder, Summary,
    events::{self, Flavour},
    failure::{self, Shape},
    fields,
    inbound::{self, InboundStream, MessageEvents, ResponseEvents},
    openai,
};
use crate::{Error, ErrorKind, Result, resource::LlmType, wire::ChatRequest};

/// How one API is spoken to one type of provider. Like an [`Adapter`], it does no I/O.
///
/// [`ChatRequest`] stands for the request of any API here: it was scanned for the field that the API requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    api: Api,
    adapter: Adapter,
    passage: Passage,
}

/// What becomes of a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    /// Chat completions, or something whose answers look alike.
    Chat,
    /// The provider speaks the API: bytes pass through.
    Native,
    /// The provider does not: by way of chat completions.
    Translated,
}

impl Codec {
    /// The way of `api` to a provider of type `ty`.
    ///
    /// # Errors
    ///
    /// [`NotImplemented`](crate::ErrorKind::NotImplemented), naming the type, when there is none.
    pub fn new(api: Api, ty: LlmType) -> Result<Self> {
        let unsupported = || {
            let message = format!("{api} is not supported by provider type {}", ty.as_str());
            Error::new(ErrorKind::NotImplemented, message)
        };
        let adapter = Adapter::of(ty);
        let passage = match (api, adapter) {
            (Api::ChatCompletions, _) | (Api::Completions, Adapter::OpenAi) => Passage::Chat,
            (Api::Embeddings, Adapter::OpenAi) => Passage::Native,
            (Api::Responses, _) if ty == LlmType::OpenAi => Passage::Native,
            (Api::Messages | Api::CountTokens, Adapter::Anthropic) => Passage::Native,
            (Api::Messages, Adapter::OpenAi | Adapter::Gemini) | (Api::Responses, _) => Passage::Translated,
            _ => return Err(unsupported()),
        };
        Ok(Self { api, adapter, passage })
    }

    /// The path below the provider's base URL; see [`Adapter::endpoint`].
    pub const fn path(self) -> &'static str {
        match (self.api, self.passage) {
            (Api::ChatCompletions, _) | (_, Passage::Translated) => self.adapter.chat_path(),
            (api, _) => api.path(),
        }
    }

    /// Whether Anthropic's own API is spoken from end to end, so that its headers mean something.
    pub const fn is_anthropic_throughout(self) -> bool {
        self.api.is_anthropic() && matches!(self.passage, Passage::Native)
    }

    /// Whether this request's answer is to be streamed.
    pub fn streams(self, request: &ChatRequest) -> bool {
        self.api.streams() && request.stream()
    }

    /// The provider's request for the caller's.
    ///
    /// # Errors
    ///
    /// As [`Adapter::encode`].
    pub fn encode(self, request: &ChatRequest, settings: &Settings<'_>) -> Result<ProviderRequest> {
        match self.passage {
            Passage::Chat => self.adapter.encode(request, settings),
            Passage::Native => {
                let takes_defaults = self.api.takes_defaults();
                let defaults = settings.defaults.filter(|_| takes_defaults);
                Ok(openai::encode(request, &Settings { defaults, ask_usage: false, ..*settings }))
            }
            Passage::Translated => self.translate(request, settings),
        }
    }

    fn translate(self, request: &ChatRequest, settings: &Settings<'_>) -> Result<ProviderRequest> {
        let translated = match self.api {
            Api::Responses => inbound::translate_response(request, settings)?,
            _ => inbound::translate_message(request, settings)?,
        };
        let chat = ChatRequest::scan(&translated.body)?;
        let mut sent = self.adapter.encode(&chat, settings)?;
        let mut dropped = translated.dropped;
        dropped.append(&mut sent.dropped);
        fields::check_dropped(&dropped, settings.strict)?;
        // Usage is part of the caller's format, whoever asked for it.
        (sent.context.include_usage, sent.context.strip_usage) = (true, false);
        (sent.context.caller_names, sent.context.echo) = (translated.names, translated.echo);
        Ok(ProviderRequest { dropped, ..sent })
    }

    /// A whole successful answer, in the caller's format.
    ///
    /// # Errors
    ///
    /// As [`Adapter::decode`].
    pub fn decode(self, body: &Bytes, context: &DecodeContext) -> Result<Decoded> {
        match (self.passage, self.api) {
            (Passage::Chat, _) => self.adapter.decode(body, context),
            (Passage::Native, Api::Messages) => watched(body, context, events::read_message),
            (Passage::Native, Api::Responses) => watched(body, context, events::read_response),
            // What was counted was not spent.
            (Passage::Native, Api::CountTokens) => watched(body, context, |_, _| {}),
            (Passage::Native, _) => openai::decode(body, context),
            (Passage::Translated, _) => {
                let Decoded { body, summary } = self.adapter.decode(body, context)?;
                let body = match self.api {
                    Api::Responses => inbound::encode_response(&body, context)?,
                    _ => inbound::encode_message(&body, context)?,
                };
                Ok(Decoded { body, summary })
            }
        }
    }

    /// An answer whose status is not a success, as the caller's API writes errors.
    pub fn decode_error(self, status: u16, body: &[u8], llm_name: &str) -> ProviderError {
        let shape = if self.api.is_anthropic() { Shape::Anthropic } else { Shape::OpenAi };
        failure::decode_error(self.adapter, shape, status, body, llm_name)
    }

    /// A decoder of a streamed answer.
    pub fn stream(self, context: DecodeContext) -> StreamDecoder {
        match (self.passage, self.api) {
            (Passage::Native, Api::Messages) => StreamDecoder::events(Flavour::Messages, context),
            (Passage::Native, Api::Responses) => StreamDecoder::events(Flavour::Responses, context),
            (Passage::Translated, _) => {
                let inner = self.adapter.stream(context.clone());
                StreamDecoder::inbound(match self.api {
                    Api::Responses => {
                        let writer = Box::new(ResponseEvents::new(&context));
                        InboundStream::new(inner, context, writer)
                    }
                    _ => InboundStream::new(inner, context, Box::<MessageEvents>::default()),
                })
            }
            _ => self.adapter.stream(context),
        }
    }
}

/// An answer that passes through, once it is known to be an object.
fn watched(body: &Bytes, context: &DecodeContext, read: fn(&Value, &mut Summary)) -> Result<Decoded> {
    let answer: serde_json::Map<String, Value> = context.read_object(body)?;
    let mut summary = Summary::default();
    read(&answer.into(), &mut summary);
    Ok(Decoded { body: body.clone(), summary })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
