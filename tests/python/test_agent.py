"""An agent of Pydantic AI, which knows nothing of this server, does a task that takes two tools."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from conftest import LLMS, Server, Stub
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

WARMTH = {"Oslo": 4, "Rome": 21}


def openais(server: Server, token: str, llm: str) -> Any:
    return OpenAIChatModel(llm, provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key=token))


def anthropics(server: Server, token: str, llm: str) -> Any:
    client = AsyncAnthropic(base_url=server.url, api_key=token, max_retries=0)
    return AnthropicModel(llm, provider=AnthropicProvider(anthropic_client=client))


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("model", [openais, anthropics])
@pytest.mark.parametrize("streamed", [False, True])
def test_it_uses_both_tools(server: Server, stub: Stub, token: str, llm: str, model: Any, streamed: bool) -> None:
    used: list[Any] = []
    agent = Agent(model(server, token, llm), instructions="Find the warmest city.")

    @agent.tool_plain
    def temperature(city: str, unit: str = "°C") -> str:
        """How warm it is in a city."""
        used.append(city)
        return f"{city}: {WARMTH[city]} {unit}"

    @agent.tool_plain
    def warmest(reports: list[str]) -> str:
        """Which of these reports is of the warmest city."""
        used.append(sorted(reports))
        return max(reports, key=lambda report: int(report.split()[1]))

    async def run() -> tuple[str, Any]:
        if not streamed:
            result = await agent.run("Oslo or Rome?")
            return result.output, result
        async with agent.run_stream("Oslo or Rome?") as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
            return "".join(pieces), stream

    before = len(stub.received())
    output, result = asyncio.run(run())
    assert output == "The tools say: Rome: 21 °C"
    assert sorted(used[:2]) == ["Oslo", "Rome"] and used[2:] == [["Oslo: 4 °C", "Rome: 21 °C"]]
    usage = result.usage
    assert (usage.requests, usage.tool_calls, usage.output_tokens) == (3, 3, 15)
    assert (usage.input_tokens, usage.cache_read_tokens) == (27, 6)
    sent = stub.received()[before:]
    assert [request["body"].get("stream", False) for request in sent] == [streamed] * 3
    path = "/v1/messages" if llm == "anthropic" else "/v1/chat/completions"
    assert {request["path"].split("?")[0] for request in sent} == {path}
