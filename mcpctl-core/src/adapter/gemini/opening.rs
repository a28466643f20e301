//! Whether an answer has begun: until then, a failure can still be a status.

use bytes::Bytes;
use serde_json::json;

use super::event::{Event, Failure, Lines, Said};
use crate::{Result, adapter::DecodeContext};

/// Reads the first lines of an answer.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    lines: Lines,
    /// What the answer's reader will have to see of what was read.
    kept: Vec<u8>,
    complaint: Option<String>,
}

/// How an answer begins: a status, and what its body begins with. A body of a failure is whole.
pub(crate) type Head = (u16, Bytes);

impl Opening {
    /// Takes the bytes of one read. `None` as long as nothing is decided.
    ///
    /// # Errors
    ///
    /// When a line is too long.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<Head>> {
        self.lines.push(bytes, &DecodeContext::default())?;
        while let Some(line) = self.lines.next() {
            match Event::read(line).map(Event::said) {
                // Neither notices nor the prompt, which is repeated, are of use to anybody.
                Some(Said::Nothing) => {}
                Some(Said::Begin { .. }) => keep(&mut self.kept, line),
                Some(Said::Complaint(complaint)) => {
                    self.complaint = Some(complaint.into_owned());
                    keep(&mut self.kept, line);
                }
                Some(Said::Failed(failure)) => {
                    return Ok(Some(failed(failure, self.complaint.take())));
                }
                // Its reader says what is wrong with a line that makes no sense.
                Some(Said::Text(_) | Said::Done(_)) | None => {
                    let mut kept = std::mem::take(&mut self.kept);
                    keep(&mut kept, line);
                    kept.extend_from_slice(self.lines.rest());
                    return Ok(Some((200, kept.into())));
                }
            }
        }
        Ok(None)
    }
}

fn keep(kept: &mut Vec<u8>, line: &[u8]) {
    kept.extend_from_slice(line);
    kept.push(b'\n');
}

fn failed(failure: Failure, complaint: Option<String>) -> Head {
    let Failure { status, message } = failure;
    let message = Some(message).filter(|message| !message.is_empty()).or(complaint);
    let message = message.unwrap_or_else(|| "the gemini program reported an error".to_owned());
    (status, error_body(&message))
}

/// How an answer begins that ended before it began, with this exit code of the program.
pub(crate) fn after_exit(code: Option<i32>) -> Head {
    let (status, what) = match code {
        // The codes are the program's own.
        Some(41) => (401, "could not authenticate"),
        Some(42) => (400, "refused its input"),
        Some(44) => (502, "could not set up its sandbox"),
        Some(52) => (502, "refused its settings"),
        Some(53) => (502, "used up its turns without an answer"),
        Some(_) => (502, "failed before its answer began"),
        None => (502, "was killed before its answer began"),
    };
    let code = code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
    (status, error_body(&format!("the gemini program {what}{code}")))
}

fn error_body(message: &str) -> Bytes {
    json!({"error": {"message": message}}).to_string().into()
}
