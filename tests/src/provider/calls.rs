//! Answers that depend on the request: two calls of the first tool, or the object of a schema.

use serde_json::{Value, json};

use super::answer::{Api, Stream, chunk, event};

/// The arguments of the two calls; the second one's come in pieces when streamed.
pub const INPUTS: [&str; 2] = [r#"{"city":"Oslo"}"#, r#"{"city":"Rome","unit":"\u00b0C"}"#];

/// What the stub says when it is asked for an object.
pub const OBJECT: &str = r#"{"city":"Oslo","people":700000}"#;

/// The tool to call: the request has tools, and its last message brings no results.
pub(super) fn tool(asked: &Value) -> Option<&str> {
    let tool = &asked["tools"][0];
    let name = tool["function"]["name"].as_str().or(tool["name"].as_str())?;
    let last = asked["messages"].as_array().and_then(|messages| messages.last())?;
    let has_results = last["role"] == "tool" || last["content"].to_string().contains("\"tool_result\"");
    (!has_results && asked["tool_choice"] != "none").then_some(name)
}

/// Whether the request wants an object of a schema.
pub(super) fn wants_object(asked: &Value) -> bool {
    asked["response_format"]["type"] == "json_schema"
        || asked["output_config"]["format"]["type"] == "json_schema"
}

/// A whole answer that holds the object.
pub(super) fn object(api: Api, model: &str) -> Value {
    let mut answer = api.plain(model);
    match api {
        Api::Anthropic => answer["content"] = json!([{"type": "text", "text": OBJECT}]),
        _ => answer["choices"][0]["message"]["content"] = OBJECT.into(),
    }
    answer
}

/// A whole answer with both calls.
pub(super) fn plain(api: Api, model: &str, tool: &str) -> Value {
    let mut answer = api.plain(model);
    if api == Api::Anthropic {
        let uses = INPUTS.iter().enumerate().map(|(index, input)| {
            let input: Value = serde_json::from_str(input).unwrap();
            json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": tool, "input": input})
        });
        (answer["content"], answer["stop_reason"]) = (uses.collect(), "tool_use".into());
    } else {
        let calls = INPUTS.iter().enumerate().map(|(index, input)| {
            json!({"id": format!("call_{index}"), "type": "function",
                   "function": {"name": tool, "arguments": input}})
        });
        let choice = &mut answer["choices"][0];
        (choice["message"]["content"], choice["finish_reason"]) = (Value::Null, "tool_calls".into());
        choice["message"]["tool_calls"] = calls.collect();
    }
    answer
}

/// The same, streamed.
pub(super) fn stream(api: Api, model: &str, tool: &str, with_usage: bool) -> Stream {
    let mut stream = api.stream(model, with_usage);
    let pieces = |input: &'static str| [&input[..9], &input[9..]];
    if api == Api::Anthropic {
        stream.text.truncate(1);
        for (index, input) in INPUTS.into_iter().enumerate() {
            let block =
                json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": tool, "input": {}});
            stream.text.push(event("content_block_start", json!({"index": index, "content_block": block})));
            stream.text.extend(pieces(input).map(|piece| {
                let delta = json!({"type": "input_json_delta", "partial_json": piece});
                event("content_block_delta", json!({"index": index, "delta": delta}))
            }));
            stream.text.push(event("content_block_stop", json!({"index": index})));
        }
        let delta = json!({"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}});
        stream.finish = vec![event("message_delta", delta)];
    } else {
        stream.text.truncate(1);
        for (index, input) in INPUTS.into_iter().enumerate() {
            let call = |call: Value| chunk(model, &json!({"tool_calls": [call]}), Value::Null);
            let named = json!({"name": tool, "arguments": ""});
            stream.text.push(call(json!({"index": index, "id": format!("call_{index}"), "type": "function",
                                         "function": named})));
            let arguments = |piece| call(json!({"index": index, "function": {"arguments": piece}}));
            stream.text.extend(pieces(input).map(arguments));
        }
        stream.finish[0] = chunk(model, &json!({}), "tool_calls".into());
    }
    stream
}

/// Answers to what is neither streamed nor chat.
pub(super) fn other(path: &str, asked: &Value) -> Option<Value> {
    match path {
        "/v1/embeddings" => {
            let of = |index: usize| json!({"object": "embedding", "index": index, "embedding": [0.5, -0.25]});
            let many = asked["input"].as_array().map_or(1, Vec::len);
            let data: Value = (0..many).map(of).collect();
            Some(json!({"object": "list", "model": asked["model"], "data": data,
                        "usage": {"prompt_tokens": 3, "total_tokens": 3}}))
        }
        "/v1/messages/count_tokens" => Some(json!({"input_tokens": 12})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_answered_in_words() {
        let tools = json!([{"name": "f"}]);
        assert_eq!(tool(&json!({"tools": tools, "messages": [{"role": "user"}]})), Some("f"));
        assert_eq!(tool(&json!({"tools": tools, "messages": [{"role": "tool"}]})), None);
        assert_eq!(tool(&json!({"messages": [{"role": "user"}]})), None);
    }
}
