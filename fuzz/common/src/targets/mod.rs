mod answers;
mod events;
mod plain;
mod requests;
mod streams;

/// What takes any bytes, and panics when something does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its file for cargo-fuzz.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Which files of the corpus its inputs are made of: the beginning of their folder's path and of their name.
    pub seeds: &'static [(&'static str, &'static str)],
}

/// Streams of every provider.
const STREAMS: &[(&str, &str)] = &[("", "stream.")];

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "sse", run: plain::sse, seeds: STREAMS },
    Target { name: "request_scan", run: plain::request_scan, seeds: &[("", "request.")] },
    Target {
        name: "openai_to_anthropic_request",
        run: requests::openai_to_anthropic,
        seeds: &[("openai-to-anthropic/", "request.openai")],
    },
    Target {
        name: "openai_to_anthropic_response",
        run: answers::openai_to_anthropic,
        seeds: &[("openai-to-anthropic/", "response.anthropic"), ("openai-to-anthropic/", "error.anthropic")],
    },
    Target {
        name: "openai_to_anthropic_stream",
        run: streams::openai_to_anthropic,
        seeds: &[("openai-to-anthropic/", "stream.anthropic")],
    },
    Target {
        name: "anthropic_to_openai_request",
        run: requests::anthropic_to_openai,
        seeds: &[("anthropic-to-openai/", "request.anthropic")],
    },
    Target {
        name: "anthropic_to_openai_response",
        run: answers::anthropic_to_openai,
        seeds: &[("anthropic-to-openai/", "response.openai"), ("anthropic-to-openai/", "error.openai")],
    },
    Target {
        name: "anthropic_to_openai_stream",
        run: streams::anthropic_to_openai,
        seeds: &[("anthropic-to-openai/", "stream.openai")],
    },
    Target {
        name: "responses_request",
        run: requests::responses,
        seeds: &[("responses-to-openai/", "request.responses")],
    },
    Target {
        name: "responses_response",
        run: answers::responses,
        seeds: &[("responses-to-openai/", "response.openai"), ("anthropic-to-openai/", "response.openai")],
    },
    Target {
        name: "responses_stream",
        run: streams::responses,
        seeds: &[("responses-to-openai/", "stream.openai"), ("anthropic-to-openai/", "stream.openai")],
    },
    Target {
        name: "passthrough_stream",
        run: streams::passthrough,
        seeds: &[("openai-to-openai/", "stream.openai"), ("anthropic-to-openai/", "stream.openai")],
    },
    Target {
        name: "passthrough_events",
        run: streams::events,
        seeds: &[
            ("anthropic-to-anthropic/", "stream.anthropic"),
            ("openai-to-anthropic/", "stream.anthropic"),
            ("responses-to-openai/", "stream.responses"),
        ],
    },
    Target {
        name: "gemini_request",
        run: requests::gemini,
        seeds: &[("openai-to-gemini/", "request.openai"), ("openai-to-anthropic/", "request.openai")],
    },
    Target { name: "gemini_answer", run: streams::gemini, seeds: &[("openai-to-gemini/", "stream.gemini")] },
];
