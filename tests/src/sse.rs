//! Server-sent events as a client of the OpenAI API reads them, strictly: what real SDKs would trip over fails.

use serde_json::Value;

/// The data of each event of a whole stream, `[DONE]` included.
///
/// Our own server must send nothing but `data: <one line>` and a blank line, so anything else fails.
pub fn events(body: &str) -> Vec<String> {
    assert!(body.is_empty() || body.ends_with("\n\n"), "the stream does not end in a blank line: {body:?}");
    body.split("\n\n")
        .map(|event| event.trim_start_matches('\n'))
        .filter(|event| !event.is_empty() && !event.starts_with(':'))
        .map(|event| match event.strip_prefix("data: ") {
            Some(data) if !data.contains('\n') => data.to_owned(),
            _ => panic!("not one `data: ` line: {event:?}"),
        })
        .collect()
}

/// A whole stream of chat chunks.
#[derive(Debug)]
pub struct Chat {
    /// The chunks and error frames, in order, without `[DONE]`.
    pub frames: Vec<Value>,
}

impl Chat {
    /// Reads a stream; fails unless it ends in exactly one `[DONE]` with everything else before it as JSON.
    pub fn read(body: &str) -> Self {
        let mut data = events(body);
        assert_eq!(data.pop().as_deref(), Some("[DONE]"), "the last event: {body:?}");
        assert!(!data.iter().any(|data| data == "[DONE]"), "more than one [DONE]: {body:?}");
        let parse =
            |data: &String| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}"));
        Self { frames: data.iter().map(parse).collect() }
    }

    /// The text of all deltas, joined.
    pub fn text(&self) -> String {
        self.deltas().filter_map(|delta| delta["content"].as_str()).collect()
    }

    /// The deltas of the first choice.
    pub fn deltas(&self) -> impl Iterator<Item = &Value> {
        self.frames.iter().map(|frame| &frame["choices"][0]["delta"]).filter(|delta| !delta.is_null())
    }

    /// Every finish reason in the stream.
    pub fn finish_reasons(&self) -> Vec<&str> {
        self.frames.iter().filter_map(|frame| frame["choices"][0]["finish_reason"].as_str()).collect()
    }

    /// The error frames.
    pub fn errors(&self) -> Vec<&Value> {
        self.frames.iter().map(|frame| &frame["error"]).filter(|error| !error.is_null()).collect()
    }

    /// Asserts that this is one finished answer: no error, one finish reason.
    pub fn assert_finished(&self) {
        assert!(self.errors().is_empty(), "an error frame in {:#?}", self.frames);
        assert_eq!(self.finish_reasons().len(), 1, "finish reasons of {:#?}", self.frames);
    }

    /// Asserts that this is one broken answer: exactly one error frame, the last one, and no finish reason.
    /// Returns the error.
    pub fn assert_broken(&self) -> &Value {
        assert_eq!(self.errors().len(), 1, "error frames of {:#?}", self.frames);
        assert!(self.finish_reasons().is_empty(), "a broken answer looks finished: {:#?}", self.frames);
        let error = &self.frames.last().unwrap()["error"];
        assert!(
            error["message"].is_string(),
            "the last frame is the error, with a message: {:#?}",
            self.frames
        );
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_and_a_broken_stream_are_told_apart() {
        let chunk = r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
        Chat::read(&format!("{chunk}\n\ndata: [DONE]\n\n")).assert_finished();
        let broken = Chat::read("data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n");
        assert_eq!(broken.assert_broken()["message"], "x");
    }

    #[test]
    #[should_panic(expected = "more than one [DONE]")]
    fn two_ends_are_refused() {
        Chat::read("data: [DONE]\n\ndata: [DONE]\n\n");
    }

    #[test]
    #[should_panic(expected = "not one `data: ` line")]
    fn other_fields_are_refused() {
        events("event: x\ndata: 1\n\n");
    }
}
