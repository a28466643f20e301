"""Callers that try again, and callers that leave: with both SDKs, in both of their ways."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic
from conftest import LLMS, TEXT, Server, Stub, eventually
from openai import AsyncOpenAI, OpenAI

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]


def openai(server: Server, token: str, llm: str, kind: Any = OpenAI, retries: int = 0) -> Any:
    return kind(base_url=f"{server.url}/api/v1/llms/{llm}/v1", api_key=token, max_retries=retries, timeout=30)


def anthropic(server: Server, token: str, llm: str, kind: Any = Anthropic, retries: int = 0) -> Any:
    return kind(base_url=f"{server.url}/api/v1/llms/{llm}", api_key=token, max_retries=retries, timeout=30)


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("stream", [False, True])
def test_429_is_tried_again_after_the_time_it_names(
    server: Server, stub: Stub, token: str, llm: str, stream: bool
) -> None:
    for sdk in (openai, anthropic):
        client = sdk(server, token, llm, retries=1)
        options: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 9, "stream": stream}
        # Each body is refused once.
        options["model"] = f"{sdk.__name__}-fault-busy"
        before, began = len(stub.received()), time.monotonic()
        answer = (client.chat.completions if sdk is openai else client.messages).create(**options)
        # The SDKs' own first wait is half a second at most.
        assert time.monotonic() - began >= 1
        assert len(stub.received()) == before + 2
        said = str(list(answer) if stream else answer)
        assert "from the stub" in said


@pytest.mark.parametrize("llm", LLMS)
def test_leaving_a_stream_closes_the_providers_connection(
    server: Server, stub: Stub, token: str, llm: str
) -> None:
    before, client = stub.hung_up(), openai(server, token, llm)
    with client.chat.completions.create(model="fault-endless", messages=MESSAGES, stream=True) as stream:
        assert next(iter(stream))
    eventually("the provider sees OpenAI's client leave", lambda: stub.hung_up() == before + 1)
    assert client.chat.completions.create(model="good", messages=MESSAGES).choices[0].message.content == TEXT
    with anthropic(server, token, llm).messages.stream(
        model="fault-endless", max_tokens=9, messages=MESSAGES
    ) as stream:
        assert next(iter(stream.text_stream))
    eventually("the provider sees Anthropic's client leave", lambda: stub.hung_up() == before + 2)


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("fault", ["endless", "silent"])
@pytest.mark.parametrize("sdk", [openai, anthropic])
def test_a_cancelled_task_closes_the_providers_connection(
    server: Server, stub: Stub, token: str, llm: str, fault: str, sdk: Any
) -> None:
    async def leave() -> None:
        kind = AsyncOpenAI if sdk is openai else AsyncAnthropic
        begun = asyncio.Event()

        async def listen(client: Any) -> None:
            api = client.chat.completions if sdk is openai else client.messages
            options: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 9, "stream": True}
            async for _ in await api.create(model=f"fault-{fault}", **options):
                begun.set()

        async with sdk(server, token, llm, kind=kind) as client:
            seen = len(stub.received())
            task = asyncio.create_task(listen(client))
            if fault == "endless":
                await asyncio.wait_for(begun.wait(), 10)
            else:
                asked = lambda: len(stub.received()) > seen  # noqa: E731
                await asyncio.to_thread(eventually, "the provider is asked", asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The client is still open: it is the task that has left.
            gone = lambda: stub.hung_up() == before + 1  # noqa: E731
            await asyncio.to_thread(eventually, "the provider sees it", gone)

    before = stub.hung_up()
    asyncio.run(leave())
