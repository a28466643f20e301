//! From a request and a fault to the bytes that go out, write by write.

use std::time::Duration;

use serde_json::Value;

use super::{
    Fault, Received,
    answer::{Api, PARTS, Stream},
    calls, thinking,
};

/// One thing the stub does on the connection.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes bytes, as one write.
    Send(Vec<u8>),
    /// Writes these bytes every 20 ms until the caller hangs up.
    Repeat(Vec<u8>),
    /// Writes these bytes as fast as they are taken until the caller hangs up.
    Flood(Vec<u8>),
    /// Waits for the caller to hang up.
    Hang,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// How long the stub rests between the writes that a fault wants apart.
pub(super) const REST: Duration = Duration::from_millis(20);

/// `{"id":"compressed","choices":[]}`, compressed with gzip.
const COMPRESSED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\xca\x4c\x51\xb2\x52\x4a\xce\xcf\x2d\x28\x4a\x2d\x2e\x4e\x4d\x51\xd2\x51\x4a\xce\xc8\xcf\x4c\x4e\x2d\x56\xb2\x8a\x8e\xad\x05\x00\x0f\xec\x90\x15\x20\x00\x00\x00";

/// What zeroes look like in the middle of what gzip has compressed.
const ZEROES: &[u8] = b"\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a\x00\x00";

/// What to do with `request`, which came `seen` times before.
pub(super) fn script(request: &Received, seen: usize, fault: Option<Fault>, redirect: &str) -> Vec<Step> {
    let path = request.path.split('?').next().unwrap_or_default();
    let api = match (request.method.as_str(), path) {
        ("POST", "/v1/chat/completions") => Api::OpenAi,
        ("POST", "/v1/messages") => Api::Anthropic,
        ("POST", "/v1/completions") => Api::Completions,
        ("POST", "/v1/responses") => Api::Responses,
        ("POST", "/v1/embeddings" | "/v1/messages/count_tokens") => Api::OpenAi,
        // What a local server says when it is well.
        ("GET", "/health") => return whole(200, "application/json", &[], b""),
        ("GET", "/v1/models") => {
            let list = serde_json::json!({"object": "list", "data": [{"id": "stub", "object": "model"}]});
            return whole(200, "application/json", &[], list.to_string().as_bytes());
        }
        _ => return whole(404, "application/json", &[], br#"{"error":{"message":"no such route"}}"#),
    };
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let model = asked["model"].as_str().unwrap_or_default();
    let stream = asked["stream"] == true;
    let usage = asked["stream_options"]["include_usage"] == true;
    let (mut plain, mut events) = match calls::other(path, &asked) {
        Some(answer) => (answer, None),
        None => calls::answer(api, model, &asked, stream, usage),
    };
    thinking::add(api, model, &asked, &mut plain, &mut events);
    let answer = Answer { api, model, plain, stream: events };
    match fault.or_else(|| Fault::of_model(model)) {
        None => answer.good(),
        Some(Fault::Busy) if seen > 0 => answer.good(),
        Some(fault) => answer.bad(fault, request, redirect),
    }
}

struct Answer<'a> {
    api: Api,
    model: &'a str,
    plain: Value,
    /// The streamed answer, when a stream was asked for.
    stream: Option<Stream>,
}

impl Answer<'_> {
    fn good(&self) -> Vec<Step> {
        match &self.stream {
            Some(stream) => streamed(stream.all().iter().map(|event| format!("{event}\n\n"))),
            None => whole(200, "application/json", &[], &self.body()),
        }
    }

    fn body(&self) -> Vec<u8> {
        self.plain.to_string().into_bytes()
    }

    fn bad(&self, fault: Fault, request: &Received, redirect: &str) -> Vec<Step> {
        match fault {
            Fault::Silent => vec![Step::Hang],
            Fault::Status(status) => self.reflecting(status, request, "7"),
            Fault::Busy => self.reflecting(429, request, "1"),
            Fault::Html => {
                whole(200, "text/html; charset=utf-8", &[], b"<!doctype html><title>Bad gateway</title>")
            }
            Fault::NotJson => whole(200, "application/json", &[], b"{\"id\": \"chatcmpl-stub\", oops"),
            Fault::Empty => whole(200, "application/json", &[], b""),
            Fault::Compressed => {
                let label = if self.stream.is_some() { "text/event-stream" } else { "application/json" };
                whole(200, label, &[("content-encoding", "gzip")], COMPRESSED)
            }
            Fault::CompressedBomb => {
                let label = if self.stream.is_some() { "text/event-stream" } else { "application/json" };
                let headers = [("content-encoding", "gzip"), ("transfer-encoding", "chunked")];
                let begun = [head(200, label, &headers), chunked(&COMPRESSED[..10])].concat();
                vec![Step::Send(begun), Step::Flood(chunked(&ZEROES.repeat(4096)))]
            }
            Fault::EndlessHeaders => {
                let mut begun = head(200, "application/json", &[]);
                begun.truncate(begun.len() - 2);
                let more = format!("x-more: {}\r\n", "x".repeat(1024)).repeat(16);
                vec![Step::Send(begun), Step::Flood(more.into_bytes())]
            }
            Fault::Redirect => whole(302, "text/plain", &[("location", redirect)], b"elsewhere"),
            Fault::ByteByByte => apart(self.good(), |bytes| bytes.chunks(1).map(<[u8]>::to_vec).collect()),
            Fault::HalfCodePoints => apart(self.good(), split_code_points),
            fault => match &self.stream {
                Some(stream) => self.bad_stream(fault, stream),
                None => self.bad_plain(fault),
            },
        }
    }

    /// An error whose body and headers show the credential that came with the request.
    fn reflecting(&self, status: u16, request: &Received, retry_after: &str) -> Vec<Step> {
        let credentials = ["authorization", "x-api-key"].map(|name| request.header(name).unwrap_or("none"));
        let shown = credentials.join(" ");
        let body = self.api.error(status, &format!("stub refuses {shown}: no")).to_string();
        let mut headers = vec![("x-reflected", shown.as_str()), ("set-cookie", "stub=1")];
        if [429, 503, 529].contains(&status) {
            headers.push(("retry-after", retry_after));
        }
        whole(status, "application/json", &headers, body.as_bytes())
    }

    /// What is left of each fault when no stream was asked for.
    fn bad_plain(&self, fault: Fault) -> Vec<Step> {
        let body = self.body();
        let (half, _) = body.split_at(body.len() / 2);
        let mut cut = head(200, "application/json", &[("content-length", &body.len().to_string())]);
        cut.extend_from_slice(half);
        match fault {
            Fault::Reset => vec![Step::Send(cut), Step::Reset],
            Fault::Truncated => vec![Step::Send(cut), Step::Close],
            Fault::Stall | Fault::Endless => vec![Step::Send(cut), Step::Hang],
            Fault::Flood => {
                let begun = head(200, "application/json", &[("transfer-encoding", "chunked")]);
                let more = chunked(&[b'x'; 64 << 10]);
                vec![Step::Send(begun), Step::Send(chunked(b"{\"id\":\"")), Step::Flood(more)]
            }
            Fault::ErrorFrame => whole(500, "application/json", &[], b"{}"),
            _ => self.good(),
        }
    }

    fn bad_stream(&self, fault: Fault, stream: &Stream) -> Vec<Step> {
        let lf = |events: &[String]| events.iter().map(|event| format!("{event}\n\n")).collect::<Vec<_>>();
        let (whole, text) = (stream.all(), lf(&stream.text));
        let early = |last: Vec<Step>| {
            let mut steps = streamed(text.clone());
            steps.pop();
            steps.extend(last);
            steps
        };
        match fault {
            Fault::Reset => early(vec![Step::Reset]),
            Fault::Truncated => early(vec![Step::Close]),
            Fault::Stall => early(vec![Step::Hang]),
            Fault::NoFinish => streamed(text),
            Fault::NoDone => streamed([text, lf(&stream.finish)].concat()),
            Fault::AfterDone => {
                let late = vec![self.api.delta(self.model, "LATE"), stream.end.clone()];
                streamed(lf(&[whole, late].concat()))
            }
            Fault::LongLine => {
                let long = self.api.delta(self.model, &"x".repeat(10 << 20));
                let rest = [stream.finish.clone(), vec![stream.end.clone()]].concat();
                streamed(lf(&[stream.text.clone(), vec![long], rest].concat()))
            }
            Fault::CrLf => streamed(lf(&whole).iter().map(|event| event.replace('\n', "\r\n"))),
            Fault::Cr => streamed(lf(&whole).iter().map(|event| event.replace('\n', "\r"))),
            Fault::MixedLines => streamed(lf(&whole).iter().enumerate().map(|(index, event)| {
                let ends = ["\n", "\r\n", "\r"];
                format!(": comment {index}\n{}", event.replace('\n', ends[index % 3]))
            })),
            Fault::Endless => {
                let more = format!("{}\n\n", self.api.delta(self.model, PARTS[0]));
                early(vec![Step::Repeat(chunked(more.as_bytes()))])
            }
            Fault::Flood => {
                let more = format!("{}\n\n", self.api.delta(self.model, &"x".repeat(4096)));
                early(vec![Step::Flood(chunked(more.as_bytes()))])
            }
            Fault::EndlessLine => {
                let begun = Step::Send(chunked(b"data: {\"id\":\""));
                early(vec![begun, Step::Flood(chunked(&[b'x'; 64 << 10]))])
            }
            Fault::NoBlankLine => {
                let begun = Step::Send(chunked(b"data: {\"id\":\n"));
                early(vec![begun, Step::Flood(chunked(&b"data: 1,\n".repeat(4096)))])
            }
            Fault::ErrorFrame => {
                streamed(lf(&[stream.text.clone(), vec![self.api.error_event("stub fell over")]].concat()))
            }
            _ => self.good(),
        }
    }
}

fn head(status: u16, content_type: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Stub\r\ncontent-type: {content_type}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn whole(status: u16, content_type: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<Step> {
    let length = body.len().to_string();
    let headers = [&[("content-length", length.as_str())], headers].concat();
    vec![Step::Send([head(status, content_type, &headers), body.to_vec()].concat())]
}

/// A head, a chunk for each event, and the chunk that ends the body.
fn streamed(events: impl IntoIterator<Item = String>) -> Vec<Step> {
    let headers = [("transfer-encoding", "chunked"), ("cache-control", "no-cache")];
    let mut steps = vec![Step::Send(head(200, "text/event-stream", &headers))];
    steps.extend(events.into_iter().map(|event| Step::Send(chunked(event.as_bytes()))));
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The same bytes in more writes.
fn apart(steps: Vec<Step>, split: fn(&[u8]) -> Vec<Vec<u8>>) -> Vec<Step> {
    let split = |step| match step {
        Step::Send(bytes) => split(&bytes).into_iter().map(Step::Send).collect(),
        other => vec![other],
    };
    steps.into_iter().flat_map(split).collect()
}

/// Cuts after the first byte of each character that has more than one, in the middle of a chunk and of a read.
fn split_code_points(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    for byte in bytes {
        let last = parts.last_mut().unwrap();
        last.push(*byte);
        if *byte >= 0xC0 {
            parts.push(Vec::new());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_cut_after_their_first_byte() {
        let parts = split_code_points("aü🦀".as_bytes());
        assert_eq!(parts, [b"a\xC3".to_vec(), b"\xBC\xF0".to_vec(), b"\x9F\xA6\x80".to_vec()]);
    }
}
