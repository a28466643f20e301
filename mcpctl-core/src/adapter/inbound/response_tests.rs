use super::*;
use crate::{
    adapter::{Api, Codec, ProviderRequest, Settings},
    resource::LlmType,
    wire::{ChatRequest, SseDecoder},
};

fn encode(ty: LlmType, request: &Value) -> Result<ProviderRequest> {
    let request = ChatRequest::scan_for(&Bytes::from(request.to_string()), Api::Responses.required())?;
    let settings = Settings { llm_name: "l", model: "m", created: 7, ty: Some(ty), ..Settings::default() };
    Codec::new(Api::Responses, ty)?.encode(&request, &settings)
}

fn sent(request: &Value) -> (Value, Vec<String>) {
    let sent = encode(LlmType::Vllm, request).unwrap();
    (serde_json::from_slice(&sent.body).unwrap(), sent.dropped)
}

#[test]
fn a_text_is_one_message() {
    let request = json!({"model": "x", "input": "hi", "instructions": "be brief", "max_output_tokens": 9,
                         "temperature": 0.5, "store": false, "metadata": {"a": "b"}, "stream": true});
    let (body, dropped) = sent(&request);
    let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
    assert_eq!(
        body,
        json!({"model": "m", "messages": messages, "max_tokens": 9, "temperature": 0.5, "stream": true})
    );
    assert!(dropped.is_empty());
}

#[test]
fn items_tools_and_formats() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "1"});
    let schema = json!({"type": "object"});
    let request = json!({
        "input": [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "https://x/a.png", "detail": "low"}]},
            {"type": "reasoning", "id": "rs", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
            call("a"), call("b"), output("a"), output("b"),
        ],
        "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": true}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": true}},
        "reasoning": {"effort": "low"},
    });
    let (body, dropped) = sent(&request);
    let function =
        |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "1"});
    let image = json!({"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
            {"role": "assistant", "content": "ok", "tool_calls": [function("a"), function("b")]},
            result("a"), result("b"),
        ])
    );
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema, "strict": true}});
    assert_eq!(body["tools"], json!([tool]));
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    assert_eq!(
        body["response_format"]["json_schema"],
        json!({"name": "n", "schema": schema, "strict": true})
    );
    assert_eq!(body["reasoning_effort"], "low");
    assert_eq!(dropped, ["input.reasoning", "tools[1]"]);
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    for (request, place) in [
        (json!({}), "input is required"),
        (json!({"input": []}), "input is required"),
        (json!({"input": 7}), "input"),
        (json!({"input": "x", "previous_response_id": "r"}), "previous_response_id"),
        (json!({"input": "x", "background": true}), "background"),
        (json!({"input": [{"type": "item_reference", "id": "i"}]}), "input[0].type"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
            "image_url",
        ),
    ] {
        let error = encode(LlmType::Anthropic, &request).unwrap_err();
        assert!(error.message().contains(place), "{}", error.message());
    }
}

#[test]
fn a_whole_answer_is_a_response() {
    let request = json!({"input": "x", "metadata": {"a": "b"}, "temperature": 0.5});
    let context = encode(LlmType::Vllm, &request).unwrap().context;
    let answer = json!({"id": "chatcmpl-1", "model": "s", "choices": [{"finish_reason": "tool_calls", "message": {
        "content": "see", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let codec = Codec::new(Api::Responses, LlmType::Vllm).unwrap();
    let decoded = codec.decode(&answer.to_string().into(), &context).unwrap();
    let response: Value = serde_json::from_slice(&decoded.body).unwrap();
    assert_eq!((&response["id"], &response["status"]), (&json!("resp_1"), &json!("completed")));
    assert_eq!((&response["metadata"], &response["temperature"]), (&json!({"a": "b"}), &json!(0.5)));
    assert_eq!(response["output"][0]["content"][0]["text"], "see");
    assert_eq!(
        (&response["output"][1]["call_id"], &response["output"][1]["arguments"]),
        (&json!("c"), &json!("{}"))
    );
    assert_eq!(response["usage"]["total_tokens"], 7);
}

fn stream(bytes: &str) -> Vec<Value> {
    let codec = Codec::new(Api::Responses, LlmType::Vllm).unwrap();
    let mut decoder = codec.stream(DecodeContext::new("l", "m", 7));
    let mut out = Vec::new();
    decoder.push(Bytes::copy_from_slice(bytes.as_bytes()), &mut out);
    decoder.finish(&mut out);
    let mut events = SseDecoder::new();
    events.push(&out.concat()).unwrap();
    std::iter::from_fn(|| events.next_event())
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect()
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "1", "model": "s", "choices": [choice]}))
}

#[test]
fn a_stream_is_a_stream_of_events() {
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]});
    let text = [
        chunk(&json!({"content": "a"}), None),
        chunk(&json!({"content": "b"}), None),
        chunk(&call, None),
        chunk(&json!({}), Some("tool_calls")),
        "data: [DONE]\n\n".to_owned(),
    ];
    let events = stream(&text.concat());
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types.iter().map(|ty| ty.trim_start_matches("response.")).collect::<Vec<_>>(),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed"
        ]
    );
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index);
    }
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!((&output[0]["content"][0]["text"], &output[1]["name"]), (&json!("ab"), &json!("f")));
}

#[test]
fn a_stream_that_was_cut_says_so() {
    let cut = stream(&chunk(&json!({"content": "a"}), None));
    assert_eq!(cut.last().unwrap()["type"], "error");
    assert!(!cut.iter().any(|event| event["type"] == "response.completed"));
    let long =
        stream(&[chunk(&json!({"content": "a"}), Some("length")), "data: [DONE]\n\n".to_owned()].concat());
    let last = long.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
}
