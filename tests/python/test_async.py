"""The asynchronous clients of both SDKs, where they have code of their own: tools, objects, errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from conftest import INPUTS, LLMS, TEXT, Server
from openai import AsyncOpenAI
from pydantic import BaseModel

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class City(BaseModel):
    city: str
    people: int


@pytest.mark.parametrize("llm", LLMS)
def test_openais(server: Server, token: str, llm: str) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]

    async def talk() -> None:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0) as client:
            chat = client.chat.completions
            async with chat.stream(model=llm, messages=MESSAGES, tools=tools) as stream:
                message = (await stream.get_final_completion()).choices[0].message
            calls = message.tool_calls or []
            assert [json.loads(call.function.arguments) for call in calls] == INPUTS
            said: Any = message.to_dict(exclude_none=True)
            results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
            said.pop("parsed", None)
            final = await chat.create(model=llm, messages=[*MESSAGES, said, *results], tools=tools)
            assert final.choices[0].message.content == TEXT
            parsed = await chat.parse(model=llm, messages=MESSAGES, response_format=City)
            assert parsed.choices[0].message.parsed == City(city="Oslo", people=700000)
            assert "openai" in [model.id async for model in client.models.list()]
            with pytest.raises(openai.NotFoundError):
                await chat.create(model="nowhere", messages=MESSAGES)
            with pytest.raises(openai.InternalServerError):
                await chat.create(model="refusing", messages=MESSAGES, stream=True)

    asyncio.run(talk())


@pytest.mark.parametrize("llm", LLMS)
def test_anthropics(server: Server, token: str, llm: str) -> None:
    async def talk() -> None:
        async with AsyncAnthropic(base_url=server.url, api_key=token, max_retries=0) as client:
            options: Any = {"model": llm, "max_tokens": 50}
            tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
            async with client.messages.stream(messages=MESSAGES, tools=tools, **options) as stream:
                answer = await stream.get_final_message()
            uses = [block for block in answer.content if block.type == "tool_use"]
            assert [use.input for use in uses] == INPUTS
            results: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"} for use in uses]
            turns: Any = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
            final = await client.messages.create(messages=[*MESSAGES, *turns], tools=tools, **options)
            assert "".join(block.text for block in final.content if block.type == "text") == TEXT
            parsed = await client.messages.parse(messages=MESSAGES, output_format=City, **options)
            assert parsed.parsed_output == City(city="Oslo", people=700000)
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="nowhere", max_tokens=9, messages=MESSAGES)
            with pytest.raises(anthropic.InternalServerError):
                await client.messages.create(model="refusing", max_tokens=9, messages=MESSAGES, stream=True)

    asyncio.run(talk())
