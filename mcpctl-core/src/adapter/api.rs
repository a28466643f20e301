use std::fmt;

use crate::wire::Required;

/// The APIs that a caller may speak. Each is a route, and all of them take the same way through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's chat completions.
    ChatCompletions,
    /// OpenAI's completions of a plain prompt.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Anthropic's count of the tokens of a message.
    CountTokens,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 6] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
    ];

    /// The path below a base URL: the same at a provider that speaks this API and at this server.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// Its name in the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }

    /// The field that a request must have. A response may be asked for by other means than `input`.
    pub const fn required(self) -> Required {
        match self {
            Self::ChatCompletions | Self::Messages | Self::CountTokens => Required::List("messages"),
            Self::Completions => Required::Field("prompt"),
            Self::Embeddings => Required::Field("input"),
            Self::Responses => Required::Nothing,
        }
    }

    /// Whether an answer may be streamed.
    pub const fn streams(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }

    /// Whether this is one of Anthropic's APIs, whose errors look different.
    pub const fn is_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }

    /// Whether a request is made of the fields that `extraConfig.defaults` are written in.
    pub(super) const fn takes_defaults(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}
