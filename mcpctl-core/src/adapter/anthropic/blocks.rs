//! Blocks of content in Anthropic's format.

use serde_json::{Value, json};

/// A text block; `None` for blank text, which Anthropic refuses and which says nothing.
pub(super) fn text(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}))
}

/// Puts a `cache_control` onto a block; blocks of thinking must not carry one.
pub(super) fn mark(block: &mut Value, cache_control: Value) {
    let is_thinking =
        matches!(block.get("type").and_then(Value::as_str), Some("thinking" | "redacted_thinking"));
    if let (Some(block), false) = (block.as_object_mut(), is_thinking || cache_control.is_null()) {
        block.insert("cache_control".to_owned(), cache_control);
    }
}

/// The text of a text block.
pub(super) fn text_of(block: &Value) -> Option<&str> {
    let is_text = block.get("type").and_then(Value::as_str) == Some("text");
    block.get("text").and_then(Value::as_str).filter(|_| is_text)
}

pub(super) fn is_type(block: &Value, ty: &str) -> bool {
    block.get("type").and_then(Value::as_str) == Some(ty)
}
