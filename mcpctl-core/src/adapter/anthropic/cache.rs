//! Cache marks: Anthropic takes four, and refuses a request with more.

use serde_json::Value;

use super::fields::{Path, Report};
use crate::Result;

const MAX_MARKS: usize = 4;

/// Checks a `cache_control`; `null` is none.
pub(super) fn checked(cache_control: Value, path: &Path<'_>) -> Result<Value> {
    match cache_control {
        Value::Null | Value::Object(_) => Ok(cache_control),
        _ => Err(path.key("cache_control").fault("must be an object")),
    }
}

/// Leaves the last four marks among these blocks, which come in the order of the prompt.
///
/// A mark caches everything before it, so the last ones cover what the earlier ones did; the first ones would leave
/// the end of a long conversation uncached for good.
pub(super) fn limit<'a>(blocks: impl Iterator<Item = &'a mut Value>, report: &mut Report) {
    let mut marked: Vec<&mut Value> = blocks.filter(|block| block.get("cache_control").is_some()).collect();
    let excess = marked.len().saturating_sub(MAX_MARKS);
    for block in marked.iter_mut().take(excess) {
        if let Some(block) = block.as_object_mut() {
            block.shift_remove("cache_control");
        }
        report.dropped("cache_control");
    }
}
