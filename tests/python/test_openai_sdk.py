"""OpenAI's own SDK, with nothing changed but its base URL and its key."""

from __future__ import annotations

import asyncio
import json
import urllib.error

import openai
import pytest
from conftest import LLMS, TEXT, Server, Stub
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
]


@pytest.fixture
def client(server: Server, token: str) -> OpenAI:
    return connect(server, token)


def connect(server: Server, token: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=30)


@pytest.mark.parametrize("llm", LLMS)
def test_a_plain_call(client: OpenAI, stub: Stub, server: Server, token: str, llm: str) -> None:
    answer = client.chat.completions.create(model=llm, messages=MESSAGES, temperature=0.5)
    assert answer.object == "chat.completion"
    assert answer.model == f"{llm}-model"
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert answer.usage is not None
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert usage == (9, 5, 14)
    sent = stub.received()[-1]
    assert sent["body"]["model"] == f"{llm}-model"
    assert server.keys[llm] in str(sent["headers"])
    assert token not in str(sent)


@pytest.mark.parametrize("llm", LLMS)
def test_a_streamed_call(client: OpenAI, llm: str) -> None:
    stream = client.chat.completions.create(
        model=llm, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == TEXT
    assert [choice.finish_reason for choice in said if choice.finish_reason] == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14


@pytest.mark.parametrize("llm", LLMS)
def test_the_async_client(server: Server, token: str, llm: str) -> None:
    async def talk() -> str:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0) as client:
            stream = await client.chat.completions.create(model=llm, messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert asyncio.run(talk()) == TEXT


def test_models_are_the_llms_that_may_be_run(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["anthropic", "openai", "refusing", "vllm"]


def test_the_llms_own_route_takes_an_sdk_as_well(server: Server, token: str) -> None:
    answer = server.call("POST", "/api/v1/llms/openai/infer", {"messages": MESSAGES}, token)
    assert answer["choices"][0]["message"]["content"] == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_400_is_a_bad_request(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="messages is required") as caught:
        client.chat.completions.create(model="openai", messages=[], stream=stream)
    assert caught.value.status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_401_is_an_authentication_error(server: Server, stream: bool) -> None:
    stranger = connect(server, "not-a-token")
    with pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="openai", messages=MESSAGES, stream=stream)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_403_is_permission_denied(server: Server, editor: str, stream: bool) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="run:llms:openai"):
        connect(server, editor).chat.completions.create(model="openai", messages=MESSAGES, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_404_is_not_found(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="nowhere"):
        client.chat.completions.create(model="nowhere", messages=MESSAGES, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_502_is_a_server_error_that_names_the_llm(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError, match="refusing") as caught:
        client.chat.completions.create(model="refusing", messages=MESSAGES, stream=stream)
    assert caught.value.status_code == 502


# Over the Llm's own route the model is free, and the stub does what a model's name asks for.
@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize(
    ("fault", "status"),
    [("status-400", 400), ("status-401", 502), ("status-429", 429), ("status-500", 500), ("html", 502)],
)
def test_the_providers_faults_keep_their_status(
    server: Server, admin: str, llm: str, fault: str, status: int
) -> None:
    body = {"model": f"fault-{fault}", "messages": MESSAGES}
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.call("POST", f"/api/v1/llms/{llm}/infer", body, admin)
    assert caught.value.code == status
    text = caught.value.read().decode()
    assert json.loads(text)["error"]
    assert server.keys[llm] not in text


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("fault", ["reset", "truncated", "no-finish", "error-frame"])
def test_a_stream_that_breaks_off_raises(
    server: Server, admin: str, token: str, llm: str, fault: str
) -> None:
    name = f"{llm}-{fault}"
    base = server.call("GET", f"/api/v1/llms/{llm}", token=admin)
    broken = {key: base[key] for key in ("type", "url", "apiKeyRef")}
    server.call("POST", "/api/v1/llms", {**broken, "name": name, "model": f"fault-{fault}"}, admin)
    try:
        said = []
        with pytest.raises(openai.APIError):
            for chunk in connect(server, token).chat.completions.create(
                model=name, messages=MESSAGES, stream=True
            ):
                said += [choice.delta.content or "" for choice in chunk.choices]
        assert "".join(said) == TEXT
    finally:
        server.call("DELETE", f"/api/v1/llms/{name}", token=admin)
