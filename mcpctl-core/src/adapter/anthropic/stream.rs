use bytes::Bytes;

use crate::adapter::{DecodeContext, Summary, failure};

#[derive(Debug)]
pub(in crate::adapter) struct AnthropicStream {
    context: DecodeContext,
    summary: Summary,
    done: bool,
}

impl AnthropicStream {
    pub(in crate::adapter) fn new(context: DecodeContext) -> Self {
        Self { context, summary: Summary::default(), done: false }
    }

    pub(in crate::adapter) fn push(&mut self, _input: &[u8], _out: &mut Vec<Bytes>) {}

    pub(in crate::adapter) fn finish(&mut self, out: &mut Vec<Bytes>) {
        let message = self.context.message("the provider closed the stream before the answer was complete");
        self.fail(&message, "provider_error", out);
    }

    pub(in crate::adapter) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        self.summary.error.get_or_insert_with(|| message.to_owned());
        let mut frame = Vec::new();
        failure::error_frame(&mut frame, message, error_type, None);
        out.push(frame.into());
        self.done = true;
    }

    pub(in crate::adapter) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::adapter) fn summary(&self) -> &Summary {
        &self.summary
    }
}
