//! Answers that depend on the request: calls of its tools, or the object of a schema.

use serde_json::{Value, json};

use super::answer::{Api, PARTS, Stream, chunk, event};

/// The arguments of the two calls; the second one's come in pieces when streamed.
pub const INPUTS: [&str; 2] = [r#"{"city":"Oslo"}"#, r#"{"city":"Rome","unit":"\u00b0C"}"#];

/// What the stub says when it is asked for an object.
pub const OBJECT: &str = r#"{"city":"Oslo","people":700000}"#;

/// What a request for chat gets: words, calls of its tools, or the object it wants.
pub(super) fn answer(
    api: Api,
    model: &str,
    asked: &Value,
    streamed: bool,
    with_usage: bool,
) -> (Value, Option<Stream>) {
    let calls = Some(calls(asked)).filter(|calls| !calls.is_empty());
    match calls.filter(|_| matches!(api, Api::OpenAi | Api::Anthropic)) {
        Some(calls) => (plain(api, model, &calls), streamed.then(|| stream(api, model, &calls, with_usage))),
        None => match words(asked) {
            Some(text) => {
                (saying(api, model, &text), streamed.then(|| streaming(api, model, &text, with_usage)))
            }
            None => (api.plain(model), streamed.then(|| api.stream(model, with_usage))),
        },
    }
}

/// One call: its id without the prefix, the tool, and the arguments.
type Call = (usize, String, String);

/// The calls to make. The first tool is called twice; a second one, once those results are there, with both of them
/// as its `reports`.
fn calls(asked: &Value) -> Vec<Call> {
    if asked["tool_choice"] == "none" {
        return Vec::new();
    }
    let tool = |index: usize| {
        let tool = &asked["tools"][index];
        tool["function"]["name"].as_str().or(tool["name"].as_str()).map(str::to_owned)
    };
    match (results(asked).as_slice(), tool(0), tool(1)) {
        ([], Some(first), _) => INPUTS
            .iter()
            .enumerate()
            .map(|(index, input)| (index, first.clone(), (*input).to_owned()))
            .collect(),
        (reports @ [_, _], _, Some(second)) => {
            vec![(INPUTS.len(), second, json!({ "reports": reports }).to_string())]
        }
        _ => Vec::new(),
    }
}

/// What the tools said that the last turn brings the results of.
fn results(asked: &Value) -> Vec<String> {
    let messages = asked["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text =
        |content: &Value| content.as_str().or(content[0]["text"].as_str()).unwrap_or_default().to_owned();
    let mut results = Vec::new();
    for message in messages.iter().rev() {
        let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let in_blocks: Vec<_> = blocks.iter().filter(|block| block["type"] == "tool_result").collect();
        if message["role"] == "tool" {
            results.insert(0, text(&message["content"]));
        } else if results.is_empty() && !in_blocks.is_empty() {
            return in_blocks.iter().map(|block| text(&block["content"])).collect();
        } else {
            break;
        }
    }
    results
}

/// What to say instead of the usual words: the object that is wanted, or what the second of two tools found.
fn words(asked: &Value) -> Option<String> {
    let formats = [
        &asked["response_format"]["type"],
        &asked["output_config"]["format"]["type"],
        &asked["text"]["format"]["type"],
    ];
    if formats.into_iter().any(|format| format == "json_schema") {
        return Some(OBJECT.to_owned());
    }
    match (results(asked).as_slice(), &asked["tools"][1]) {
        ([found], Value::Object(_)) => Some(format!("The tools say: {found}")),
        _ => None,
    }
}

/// A whole answer of these words.
fn saying(api: Api, model: &str, text: &str) -> Value {
    let mut answer = api.plain(model);
    match api {
        Api::Anthropic => answer["content"] = json!([{"type": "text", "text": text}]),
        Api::Responses => answer["output"][0]["content"][0]["text"] = text.into(),
        Api::OpenAi => answer["choices"][0]["message"]["content"] = text.into(),
        Api::Completions => answer["choices"][0]["text"] = text.into(),
    }
    answer
}

/// The same, streamed in two pieces.
fn streaming(api: Api, model: &str, text: &str, with_usage: bool) -> Stream {
    let mut stream = api.stream(model, with_usage);
    let first = stream.text.len() - PARTS.len();
    stream.text.truncate(first);
    let (begin, end) = text.split_at(text.floor_char_boundary(text.len() / 2));
    stream.text.extend([begin, end].map(|piece| api.delta(model, piece)));
    // The last events of a response repeat the whole text.
    let quoted = |text: &str| Value::from(text).to_string();
    for event in stream.finish.iter_mut().chain([&mut stream.end]) {
        *event = event.replace(&quoted(&PARTS.concat()), &quoted(text));
    }
    stream
}

/// A whole answer with these calls.
fn plain(api: Api, model: &str, calls: &[Call]) -> Value {
    let mut answer = api.plain(model);
    if api == Api::Anthropic {
        let uses = calls.iter().map(|(index, tool, input)| {
            let input: Value = serde_json::from_str(input).unwrap();
            json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": tool, "input": input})
        });
        (answer["content"], answer["stop_reason"]) = (uses.collect(), "tool_use".into());
    } else {
        let calls = calls.iter().map(|(index, tool, input)| {
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
fn stream(api: Api, model: &str, calls: &[Call], with_usage: bool) -> Stream {
    let mut stream = api.stream(model, with_usage);
    let pieces = |input: &str| [input[..9].to_owned(), input[9..].to_owned()];
    if api == Api::Anthropic {
        stream.text.truncate(1);
        for (index, (number, tool, input)) in calls.iter().enumerate() {
            let block =
                json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": tool, "input": {}});
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
        for (index, (number, tool, input)) in calls.iter().enumerate() {
            let call = |call: Value| chunk(model, &json!({"tool_calls": [call]}), Value::Null);
            let named = json!({"name": tool, "arguments": ""});
            stream
                .text
                .push(call(json!({"index": index, "id": format!("call_{number}"), "type": "function",
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
    fn the_first_tool_is_called_twice_and_the_second_with_what_it_said() {
        let names = |asked: &Value| calls(asked).into_iter().map(|(_, tool, _)| tool).collect::<Vec<_>>();
        let tools = json!([{"name": "f"}, {"name": "g"}]);
        let ask = |messages: Value| json!({"tools": tools, "messages": messages});
        assert_eq!(names(&ask(json!([{"role": "user", "content": "x"}]))), ["f", "f"]);
        assert!(names(&json!({"messages": [{"role": "user", "content": "x"}]})).is_empty());
        let result = |text: &str| json!({"role": "tool", "content": text});
        let reported = ask(json!([{"role": "assistant"}, result("a"), result("b")]));
        assert_eq!(calls(&reported), [(2, "g".to_owned(), r#"{"reports":["a","b"]}"#.to_owned())]);
        let block = json!({"type": "tool_result", "content": [{"type": "text", "text": "c"}]});
        let found = ask(json!([{"role": "assistant"}, {"role": "user", "content": [block]}]));
        assert!(calls(&found).is_empty());
        assert_eq!(words(&found).unwrap(), "The tools say: c");
    }
}
