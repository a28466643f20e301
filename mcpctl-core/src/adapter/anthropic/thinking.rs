//! Thinking: how much of it to ask for, and handing earlier thinking back.

use serde_json::{Map, Value, json};

use super::{
    blocks as block,
    fields::{Path, Report},
    messages::Turn,
};
use crate::Result;

/// The least that Anthropic takes.
const MIN_BUDGET: u64 = 1024;

/// What a request says about thinking.
#[derive(Default)]
pub(super) struct Wish {
    /// `reasoning_effort`, as tokens; 0 for none.
    pub(super) effort: Option<u64>,
    /// Anthropic's own `thinking`, from a caller who knows it.
    pub(super) native: Option<Map<String, Value>>,
}

impl Wish {
    /// How many tokens of the answer thinking may take.
    pub(super) fn budget(&self) -> u64 {
        match &self.native {
            Some(native) => native.get("budget_tokens").and_then(Value::as_u64).unwrap_or_default(),
            None => self.effort.unwrap_or_default(),
        }
    }

    /// The `thinking` parameter, if this request can have it. An effort is a wish: where Anthropic would refuse the
    /// request for it, it is dropped and reported.
    pub(super) fn settle(
        self,
        max_tokens: u64,
        request: &Map<String, Value>,
        turns: &[Turn],
        report: &mut Report,
    ) -> Option<Value> {
        if let Some(native) = self.native {
            return Some(native.into());
        }
        let budget = self.effort.filter(|effort| *effort > 0)?.min(max_tokens.saturating_sub(1));
        if budget < MIN_BUDGET || forces_tool(request) || !goes_with(turns) {
            report.dropped("reasoning_effort");
            return None;
        }
        Some(json!({"type": "enabled", "budget_tokens": budget}))
    }
}

/// The tokens for a `reasoning_effort`.
pub(super) fn effort(value: Value, report: &mut Report) -> Result<u64> {
    let path = Path::Top("reasoning_effort");
    Ok(match path.text(value)?.as_str() {
        "none" => 0,
        "minimal" | "low" => MIN_BUDGET,
        "medium" => 2048,
        "high" => 4096,
        "xhigh" => {
            report.dropped("reasoning_effort");
            4096
        }
        _ => return Err(path.fault("must be none, minimal, low, medium, high or xhigh")),
    })
}

/// Takes out of `request` the sampling parameters that Anthropic refuses next to thinking.
pub(super) fn drop_clashes(request: &mut Map<String, Value>, report: &mut Report) {
    let number = |key: &str| request.get(key).and_then(Value::as_f64);
    let clashes = [
        ("temperature", number("temperature").is_some_and(|temperature| temperature != 1.0)),
        ("top_p", number("top_p").is_some_and(|top_p| top_p < 0.95)),
        ("top_k", number("top_k").is_some()),
    ];
    for (key, _) in clashes.into_iter().filter(|(_, clashes)| *clashes) {
        request.shift_remove(key);
        report.dropped(key);
    }
}

/// An assistant's `thinking_blocks`, verbatim. One without its signature would be refused and is left out.
pub(super) fn blocks(value: Value, path: &Path<'_>) -> Result<Vec<Value>> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (index, value) in path.list(value)?.into_iter().enumerate() {
        let path = path.index(index);
        let value = Value::Object(path.object(value)?);
        let has = |key: &str| value.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        match value.get("type").and_then(Value::as_str) {
            Some("thinking") if has("signature") => found.push(value),
            Some("redacted_thinking") if has("data") => found.push(value),
            Some("thinking" | "redacted_thinking") => {}
            _ => return Err(path.key("type").fault("must be thinking or redacted_thinking")),
        }
    }
    Ok(found)
}

fn forces_tool(request: &Map<String, Value>) -> bool {
    let choice = request.get("tool_choice").and_then(|choice| choice.get("type")).and_then(Value::as_str);
    matches!(choice, Some("any" | "tool"))
}

/// Whether thinking can go on from these turns: not from an answer already begun, and not in the middle of tool use
/// that was begun without it.
fn goes_with(turns: &[Turn]) -> bool {
    match turns {
        [.., last] if last.role == "assistant" => false,
        [.., calling, last] if last.content.iter().any(|part| block::is_type(part, "tool_result")) => {
            let first = calling.content.first();
            first.is_some_and(|part| {
                block::is_type(part, "thinking") || block::is_type(part, "redacted_thinking")
            })
        }
        _ => true,
    }
}
