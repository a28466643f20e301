use bytes::Bytes;

use super::{DecodeContext, Summary, anthropic::AnthropicStream, openai::OpenAiStream};

/// Reads a provider's stream and writes the caller's: chunks in OpenAI's format, then exactly one
/// `data: [DONE]`, whatever happens.
///
/// Push what every read brought; then call [`finish`](Self::finish) when the provider has closed, or
/// [`fail`](Self::fail) when the connection broke. Once [`is_done`](Self::is_done), all further calls do nothing.
#[derive(Debug)]
pub struct StreamDecoder(Kind);

#[derive(Debug)]
enum Kind {
    OpenAi(Box<OpenAiStream>),
    Anthropic(Box<AnthropicStream>),
}

impl StreamDecoder {
    pub(super) fn openai(context: DecodeContext) -> Self {
        Self(Kind::OpenAi(Box::new(OpenAiStream::new(context))))
    }

    pub(super) fn anthropic(context: DecodeContext) -> Self {
        Self(Kind::Anthropic(Box::new(AnthropicStream::new(context))))
    }

    /// Takes the bytes of one read, and adds what is to be sent now to `out`.
    ///
    /// From an OpenAI-format provider these are the same bytes, not a copy: only an event split over reads is put
    /// together, and sent when it is whole. From Anthropic, all chunks of one read leave as one `Bytes`.
    pub fn push(&mut self, input: Bytes, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.push(input, out),
            Kind::Anthropic(stream) => stream.push(&input, out),
        }
    }

    /// The provider closed its stream. Unless the answer was complete, the caller gets an error frame.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.finish(out),
            Kind::Anthropic(stream) => stream.finish(out),
        }
    }

    /// The connection broke or a deadline passed: one error frame, then the end. `message` goes to the caller.
    pub fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        match &mut self.0 {
            Kind::OpenAi(stream) => stream.fail(message, error_type, out),
            Kind::Anthropic(stream) => stream.fail(message, error_type, out),
        }
    }

    /// Whether `data: [DONE]` is out: the provider's connection is of no more use to this answer.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::OpenAi(stream) => stream.is_done(),
            Kind::Anthropic(stream) => stream.is_done(),
        }
    }

    /// What is known so far.
    pub fn summary(&self) -> &Summary {
        match &self.0 {
            Kind::OpenAi(stream) => stream.summary(),
            Kind::Anthropic(stream) => stream.summary(),
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
