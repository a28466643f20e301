use bytes::Bytes;

use super::{
    DecodeContext, Summary,
    anthropic::AnthropicStream,
    events::{EventStream, Flavour},
    failure,
    gemini::GeminiStream,
    inbound::InboundStream,
    openai::OpenAiStream,
};

/// Reads a provider's stream and writes the caller's: chunks in OpenAI's format, then exactly one
/// `data: [DONE]`, whatever happens; or the events of the caller's own API, whose last one says how it ended.
///
/// Push what every read brought; then call [`finish`](Self::finish) when the provider has closed, or
/// [`fail`](Self::fail) when the connection broke. Once [`is_done`](Self::is_done), all further calls do nothing.
#[derive(Debug)]
pub struct StreamDecoder(Kind);

#[derive(Debug)]
enum Kind {
    OpenAi(Box<OpenAiStream>),
    Anthropic(Box<AnthropicStream>),
    Gemini(Box<GeminiStream>),
    Events(Box<EventStream>),
    Inbound(Box<InboundStream>),
}

impl StreamDecoder {
    pub(super) fn openai(context: DecodeContext) -> Self {
        Self(Kind::OpenAi(Box::new(OpenAiStream::new(context))))
    }

    pub(super) fn anthropic(context: DecodeContext) -> Self {
        Self(Kind::Anthropic(Box::new(AnthropicStream::new(context))))
    }

    pub(super) fn gemini(context: DecodeContext) -> Self {
        Self(Kind::Gemini(Box::new(GeminiStream::new(context))))
    }

    pub(super) fn events(flavour: Flavour, context: DecodeContext) -> Self {
        Self(Kind::Events(Box::new(EventStream::new(flavour, context))))
    }

    pub(super) fn inbound(stream: InboundStream) -> Self {
        Self(Kind::Inbound(Box::new(stream)))
    }

    /// Takes the bytes of one read, and adds what is to be sent now to `out`.
    ///
    /// From an OpenAI-format provider these are the same bytes, not a copy: only an event split over reads is put
    /// together, and sent when it is whole. From Anthropic, all chunks of one read leave as one `Bytes`.
    pub fn push(&mut self, input: Bytes, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.push(input, out),
            Kind::Anthropic(stream) => stream.push(&input, out),
            Kind::Gemini(stream) => stream.push(&input, out),
            Kind::Events(stream) => stream.push(input, out),
            Kind::Inbound(stream) => stream.push(input, out),
        }
    }

    /// The provider closed its stream. Unless the answer was complete, the caller gets an error frame.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.finish(out),
            Kind::Anthropic(stream) => stream.finish(out),
            Kind::Gemini(stream) => stream.finish(out),
            Kind::Events(stream) => stream.finish(out),
            Kind::Inbound(stream) => stream.finish(out),
        }
    }

    /// The connection broke or a deadline passed: one error frame, then the end. `message` goes to the caller.
    pub fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.fail(message, error_type, out),
            Kind::Anthropic(stream) => stream.fail(message, error_type, out),
            Kind::Gemini(stream) => stream.fail(message, error_type, out),
            Kind::Events(stream) => stream.fail(message, error_type, out),
            Kind::Inbound(stream) => stream.fail(message, error_type, out),
        }
    }

    /// An error in the caller's format, in place of an end that was decoded and has not been sent.
    pub fn error_for_end(&mut self, message: &str, error_type: &str) -> Bytes {
        let mut out = Vec::new();
        match &mut self.0 {
            Kind::OpenAi(_) | Kind::Anthropic(_) | Kind::Gemini(_) => {
                failure::error_frame(&mut out, message, error_type, None)
            }
            Kind::Events(stream) => stream.write_error(message, error_type, &mut out),
            Kind::Inbound(stream) => stream.write_error(message, error_type, &mut out),
        }
        out.into()
    }

    /// Whether the end is out: the provider's connection is of no more use to this answer.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::OpenAi(stream) => stream.is_done(),
            Kind::Anthropic(stream) => stream.is_done(),
            Kind::Gemini(stream) => stream.is_done(),
            Kind::Events(stream) => stream.is_done(),
            Kind::Inbound(stream) => stream.is_done(),
        }
    }

    /// What is known so far.
    pub fn summary(&self) -> &Summary {
        match &self.0 {
            Kind::OpenAi(stream) => stream.summary(),
            Kind::Anthropic(stream) => stream.summary(),
            Kind::Gemini(stream) => stream.summary(),
            Kind::Events(stream) => stream.summary(),
            Kind::Inbound(stream) => stream.summary(),
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
