"""Anthropic's own SDK, with nothing changed but its base URL and its key."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam, ToolParam
from conftest import INPUTS, LLMS, TEXT, Server, Stub
from pydantic import BaseModel

MESSAGES: list[MessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class City(BaseModel):
    city: str
    people: int


@pytest.fixture
def client(server: Server, token: str) -> Anthropic:
    return connect(server, token)


def connect(server: Server, token: str, llm: str | None = None, retries: int = 0) -> Anthropic:
    """With an Llm, a client that is bound to it: there the stub does what a model's name asks for."""
    path = f"/api/v1/llms/{llm}" if llm else ""
    return Anthropic(base_url=server.url + path, api_key=token, max_retries=retries, timeout=30)


@pytest.mark.parametrize("llm", LLMS)
def test_a_plain_call(client: Anthropic, stub: Stub, server: Server, token: str, llm: str) -> None:
    answer = client.messages.create(
        model=llm,
        max_tokens=50,
        system="Be brief.",
        stop_sequences=["END"],
        messages=MESSAGES,
        extra_body={"temperature": 0.5},
    )
    assert "".join(block.text for block in answer.content if block.type == "text") == TEXT
    assert (answer.role, answer.stop_reason, answer.model) == ("assistant", "end_turn", f"{llm}-model")
    usage = answer.usage
    assert usage.input_tokens == (7 if llm == "openai" else 6) and usage.cache_read_input_tokens == 2
    assert usage.output_tokens == 5
    sent = stub.received()[-1]
    assert sent["body"]["temperature"] == 0.5
    assert server.keys[llm] in str(sent["headers"])
    assert token not in str(sent)


@pytest.mark.parametrize("llm", LLMS)
def test_a_streamed_call(client: Anthropic, llm: str) -> None:
    with client.messages.stream(model=llm, max_tokens=50, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 5
    assert message.usage.input_tokens in (6, 7)


@pytest.mark.parametrize("llm", LLMS)
def test_the_async_client(server: Server, token: str, llm: str) -> None:
    async def talk() -> str:
        async with AsyncAnthropic(base_url=server.url, auth_token=token, max_retries=0) as client:
            async with client.messages.stream(model=llm, max_tokens=9, messages=MESSAGES) as stream:
                return "".join([text async for text in stream.text_stream])

    assert asyncio.run(talk()) == TEXT


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("streamed", [False, True])
def test_two_parallel_calls_and_their_results(client: Anthropic, stub: Stub, llm: str, streamed: bool) -> None:
    def ask(messages: list[MessageParam]) -> anthropic.types.Message:
        options: dict[str, Any] = {"model": llm, "max_tokens": 50, "tools": [WEATHER], "messages": messages}
        if not streamed:
            return client.messages.create(**options)
        with client.messages.stream(**options) as stream:
            return stream.get_final_message()

    answer = ask(MESSAGES)
    assert answer.stop_reason == "tool_use"
    uses = [block for block in answer.content if block.type == "tool_use"]
    assert [use.name for use in uses] == ["weather", "weather"]
    assert [use.input for use in uses] == INPUTS
    assert len({use.id for use in uses}) == 2
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": use.id, "content": f"sunny in {use.id}"} for use in uses
    ]
    final = ask([*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}])
    assert "".join(block.text for block in final.content if block.type == "text") == TEXT
    sent = stub.received()[-1]["body"]["messages"]
    if llm == "openai":
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
        assert [message["tool_call_id"] for message in sent[2:]] == [use.id for use in uses]
    else:
        assert [block["tool_use_id"] for block in sent[2]["content"]] == [use.id for use in uses]


@pytest.mark.parametrize("llm", LLMS)
def test_an_image(client: Anthropic, stub: Stub, llm: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    content: Any = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]
    client.messages.create(model=llm, max_tokens=9, messages=[{"role": "user", "content": content}])
    part = stub.received()[-1]["body"]["messages"][0]["content"][1]
    expected: Any = {"type": "image", "source": source}
    if llm == "openai":
        expected = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert part == expected


@pytest.mark.parametrize("llm", LLMS)
def test_structured_output(client: Anthropic, llm: str) -> None:
    city = City(city="Oslo", people=700000)
    answer = client.messages.parse(model=llm, max_tokens=50, messages=MESSAGES, output_format=City)
    assert answer.parsed_output == city
    with client.messages.stream(model=llm, max_tokens=50, messages=MESSAGES, output_format=City) as stream:
        assert stream.get_final_message().parsed_output == city


def test_tokens_are_counted_where_the_provider_can(client: Anthropic) -> None:
    assert client.messages.count_tokens(model="anthropic", messages=MESSAGES).input_tokens == 12
    with pytest.raises(anthropic.InternalServerError, match="not supported by provider type openai") as caught:
        client.messages.count_tokens(model="openai", messages=MESSAGES)
    assert caught.value.status_code == 501


def test_our_own_errors_have_their_classes(server: Server, client: Anthropic, editor: str) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        connect(server, "not-a-token").messages.create(model="openai", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.PermissionDeniedError, match="run:llms:openai"):
        connect(server, editor).messages.create(model="openai", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.NotFoundError, match="nowhere"):
        client.messages.create(model="nowhere", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.BadRequestError, match="messages is required"):
        client.messages.create(model="openai", max_tokens=9, messages=[])
    with pytest.raises(anthropic.InternalServerError, match="refusing"):
        client.messages.create(model="refusing", max_tokens=9, messages=MESSAGES)


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-400", anthropic.BadRequestError),
        ("status-401", anthropic.InternalServerError),
        ("status-403", anthropic.InternalServerError),
        ("status-404", anthropic.NotFoundError),
        ("status-429", anthropic.RateLimitError),
        ("status-422", anthropic.UnprocessableEntityError),
        ("status-500", anthropic.InternalServerError),
        ("status-502", anthropic.InternalServerError),
        ("html", anthropic.InternalServerError),
    ],
)
def test_a_providers_errors_have_their_classes(
    server: Server, token: str, llm: str, stream: bool, fault: str, error: type[anthropic.APIStatusError]
) -> None:
    bound = connect(server, token, llm)
    with pytest.raises(error) as caught:
        bound.messages.create(model=f"fault-{fault}", max_tokens=9, messages=MESSAGES, stream=stream)
    assert server.keys[llm] not in str(caught.value.body)
    body: Any = caught.value.body
    assert body["type"] == "error" and body["error"]["message"]


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("fault", ["reset", "truncated", "no-finish", "error-frame"])
def test_a_stream_that_breaks_off_raises(server: Server, token: str, llm: str, fault: str) -> None:
    said = []
    with (
        pytest.raises(anthropic.APIError),
        connect(server, token, llm).messages.stream(
            model=f"fault-{fault}", max_tokens=9, messages=MESSAGES
        ) as stream,
    ):
        said.extend(stream.text_stream)
    assert "".join(said) == TEXT
