use bytes::Bytes;

use super::chunks::{Chunks, Writer};
use crate::adapter::{DecodeContext, StreamDecoder, Summary};

/// A provider's stream, read as chat chunks and written in the caller's format.
#[derive(Debug)]
pub(in crate::adapter) struct InboundStream {
    /// From the provider's bytes to chat chunks, with a proper end.
    inner: StreamDecoder,
    chunks: Chunks,
    summary: Summary,
    /// Scratch space of the inner decoder.
    decoded: Vec<Bytes>,
}

impl InboundStream {
    pub(in crate::adapter) fn new(
        inner: StreamDecoder,
        context: DecodeContext,
        writer: Box<dyn Writer>,
    ) -> Self {
        let chunks = Chunks::new(context, writer);
        Self { inner, chunks, summary: Summary::default(), decoded: Vec::new() }
    }

    pub(in crate::adapter) fn push(&mut self, input: Bytes, out: &mut Vec<Bytes>) {
        self.inner.push(input, &mut self.decoded);
        self.go_on(out);
    }

    pub(in crate::adapter) fn finish(&mut self, out: &mut Vec<Bytes>) {
        self.inner.finish(&mut self.decoded);
        self.go_on(out);
    }

    pub(in crate::adapter) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        self.inner.fail(message, error_type, &mut self.decoded);
        self.go_on(out);
    }

    pub(in crate::adapter) fn write_error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        self.chunks.write_error(message, error_type, out);
    }

    pub(in crate::adapter) fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    pub(in crate::adapter) fn summary(&self) -> &Summary {
        &self.summary
    }

    fn go_on(&mut self, out: &mut Vec<Bytes>) {
        let mut written = Vec::new();
        for bytes in self.decoded.drain(..) {
            self.chunks.push(&bytes, &mut written);
        }
        if !written.is_empty() {
            out.push(written.into());
        }
        if self.inner.summary() != &self.summary {
            self.summary.clone_from(self.inner.summary());
        }
        if let Some(error) = &self.chunks.error {
            self.summary.error.get_or_insert_with(|| error.clone());
        }
    }
}
