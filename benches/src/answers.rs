//! What the stub provider answers: the same bytes each time, so that they can be checked.

use std::{fmt::Write as _, time::Duration};

use crate::messages;

/// How the stub answers. The first segment of the path says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON body of about 600 bytes.
    Plain,
    /// A stream of [`CHUNKS`] events, each written alone, [`PACE`] apart.
    Each,
    /// The same stream in [`WRITES`] writes, without a pause.
    Joined,
    /// The same stream, [`SLOW_PACE`] apart: a connection that stays open.
    Slow,
    /// As [`Plain`](Self::Plain), in Anthropic's format.
    Message,
    /// As [`Each`](Self::Each), in Anthropic's format.
    MessageEach,
    /// As [`Joined`](Self::Joined), in Anthropic's format.
    MessageJoined,
}

/// Events of content in a stream.
pub const CHUNKS: usize = 256;
/// Writes of a joined stream.
pub const WRITES: usize = 8;
/// The pause between two events that are written each.
pub const PACE: Duration = Duration::from_millis(2);
/// The pause between two events of a slow stream: a minute each, and thousands of them keep no core busy.
pub const SLOW_PACE: Duration = Duration::from_millis(250);

impl Shape {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Each,
        Self::Joined,
        Self::Slow,
        Self::Message,
        Self::MessageEach,
        Self::MessageJoined,
    ];

    /// The first segment of the path that asks for it; also the name of the Llm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Each => "each",
            Self::Joined => "joined",
            Self::Slow => "slow",
            Self::Message => "message",
            Self::MessageEach => "message-each",
            Self::MessageJoined => "message-joined",
        }
    }

    /// The shape that a path asks for.
    pub fn of_path(path: &str) -> Option<Self> {
        let first = path.trim_start_matches('/').split('/').next()?;
        Self::ALL.into_iter().find(|shape| shape.name() == first)
    }

    /// Whether the answer is a stream.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Self::Plain | Self::Message)
    }

    /// The type of an Llm whose provider answers so.
    pub const fn llm_type(self) -> &'static str {
        match self {
            Self::Plain | Self::Each | Self::Joined | Self::Slow => "openai",
            Self::Message | Self::MessageEach | Self::MessageJoined => "anthropic",
        }
    }

    /// The answer's body, as a client of OpenAI's API must receive it. Digits of a time may be any.
    pub fn body(self) -> Vec<u8> {
        match self {
            Self::Plain => whole(),
            Self::Each | Self::Joined | Self::Slow => events().concat(),
            Self::Message => messages::whole_translated(),
            Self::MessageEach | Self::MessageJoined => messages::chunks(),
        }
    }
}

/// A chat completion as OpenAI's API answers it.
fn whole() -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog, and over again, until it is tired. ".repeat(3);
    format!(
        r#"{{"id":"chatcmpl-0123456789abcdefghijklmnopqrs","object":"chat.completion","created":1700000000,"model":"stub-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":64,"total_tokens":83,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    )
    .into_bytes()
}

/// The events of a stream: content, a finish reason, the usage, the end.
pub fn events() -> Vec<Vec<u8>> {
    let event = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-0123456789abcdefghijklmnopqrs\",\"object\":\"chat.completion.chunk\",\
             \"created\":1700000000,\"model\":\"stub-1\",\"system_fingerprint\":\"fp_0123456789\",{rest}}}\n\n"
        )
        .into_bytes()
    };
    let mut events: Vec<_> = (0..CHUNKS)
        .map(|number| {
            let mut rest = String::new();
            // Writing to a string cannot fail.
            let _ = write!(
                rest,
                r#""choices":[{{"index":0,"delta":{{"content":" token-{number}"}},"logprobs":null,"finish_reason":null}}]"#
            );
            event(&rest)
        })
        .collect();
    events.push(event(r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#));
    events.push(event(
        r#""choices":[],"usage":{"prompt_tokens":19,"completion_tokens":256,"total_tokens":275}"#,
    ));
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}
