//! The lines of an answer → a stream of chunks.

use super::{
    event::{Event, Lines, Said, Stats},
    response::{NO_EVENT, TOO_EARLY, completion_id},
};
use crate::adapter::{DecodeContext, Summary, chunk::ChunkWriter, failure};
use bytes::Bytes;

/// A stream that is translated, line by line; all chunks of one read leave together.
#[derive(Debug)]
pub(in crate::adapter) struct GeminiStream {
    context: DecodeContext,
    summary: Summary,
    lines: Lines,
    id: String,
    model: String,
    complaint: Option<String>,
    chunks: ChunkWriter,
    done: bool,
}

impl GeminiStream {
    pub(in crate::adapter) fn new(context: DecodeContext) -> Self {
        Self {
            id: completion_id(None),
            model: context.model.clone(),
            context,
            summary: Summary::default(),
            lines: Lines::default(),
            complaint: None,
            chunks: ChunkWriter::default(),
            done: false,
        }
    }

    pub(in crate::adapter) fn push(&mut self, input: &[u8], out: &mut Vec<Bytes>) {
        if self.done {
            return;
        }
        let mut chunks = Vec::new();
        match self.lines.push(input, &self.context) {
            Ok(()) => self.read_lines(&mut chunks),
            Err(error) => self.end_in_error(error.message(), "provider_error", &mut chunks),
        }
        send(chunks, out);
    }

    pub(in crate::adapter) fn finish(&mut self, out: &mut Vec<Bytes>) {
        // A last line may lack its end.
        self.push(b"\n", out);
        let message = self.context.message(TOO_EARLY);
        self.fail(&message, "provider_error", out);
    }

    pub(in crate::adapter) fn fail(&mut self, message: &str, error_type: &str, out: &mut Vec<Bytes>) {
        let mut chunks = Vec::new();
        self.end_in_error(message, error_type, &mut chunks);
        send(chunks, out);
    }

    pub(in crate::adapter) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::adapter) fn summary(&self) -> &Summary {
        &self.summary
    }

    fn read_lines(&mut self, out: &mut Vec<u8>) {
        let mut lines = std::mem::take(&mut self.lines);
        while let Some(line) = lines.next().filter(|_| !self.done) {
            match Event::read(line).map(Event::said) {
                Some(said) => self.on(said, out),
                None => self.end_in_error(&self.context.message(NO_EVENT), "provider_error", out),
            }
        }
        self.lines = lines;
    }

    fn on(&mut self, said: Said<'_>, out: &mut Vec<u8>) {
        match said {
            Said::Nothing => {}
            Said::Begin { session, model } => {
                self.id = completion_id(session.as_deref());
                self.model = model.unwrap_or_else(|| self.context.model.clone());
            }
            Said::Text(text) => {
                self.begun(out).text("content", &text, out);
            }
            Said::Complaint(complaint) => self.complaint = Some(complaint.into_owned()),
            Said::Done(stats) => self.end(stats, out),
            Said::Failed(failure) => {
                let error_type = if failure.status == 429 { "rate_limit_error" } else { "provider_error" };
                let message = failure.shown(self.complaint.as_deref(), &self.context);
                self.end_in_error(&message, error_type, out);
            }
        }
    }

    /// Where chunks are written. What the program says of itself after the first one comes too late.
    fn begun(&mut self, out: &mut Vec<u8>) -> &ChunkWriter {
        self.chunks.begin(&self.id, self.context.created, &self.model, out);
        &self.chunks
    }

    fn end(&mut self, stats: Stats, out: &mut Vec<u8>) {
        self.begun(out).finish("stop", out);
        self.summary.finish_reason = Some("stop".to_owned());
        let usage = stats.to_openai();
        if let Some(usage) = &usage {
            self.summary.read_usage(usage);
        }
        self.chunks.end(usage.filter(|_| self.context.include_usage), out);
        self.done = true;
    }

    fn end_in_error(&mut self, message: &str, error_type: &str, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        self.summary.error = Some(message.to_owned());
        failure::error_frame(out, message, error_type, None);
        self.done = true;
    }
}

fn send(chunks: Vec<u8>, out: &mut Vec<Bytes>) {
    if !chunks.is_empty() {
        out.push(chunks.into());
    }
}
