//! What Anthropic counts, in OpenAI's terms.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::adapter::Summary;

/// The numbers of a message. One that was absent or null is unknown, which is not 0.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    pub(super) fn read(usage: Option<&Value>) -> Self {
        let number = |key: &str| usage.and_then(|usage| usage.get(key)).and_then(Value::as_u64);
        Self {
            input_tokens: number("input_tokens"),
            cache_read_input_tokens: number("cache_read_input_tokens"),
            cache_creation_input_tokens: number("cache_creation_input_tokens"),
            output_tokens: number("output_tokens"),
        }
    }

    /// Takes over the numbers that `later` knows: a stream reports the request's at its start and the answer's
    /// at its end, and the end may repeat the former, as null or not at all.
    pub(super) fn merge(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
    }

    pub(super) fn tell(&self, summary: &mut Summary) {
        summary.prompt_tokens = self.prompt();
        summary.completion_tokens = self.output_tokens;
        summary.cached_tokens = self.cache_read_input_tokens;
    }

    /// OpenAI's `usage` object; `None` when no number is known.
    pub(super) fn to_openai(self) -> Option<Value> {
        let mut usage = Map::new();
        let mut put = |key: &str, number: Option<u64>| {
            if let Some(number) = number {
                usage.insert(key.to_owned(), number.into());
            }
        };
        let (prompt, completion) = (self.prompt(), self.output_tokens);
        put("prompt_tokens", prompt);
        put("completion_tokens", completion);
        put(
            "total_tokens",
            prompt.zip(completion).map(|(prompt, completion)| prompt.saturating_add(completion)),
        );
        if let Some(cached) = self.cache_read_input_tokens {
            let details = Map::from_iter([("cached_tokens".to_owned(), cached.into())]);
            usage.insert("prompt_tokens_details".to_owned(), details.into());
        }
        (!usage.is_empty()).then(|| usage.into())
    }

    /// All tokens of the request: Anthropic's `input_tokens` leaves out what a cache read or wrote.
    fn prompt(&self) -> Option<u64> {
        let cached = [self.cache_read_input_tokens, self.cache_creation_input_tokens];
        self.input_tokens.map(|fresh| cached.into_iter().flatten().fold(fresh, u64::saturating_add))
    }
}
