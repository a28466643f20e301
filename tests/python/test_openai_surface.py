"""OpenAI's SDK: tools, images, structured output, embeddings, responses, errors, retries, leaving early."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest
from conftest import INPUTS, LLMS, TEXT, Server, Stub
from openai import OpenAI
from pydantic import BaseModel

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    city: str
    people: int


@pytest.fixture
def client(server: Server, token: str) -> OpenAI:
    return connect(server, token)


def connect(server: Server, token: str, llm: str | None = None, retries: int = 0) -> OpenAI:
    """With an Llm, a client that is bound to it: there the stub does what a model's name asks for."""
    path = f"/api/v1/llms/{llm}" if llm else ""
    return OpenAI(base_url=f"{server.url}{path}/v1", api_key=token, max_retries=retries, timeout=30)


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("streamed", [False, True])
def test_two_parallel_calls_and_their_results(client: OpenAI, stub: Stub, llm: str, streamed: bool) -> None:
    def ask(messages: list[Any]) -> Any:
        if not streamed:
            return client.chat.completions.create(model=llm, messages=messages, tools=[WEATHER]).choices[0]
        with client.chat.completions.stream(model=llm, messages=messages, tools=[WEATHER]) as stream:
            return stream.get_final_completion().choices[0]

    choice = ask(MESSAGES)
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "weather"]
    assert [json.loads(call.function.arguments) for call in calls] == INPUTS
    said = {
        "role": "assistant",
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in calls
        ],
    }
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    assert ask([*MESSAGES, said, *results]).message.content == TEXT
    sent = stub.received()[-1]["body"]["messages"]
    if llm == "anthropic":
        assert [block["tool_use_id"] for block in sent[-1]["content"]] == [call.id for call in calls]


@pytest.mark.parametrize("llm", LLMS)
def test_an_image(client: OpenAI, stub: Stub, llm: str) -> None:
    part: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content: Any = [{"type": "text", "text": "What is it?"}, part]
    client.chat.completions.create(model=llm, messages=[{"role": "user", "content": content}])
    sent = stub.received()[-1]["body"]["messages"][0]["content"][1]
    assert "iVBORw0KGgo=" in str(sent) and sent["type"] == ("image" if llm == "anthropic" else "image_url")


@pytest.mark.parametrize("llm", LLMS)
def test_structured_output(client: OpenAI, llm: str) -> None:
    city = City(city="Oslo", people=700000)
    answer = client.chat.completions.parse(model=llm, messages=MESSAGES, response_format=City)
    assert answer.choices[0].message.parsed == city
    with client.chat.completions.stream(model=llm, messages=MESSAGES, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == city
    assert client.responses.parse(model=llm, input="Hello", text_format=City).output_parsed == city


def test_embeddings(client: OpenAI) -> None:
    answer = client.embeddings.create(model="openai", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in answer.data] == [[0.5, -0.25]] * 2
    with pytest.raises(openai.InternalServerError, match="not supported by provider type anthropic"):
        client.embeddings.create(model="anthropic", input="a")


def test_completions(client: OpenAI) -> None:
    assert client.completions.create(model="openai", prompt="a").choices[0].text == TEXT
    stream = client.completions.create(model="openai", prompt="a", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == TEXT


@pytest.mark.parametrize("llm", LLMS)
def test_responses(client: OpenAI, llm: str) -> None:
    answer = client.responses.create(model=llm, input="Hello", instructions="Be brief.")
    assert (answer.output_text, answer.status) == (TEXT, "completed")
    assert answer.usage is not None and answer.usage.output_tokens == 5
    with client.responses.stream(model=llm, input="Hello") as stream:
        said = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(said) == TEXT == final.output_text


def test_tools_of_a_translated_response(client: OpenAI, stub: Stub) -> None:
    tool: Any = {"type": "function", "strict": False, **WEATHER["function"]}
    answer = client.responses.create(model="anthropic", input="Hello", tools=[tool])
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == INPUTS
    items: list[Any] = [{"role": "user", "content": "Hello"}]
    items += [call.model_dump(exclude_none=True) for call in calls]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    assert client.responses.create(model="anthropic", input=items, tools=[tool]).output_text == TEXT
    sent = stub.received()[-1]["body"]["messages"]
    assert [block["tool_use_id"] for block in sent[-1]["content"]] == [call.call_id for call in calls]


def test_one_model(client: OpenAI) -> None:
    assert client.models.retrieve("openai").id == "openai"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nowhere")


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-400", openai.BadRequestError),
        ("status-401", openai.InternalServerError),
        ("status-403", openai.InternalServerError),
        ("status-404", openai.NotFoundError),
        ("status-409", openai.ConflictError),
        ("status-422", openai.UnprocessableEntityError),
        ("status-429", openai.RateLimitError),
        ("status-500", openai.InternalServerError),
        ("status-502", openai.InternalServerError),
    ],
)
def test_a_providers_errors_have_their_classes(
    server: Server, token: str, llm: str, fault: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error):
        connect(server, token, llm).chat.completions.create(model=f"fault-{fault}", messages=MESSAGES)


def test_429_is_tried_again_after_the_time_it_names(
    server: Server, token: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    before = len(stub.received())
    with pytest.raises(openai.RateLimitError):
        connect(server, token, "openai", retries=2).chat.completions.create(
            model="fault-status-429", messages=MESSAGES
        )
    assert len(stub.received()) == before + 3
    assert waits == [7, 7]
