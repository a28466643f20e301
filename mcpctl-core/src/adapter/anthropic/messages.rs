//! Messages → a system prompt, and turns that alternate.

use serde_json::{Map, Value, json};

use super::{
    blocks, cache,
    content::{self, Speaker},
    fields::{Path, Report, take},
    names::Names,
    thinking, tools,
};
use crate::{Result, wire::request::shown};

/// What stands in for the user's turn when a conversation begins with the assistant's: Anthropic wants the user to
/// begin, and refuses blank text.
const OPENING: &str = ".";

/// A conversation in Anthropic's shape.
#[derive(Default)]
pub(super) struct Conversation {
    /// Text blocks.
    pub(super) system: Vec<Value>,
    pub(super) turns: Vec<Turn>,
}

/// One turn: `user` or `assistant`.
pub(super) struct Turn {
    pub(super) role: &'static str,
    pub(super) content: Vec<Value>,
}

impl Conversation {
    pub(super) fn read(messages: Value, names: &mut Names, report: &mut Report) -> Result<Self> {
        let path = Path::Top("messages");
        let mut conversation = Self::default();
        for (index, message) in path.list(messages)?.into_iter().enumerate() {
            conversation.add(message, &path.index(index), names, report)?;
        }
        conversation.settle()?;
        Ok(conversation)
    }

    /// The system prompt: one text when there is nothing but text, blocks when a cache mark must be kept.
    pub(super) fn system(&mut self) -> Option<Value> {
        let system = std::mem::take(&mut self.system);
        if system.iter().any(|block| block.get("cache_control").is_some()) {
            return Some(system.into());
        }
        let texts: Vec<&str> = system.iter().filter_map(blocks::text_of).collect();
        (!texts.is_empty()).then(|| texts.join("\n\n").into())
    }

    fn add(&mut self, message: Value, path: &Path<'_>, names: &mut Names, report: &mut Report) -> Result<()> {
        let mut message = path.object(message)?;
        let role = path.key("role").text(take(&mut message, "role"))?;
        let mark = cache::checked(take(&mut message, "cache_control"), path)?;
        let content = take(&mut message, "content");
        let read =
            |speaker, report: &mut Report| content::translate(content, speaker, &path.key("content"), report);
        match role.as_str() {
            "system" | "developer" => {
                self.system.extend(marked(read(Speaker::System, report)?, mark));
            }
            "user" => self.say("user", marked(read(Speaker::User, report)?, mark)),
            "assistant" => {
                let said = read(Speaker::Assistant, report)?;
                let said = assistant(said, &mut message, path, names)?;
                self.say("assistant", marked(said, mark));
            }
            "tool" => {
                let id = tools::id_at(take(&mut message, "tool_call_id"), &path.key("tool_call_id"))?;
                let result = tool_result(id, read(Speaker::Tool, report)?, mark);
                self.add_result(result);
            }
            other => {
                let what = format!("`{}` is not system, developer, user, assistant or tool", shown(other));
                return Err(path.key("role").fault(what));
            }
        }
        report.left_over("messages", &message);
        Ok(())
    }

    /// Adds to the turn of this role, or begins it.
    fn say(&mut self, role: &'static str, mut content: Vec<Value>) {
        if content.is_empty() {
            return;
        }
        match self.turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.content.append(&mut content),
            None => self.turns.push(Turn { role, content }),
        }
    }

    /// Results stand first in their turn, in their order.
    fn add_result(&mut self, result: Value) {
        match self.turns.last_mut().filter(|turn| turn.role == "user") {
            Some(turn) => {
                let at =
                    turn.content.iter().take_while(|block| blocks::is_type(block, "tool_result")).count();
                turn.content.insert(at, result);
            }
            None => self.say("user", vec![result]),
        }
    }

    fn settle(&mut self) -> Result<()> {
        if let Some(last) = self.turns.last_mut().filter(|turn| turn.role == "assistant") {
            trim_prefill(&mut last.content);
            if last.content.is_empty() {
                self.turns.pop();
            }
        }
        if self.turns.is_empty() {
            let what = "at least one message of the user or the assistant that is not empty is required";
            return Err(Path::Top("messages").fault(what));
        }
        if self.turns.first().is_some_and(|turn| turn.role == "assistant") {
            let opening = blocks::text(OPENING).into_iter().collect();
            self.turns.insert(0, Turn { role: "user", content: opening });
        }
        Ok(())
    }
}

impl Turn {
    /// One text alone is written as a string, as people write it.
    pub(super) fn into_json(mut self) -> Value {
        let content = match self.content.as_slice() {
            [block] if block.get("cache_control").is_none() => {
                blocks::text_of(block).map(|text| Value::from(text.to_owned()))
            }
            _ => None,
        };
        let content = content.unwrap_or_else(|| std::mem::take(&mut self.content).into());
        json!({"role": self.role, "content": content})
    }
}

fn assistant(
    mut said: Vec<Value>,
    message: &mut Map<String, Value>,
    path: &Path<'_>,
    names: &mut Names,
) -> Result<Vec<Value>> {
    if !take(message, "function_call").is_null() {
        return Err(path.key("function_call").fault("is not supported; use tool_calls"));
    }
    // Thinking without a signature proves nothing to Anthropic and is refused; the text alone has none.
    take(message, "reasoning_content");
    take(message, "reasoning");
    let blocks_path = path.key("thinking_blocks");
    let mut content = thinking::blocks(take(message, "thinking_blocks"), &blocks_path)?;
    content.append(&mut said);
    if let Value::String(refusal) = take(message, "refusal") {
        content.extend(blocks::text(&refusal));
    }
    content.extend(tools::calls(take(message, "tool_calls"), &path.key("tool_calls"), names)?);
    Ok(content)
}

/// A tool's answer: plain text stays a string. A cache mark belongs to the whole result.
fn tool_result(id: String, mut content: Vec<Value>, mut mark: Value) -> Value {
    for block in content.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(inner) = block.shift_remove("cache_control") {
            mark = inner;
        }
    }
    let mut result = json!({"type": "tool_result", "tool_use_id": id});
    let content = match content.as_slice() {
        [] => None,
        [block] if blocks::text_of(block).is_some() => blocks::text_of(block).map(Value::from),
        _ => Some(content.into()),
    };
    if let (Some(result), Some(content)) = (result.as_object_mut(), content) {
        result.insert("content".to_owned(), content);
    }
    blocks::mark(&mut result, mark);
    result
}

/// A message's own cache mark goes to its last block.
fn marked(mut content: Vec<Value>, mark: Value) -> Vec<Value> {
    if let Some(last) = content.last_mut() {
        blocks::mark(last, mark);
    }
    content
}

/// Anthropic refuses an answer begun for it that ends in white space.
fn trim_prefill(content: &mut Vec<Value>) {
    let Some(last) = content.last_mut() else { return };
    let Some(trimmed) = blocks::text_of(last).map(|text| text.trim_end().to_owned()) else { return };
    if trimmed.is_empty() {
        content.pop();
    } else if let Some(text) = last.get_mut("text") {
        *text = trimmed.into();
    }
}
