//! Parts of a message → blocks.

use serde_json::{Value, json};

use super::{
    blocks, cache,
    fields::{Path, Report, take},
};
use crate::Result;

/// Whose content it is; not everything may stand everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    Tool,
}

/// A message's `content`, a string or a list of parts, as blocks. Blank text is left out.
pub(super) fn translate(
    content: Value,
    speaker: Speaker,
    path: &Path<'_>,
    report: &mut Report,
) -> Result<Vec<Value>> {
    match content {
        Value::String(text) => Ok(blocks::text(&text).into_iter().collect()),
        Value::Array(parts) => {
            let mut found = Vec::with_capacity(parts.len());
            for (index, part) in parts.into_iter().enumerate() {
                found.extend(translate_part(part, speaker, &path.index(index), report)?);
            }
            Ok(found)
        }
        Value::Null if matches!(speaker, Speaker::Assistant | Speaker::Tool) => Ok(Vec::new()),
        Value::Null => Err(path.fault("is required")),
        _ => Err(path.fault("must be a string or a list of parts")),
    }
}

fn translate_part(
    part: Value,
    speaker: Speaker,
    path: &Path<'_>,
    report: &mut Report,
) -> Result<Option<Value>> {
    if let Value::String(text) = part {
        return Ok(blocks::text(&text));
    }
    let mut part = path.object(part)?;
    let ty = path.key("type").text(take(&mut part, "type"))?;
    let cache_control = cache::checked(take(&mut part, "cache_control"), path)?;
    let takes_media = matches!(speaker, Speaker::User | Speaker::Tool);
    let block = match ty.as_str() {
        "text" => blocks::text(&path.key("text").text(take(&mut part, "text"))?),
        "refusal" if speaker == Speaker::Assistant => {
            blocks::text(&path.key("refusal").text(take(&mut part, "refusal"))?)
        }
        "image_url" if takes_media => {
            Some(image(take(&mut part, "image_url"), &path.key("image_url"), report)?)
        }
        "file" if takes_media => Some(file(take(&mut part, "file"), &path.key("file"), report)?),
        other => {
            let what = format!("`{}` cannot be sent to this provider", crate::wire::request::shown(other));
            return Err(path.key("type").fault(what));
        }
    };
    report.left_over("messages.content", &part);
    Ok(block.map(|mut block| {
        blocks::mark(&mut block, cache_control);
        block
    }))
}

fn image(value: Value, path: &Path<'_>, report: &mut Report) -> Result<Value> {
    let url = match value {
        Value::String(url) => url,
        value => {
            let mut image = path.object(value)?;
            let url = path.key("url").text(take(&mut image, "url"))?;
            if take(&mut image, "detail").as_str().is_some_and(|detail| detail != "auto") {
                report.dropped("image_url.detail");
            }
            url
        }
    };
    let path = path.key("url");
    if let Some(data) = strip_scheme(&url, "data:") {
        return inline(data, &path);
    }
    if strip_scheme(&url, "https://").or(strip_scheme(&url, "http://")).is_none() {
        return Err(path.fault("must be a data:, http: or https: URL"));
    }
    let address = url.split(['?', '#']).next().unwrap_or_default();
    let ty = if address.to_ascii_lowercase().ends_with(".pdf") { "document" } else { "image" };
    Ok(json!({"type": ty, "source": {"type": "url", "url": url}}))
}

fn file(value: Value, path: &Path<'_>, report: &mut Report) -> Result<Value> {
    let mut file = path.object(value)?;
    let data = take(&mut file, "file_data");
    if data.is_null() {
        return Err(path.key("file_data").fault("is required: this provider cannot fetch a stored file"));
    }
    let data = path.key("file_data").text(data)?;
    let name = take(&mut file, "filename");
    let mut block = match strip_scheme(&data, "data:") {
        Some(data) => inline(data, &path.key("file_data"))?,
        None => return Err(path.key("file_data").fault("must be a data: URL")),
    };
    if blocks::is_type(&block, "document")
        && let (Some(block), true) = (block.as_object_mut(), name.is_string())
    {
        block.insert("title".to_owned(), name);
    }
    report.left_over("file", &file);
    Ok(block)
}

/// A `data:` URL without its scheme → an image or a document.
fn inline(data: &str, path: &Path<'_>) -> Result<Value> {
    let Some((head, data)) = data.split_once(',') else {
        return Err(path.fault("is not a complete data: URL"));
    };
    let mut parameters = head.split(';');
    let media_type = parameters.next().unwrap_or_default().trim().to_ascii_lowercase();
    if !parameters.any(|parameter| parameter.trim().eq_ignore_ascii_case("base64")) {
        return Err(path.fault("must be encoded in base64"));
    }
    if data.is_empty() {
        return Err(path.fault("holds no data"));
    }
    let (ty, media_type) = match media_type.as_str() {
        "image/jpeg" | "image/jpg" => ("image", "image/jpeg"),
        "image/png" => ("image", "image/png"),
        "image/gif" => ("image", "image/gif"),
        "image/webp" => ("image", "image/webp"),
        "application/pdf" => ("document", "application/pdf"),
        other => {
            let shown = crate::wire::request::shown(other);
            return Err(path.fault(format_args!("`{shown}` is not JPEG, PNG, GIF, WebP or PDF")));
        }
    };
    Ok(json!({"type": ty, "source": {"type": "base64", "media_type": media_type, "data": data}}))
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}
