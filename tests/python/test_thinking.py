"""Thinking, with its signatures: it comes, and is sent back with the results of tools."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import Anthropic
from conftest import TEXT, THINKING, THOUGHT, Server, Stub
from openai import OpenAI

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize("streamed", [False, True])
def test_openais_sdk_sends_signed_thinking_back(server: Server, stub: Stub, token: str, streamed: bool) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0)

    def ask(messages: list[Any]) -> Any:
        options: dict[str, Any] = {"model": "anthropic", "messages": messages, "reasoning_effort": "low"}
        options["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
        options["max_completion_tokens"] = 4096
        if not streamed:
            return client.chat.completions.create(**options).choices[0].message
        with client.chat.completions.stream(**options) as stream:
            return stream.get_final_completion().choices[0].message

    message = ask(MESSAGES)
    assert message.reasoning_content == THOUGHT
    assert message.thinking_blocks == THINKING
    said = message.to_dict(exclude_none=True)
    said.pop("parsed", None)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    assert ask([*MESSAGES, said, *results]).content == TEXT
    body = stub.received()[-1]["body"]
    assert body["messages"][1]["content"][:2] == THINKING
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}


# What OpenAI does not take back is left out; other servers have a field for it.
@pytest.mark.parametrize("llm", ["anthropic", "vllm", "openai"])
@pytest.mark.parametrize("streamed", [False, True])
def test_anthropics_sdk_sends_thinking_back(
    server: Server, stub: Stub, token: str, llm: str, streamed: bool
) -> None:
    client = Anthropic(base_url=server.url, api_key=token, max_retries=0)

    def ask(messages: list[Any]) -> Any:
        options: dict[str, Any] = {"model": llm, "max_tokens": 4096, "messages": messages}
        options["tools"] = [{"name": "weather", "input_schema": SCHEMA}]
        options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if not streamed:
            return client.messages.create(**options)
        with client.messages.stream(**options) as stream:
            return stream.get_final_message()

    answer = ask(MESSAGES)
    assert answer.stop_reason == "tool_use"
    assert (answer.content[0].type, answer.content[0].thinking) == ("thinking", THOUGHT)
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in answer.content
        if block.type == "tool_use"
    ]
    assert len(results) == 2
    final = ask([*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}])
    assert "".join(block.text for block in final.content if block.type == "text") == TEXT
    sent = stub.received()[-1]["body"]["messages"]
    if llm == "anthropic":
        assert sent[1]["content"][:2] == THINKING
    else:
        assert sent[1].get("reasoning_content") == (THOUGHT if llm == "vllm" else None)
        assert [message["role"] for message in sent[2:]] == ["tool", "tool"]
