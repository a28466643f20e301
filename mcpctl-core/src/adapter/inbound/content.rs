//! Messages of Anthropic's → chat messages.

use serde_json::{Map, Value, json};

use crate::{
    Result,
    adapter::{
        anthropic::Names,
        fields::{self, Path, Report, take},
    },
    resource::LlmType,
    wire::request::shown,
};

/// What has been said, as chat messages.
pub(super) struct Conversation {
    ty: LlmType,
    messages: Vec<Value>,
}

/// What a user's message becomes: results first, each a message of its own, then everything else.
#[derive(Default)]
struct Turn {
    results: Vec<Value>,
    parts: Vec<Value>,
}

/// A system prompt as one text; a blank line stands between its blocks.
pub(super) fn system_text(system: Value, path: &Path<'_>, report: &mut Report) -> Result<Option<String>> {
    let text = match system {
        Value::String(text) => text,
        blocks => {
            let mut texts = Vec::new();
            for (index, block) in path.list(blocks)?.into_iter().enumerate() {
                let path = path.index(index);
                let mut block = path.object(block)?;
                if path.key("type").text(take(&mut block, "type"))? != "text" {
                    return Err(path.key("type").fault("must be text"));
                }
                let text = path.key("text").text(take(&mut block, "text"))?;
                texts.extend(Some(text).filter(|text| !text.trim().is_empty()));
                left_over("system", &mut block, report);
            }
            texts.join("\n\n")
        }
    };
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

impl Conversation {
    pub(super) fn new(ty: LlmType) -> Self {
        Self { ty, messages: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        message: Value,
        path: &Path<'_>,
        names: &mut Names,
        report: &mut Report,
    ) -> Result<()> {
        let mut message = path.object(message)?;
        let role = path.key("role").text(take(&mut message, "role"))?;
        let content = take(&mut message, "content");
        report.left_over("messages", &message);
        let path = path.key("content");
        match role.as_str() {
            "user" => {
                let mut turn = Turn::default();
                for (path, block) in blocks(content, &path)? {
                    turn.add(block, &path.as_path(), report)?;
                }
                self.messages.append(&mut turn.results);
                // DeepSeek takes no lists.
                let content = fields::content(turn.parts, self.ty == LlmType::DeepSeek);
                self.messages.extend(content.map(|content| json!({"role": "user", "content": content})));
            }
            "assistant" => self.assistant(content, &path, names, report)?,
            "system" => {
                let text = system_text(content, &path, report)?;
                self.messages.extend(text.map(|text| json!({"role": "system", "content": text})));
            }
            other => {
                let what = format!("`{}` is not user or assistant", shown(other));
                return Err(Path::Top("messages").key("role").fault(what));
            }
        }
        Ok(())
    }

    pub(super) fn into_messages(self, report: &mut Report) -> Vec<Value> {
        let last = self.messages.last();
        if last.is_some_and(|message| message.get("role").is_some_and(|role| role == "assistant")) {
            // An answer begun for the model: others answer it instead of going on with it.
            report.dropped("messages.prefill");
        }
        self.messages
    }

    fn assistant(
        &mut self,
        content: Value,
        path: &Path<'_>,
        names: &mut Names,
        report: &mut Report,
    ) -> Result<()> {
        let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        for (path, block) in blocks(content, path)? {
            let path = path.as_path();
            let mut block = path.object(block)?;
            let ty = path.key("type").text(take(&mut block, "type"))?;
            match ty.as_str() {
                "text" => text.push_str(&path.key("text").text(take(&mut block, "text"))?),
                "tool_use" => {
                    let id = path.key("id").text(take(&mut block, "id"))?;
                    let name = names.tool(path.key("name").text(take(&mut block, "name"))?);
                    let input = path.key("input").object(take(&mut block, "input"))?;
                    let function = json!({"name": name, "arguments": Value::Object(input).to_string()});
                    calls.push(json!({"id": id, "type": "function", "function": function}));
                }
                // OpenAI takes no earlier thinking; other servers do, in a field of their own.
                "thinking" if self.ty != LlmType::OpenAi => {
                    reasoning.push_str(&path.key("thinking").text(take(&mut block, "thinking"))?);
                    take(&mut block, "signature");
                }
                "thinking" | "redacted_thinking" => {
                    report.dropped(format_args!("messages.content.{ty}"));
                    continue;
                }
                // A tool that Anthropic ran itself, and its result.
                ty if ty == "server_tool_use" || ty.ends_with("_tool_result") => {
                    report.dropped(format_args!("messages.content.{ty}"));
                    continue;
                }
                other => return Err(unknown(other, &path)),
            }
            left_over("messages.content", &mut block, report);
        }
        if text.is_empty() && calls.is_empty() {
            return Ok(());
        }
        let content = if text.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({"role": "assistant", "content": content});
        if let Some(message) = message.as_object_mut() {
            if !reasoning.is_empty() {
                message.insert("reasoning_content".to_owned(), reasoning.into());
            }
            if !calls.is_empty() {
                message.insert("tool_calls".to_owned(), calls.into());
            }
        }
        self.messages.push(message);
        Ok(())
    }
}

impl Turn {
    fn add(&mut self, block: Value, path: &Path<'_>, report: &mut Report) -> Result<()> {
        let mut block = path.object(block)?;
        let ty = path.key("type").text(take(&mut block, "type"))?;
        if ty == "tool_result" {
            return self.add_result(block, path, report);
        }
        self.parts.extend(part(&ty, block, path, report)?);
        Ok(())
    }

    /// A result is text to OpenAI: images and files in it go to the user's own message.
    fn add_result(
        &mut self,
        mut block: Map<String, Value>,
        path: &Path<'_>,
        report: &mut Report,
    ) -> Result<()> {
        let id = path.key("tool_use_id").text(take(&mut block, "tool_use_id"))?;
        let mut texts = Vec::new();
        let content = take(&mut block, "content");
        let path_of_content = path.key("content");
        if !content.is_null() {
            for (path, inner) in blocks(content, &path_of_content)? {
                let path = path.as_path();
                let mut inner = path.object(inner)?;
                let ty = path.key("type").text(take(&mut inner, "type"))?;
                for part in part(&ty, inner, &path, report)? {
                    match part.get("text").and_then(Value::as_str) {
                        Some(text) => texts.push(text.to_owned()),
                        None => self.parts.push(part),
                    }
                }
            }
        }
        if take(&mut block, "is_error") == true {
            report.dropped("messages.content.is_error");
        }
        left_over("messages.content", &mut block, report);
        self.results.push(json!({"role": "tool", "tool_call_id": id, "content": texts.join("\n\n")}));
        Ok(())
    }
}

/// A block as parts of a chat message.
fn part(ty: &str, mut block: Map<String, Value>, path: &Path<'_>, report: &mut Report) -> Result<Vec<Value>> {
    let parts = match ty {
        "text" => {
            let text = path.key("text").text(take(&mut block, "text"))?;
            if text.is_empty() { Vec::new() } else { vec![json!({"type": "text", "text": text})] }
        }
        "image" => {
            let path = path.key("source");
            let mut source = path.object(take(&mut block, "source"))?;
            let url = match path.key("type").text(take(&mut source, "type"))?.as_str() {
                "base64" => data_url(&mut source, &path)?,
                "url" => path.key("url").text(take(&mut source, "url"))?,
                other => return Err(unknown(other, &path)),
            };
            vec![json!({"type": "image_url", "image_url": {"url": url}})]
        }
        "document" => document(&mut block, path, report)?,
        other => return Err(unknown(other, path)),
    };
    left_over("messages.content", &mut block, report);
    Ok(parts)
}

fn document(block: &mut Map<String, Value>, path: &Path<'_>, report: &mut Report) -> Result<Vec<Value>> {
    let title = take(block, "title");
    let path = path.key("source");
    let mut source = path.object(take(block, "source"))?;
    match path.key("type").text(take(&mut source, "type"))?.as_str() {
        "base64" => {
            let name = title.as_str().unwrap_or("document.pdf");
            let file = json!({"filename": name, "file_data": data_url(&mut source, &path)?});
            Ok(vec![json!({"type": "file", "file": file})])
        }
        "text" => {
            let text = path.key("data").text(take(&mut source, "data"))?;
            let title = title.as_str().map(|title| format!("{title}\n\n")).unwrap_or_default();
            Ok(vec![json!({"type": "text", "text": format!("{title}{text}")})])
        }
        "content" => {
            let (mut parts, path) = (Vec::new(), path.key("content"));
            for (path, inner) in blocks(take(&mut source, "content"), &path)? {
                let path = path.as_path();
                let mut inner = path.object(inner)?;
                match path.key("type").text(take(&mut inner, "type"))?.as_str() {
                    ty @ ("text" | "image") => parts.extend(part(ty, inner, &path, report)?),
                    other => return Err(unknown(other, &path)),
                }
            }
            Ok(parts)
        }
        other => Err(unknown(other, &path)),
    }
}

fn data_url(source: &mut Map<String, Value>, path: &Path<'_>) -> Result<String> {
    let media_type = path.key("media_type").text(take(source, "media_type"))?;
    let data = path.key("data").text(take(source, "data"))?;
    Ok(format!("data:{media_type};base64,{data}"))
}

fn unknown(ty: &str, path: &Path<'_>) -> crate::Error {
    path.key("type").fault(format_args!("`{}` cannot be sent to this provider", shown(ty)))
}

/// Reports what nobody took out of a block. OpenAI caches without being told.
fn left_over(place: &str, block: &mut Map<String, Value>, report: &mut Report) {
    if !take(block, "cache_control").is_null() {
        report.dropped("cache_control");
    }
    report.left_over(place, block);
}

/// A place inside a content, which may be written as a string or as a list.
struct Place<'a>(&'a Path<'a>, usize);

impl Place<'_> {
    fn as_path(&self) -> Path<'_> {
        self.0.index(self.1)
    }
}

fn blocks<'a>(content: Value, path: &'a Path<'a>) -> Result<Vec<(Place<'a>, Value)>> {
    let list = match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(list) => list,
        Value::Null => return Err(path.fault("is required")),
        _ => return Err(path.fault("must be a string or a list of blocks")),
    };
    Ok(list.into_iter().enumerate().map(|(index, block)| (Place(path, index), block)).collect())
}
