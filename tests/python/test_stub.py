"""The stub provider against both vendors' SDKs: what it speaks is what they read."""

from __future__ import annotations

import anthropic
import openai
import pytest
from conftest import TEXT, Stub


def test_openais_sdk_reads_the_stub(stub: Stub) -> None:
    client = openai.OpenAI(base_url=f"{stub.url}/v1", api_key="k", max_retries=0)
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == TEXT
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="fault-status-429", messages=[{"role": "user", "content": "x"}])


def test_anthropics_sdk_reads_the_stub(stub: Stub) -> None:
    client = anthropic.Anthropic(base_url=stub.url, api_key="k", max_retries=0)
    answer = client.messages.create(
        model="m", max_tokens=10, messages=[{"role": "user", "content": "Hello"}]
    )
    assert "".join(block.text for block in answer.content if block.type == "text") == TEXT
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 5)
    with client.messages.stream(
        model="m", max_tokens=10, messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 5
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(
            model="fault-status-429", max_tokens=10, messages=[{"role": "user", "content": "x"}]
        )
