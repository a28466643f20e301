"""The coroutines, against the real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import mcpctl
import pytest
from conftest import ADMIN, LLMS, PASSWORD, QUESTION
from mcpctl import _native
from stub_provider import WORDS, Provider


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


@pytest.fixture
def asynchronous(client: mcpctl.Client) -> mcpctl.AsyncClient:
    return mcpctl.AsyncClient(client.url, client.token)


def test_everything_has_a_coroutine(url: str, client: mcpctl.Client) -> None:
    async def work() -> None:
        other = mcpctl.AsyncClient(url)
        assert (await other.login(ADMIN, PASSWORD))["user"]["name"] == ADMIN
        assert other.token and other.token not in repr(other) + repr(vars(other))
        assert (await other.whoami())["user"]["name"] == ADMIN
        assert (await other.can_i("audit"))["allowed"] is True
        assert {model["id"] for model in await other.models()} == set(LLMS)
        made = await other.llms.create("crud", type="openai", model="m")
        assert await other.llms.get("crud") == made
        assert (await other.llms.update("crud", tier="heavy"))["tier"] == "heavy"
        assert [llm["name"] for llm in await other.llms.list(tier="heavy")] == ["crud"]
        await other.llms.delete("crud")
        with pytest.raises(mcpctl.NotFoundError):
            await other.llms.get("crud")
        for kind in _native.KINDS:
            assert isinstance(await getattr(other, kind).list(), list)
        await other.logout()
        with pytest.raises(mcpctl.UnauthenticatedError):
            await other.whoami()

    run(work())


def test_calls_run_side_by_side(asynchronous: mcpctl.AsyncClient) -> None:
    async def work() -> None:
        tasks = [asyncio.create_task(asynchronous.infer("hello", QUESTION)) for _ in range(20)]
        for answer in await asyncio.gather(*tasks):
            assert answer["choices"][0]["message"]["content"] == "Hello!"

    run(work())


def test_an_answer_comes_in_chunks(asynchronous: mcpctl.AsyncClient) -> None:
    async def work() -> None:
        chunks = await asynchronous.infer("hello", QUESTION, stream=True)
        words = [chunk["choices"][0]["delta"]["content"] async for chunk in chunks]
        assert words == WORDS
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        broken = await asynchronous.infer("breaks", QUESTION, stream=True)
        with pytest.raises(mcpctl.ProviderError, match="fell over"):
            async for _ in broken:
                pass

    run(work())


def test_cancelling_ends_the_request(asynchronous: mcpctl.AsyncClient, provider: Provider) -> None:
    async def work() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asynchronous.infer("silent", QUESTION), 0.3)
        assert await asyncio.to_thread(provider.client_left.wait, 5)

    run(work())


def test_leaving_an_iterator_ends_the_request(asynchronous: mcpctl.AsyncClient, provider: Provider) -> None:
    async def work() -> None:
        chunks = await asynchronous.infer("pauses", QUESTION, stream=True)
        async for _ in chunks:
            break
        # A wait that is cancelled loses no chunk.
        for _ in WORDS[1:]:
            await asyncio.wait_for(anext(chunks), 5)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(chunks), 0.2)
        assert not provider.client_left.is_set()
        del chunks
        assert await asyncio.to_thread(provider.client_left.wait, 5)

    run(work())


def test_the_loop_runs_while_a_call_waits(asynchronous: mcpctl.AsyncClient) -> None:
    async def work() -> None:
        waiting = asyncio.create_task(asynchronous.infer("silent", QUESTION))
        began = time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 2
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work())


def test_a_loop_that_ends_early_does_no_harm(asynchronous: mcpctl.AsyncClient, provider: Provider) -> None:
    async def leave() -> None:
        asyncio.ensure_future(asynchronous.infer("silent", QUESTION))
        await asyncio.to_thread(provider.arrived.wait, 5)

    asyncio.run(leave())
    assert provider.client_left.wait(5)
    run(answers(asynchronous))


async def answers(asynchronous: mcpctl.AsyncClient) -> None:
    assert len(await asynchronous.models()) == len(LLMS)


def test_without_a_loop_nothing_begins(asynchronous: mcpctl.AsyncClient, provider: Provider) -> None:
    coroutine = asynchronous.infer("hello", QUESTION)
    coroutine.close()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asynchronous.models().send(None)
    assert provider.requests == []
