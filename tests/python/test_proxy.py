"""Unmodified SDKs through `mcpctl proxy`, and what they get while the server is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from anthropic import Anthropic
from conftest import TEXT, Server, Stage, Stub, binary, eventually, set_up
from openai import OpenAI

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
MARK = "x-mcpctl-failover"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One of its own for each test, whose server may be killed. `leased` gives leases, `refusing` is never served."""
    with set_up() as stage:
        leased = {"name": "leased", "type": "openai", "model": "leased-model", "url": stage.places["stub"]}
        leased["extraConfig"] = {"failoverLeaseSeconds": 600}
        server_of(stage).call("POST", "/api/v1/llms", leased, stage.places["admin"])
        yield stage


def server_of(stage: Stage) -> Server:
    return Server(stage.places["server"], stage.places["keys"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def proxy(stage: Stage, home: Path) -> Iterator[dict[str, str]]:
    """The environment that `mcpctl proxy` prints, with the stub as the local provider."""
    home.mkdir()
    names = ["leased", "refusing"]
    provider = {"name": "laptop", "type": "vllm", "model": "local-1", "failoverFor": names}
    config = {"providers": [provider | {"url": stage.places["stub"]}]}
    (home / "config.json").write_text(json.dumps(config))
    environment = {"MCPCTL_HOME": str(home), "PATH": os.environ["PATH"]}
    environment |= {"MCPCTL_URL": stage.places["server"], "MCPCTL_TOKEN": stage.places["admin"]}
    command = [binary("mcpctl"), "proxy", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        words = (process.stdout.readline() + process.stdout.readline()).split()
        yield dict(word.split("=", 1) for word in words if "=" in word)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def gpt(proxy: dict[str, str]) -> OpenAI:
    """As an application makes it that reads the environment."""
    return OpenAI(base_url=proxy["OPENAI_BASE_URL"], api_key=proxy["OPENAI_API_KEY"], max_retries=0)


@pytest.fixture
def claude(proxy: dict[str, str]) -> Anthropic:
    url, key = proxy["ANTHROPIC_BASE_URL"], proxy["ANTHROPIC_API_KEY"]
    return Anthropic(base_url=url, api_key=key, max_retries=0)


def ask(client: OpenAI, llm: str) -> tuple[str | None, str | None]:
    """What is said, and the mark of who says it."""
    raw = client.chat.completions.with_raw_response.create(model=llm, messages=MESSAGES)
    return raw.parse().choices[0].message.content, raw.headers.get(MARK)


def ask_streaming(client: OpenAI, llm: str) -> tuple[str, str | None]:
    create = client.chat.completions.with_streaming_response.create
    with create(model=llm, messages=MESSAGES, stream=True) as raw:
        chunks = list(raw.parse())
        said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        return said, raw.headers.get(MARK)


def leased(home: Path) -> bool:
    file = home / "leases.json"
    return file.exists() and any("leased" in kept["leases"] for kept in json.loads(file.read_text()).values())


def test_both_sdks_work_as_with_the_server(gpt: OpenAI, claude: Anthropic, stage: Stage) -> None:
    assert {"openai", "leased"} <= {model.id for model in gpt.models.list()}
    assert ask(gpt, "openai") == (TEXT, None)
    assert ask_streaming(gpt, "openai") == (TEXT, None)
    answer = claude.messages.create(model="anthropic", max_tokens=9, messages=MESSAGES)
    assert "".join(block.text for block in answer.content if block.type == "text") == TEXT
    with claude.messages.stream(model="openai", max_tokens=9, messages=MESSAGES) as stream:
        assert stream.get_final_text() == TEXT
    sent = str(Stub(stage.places["stub"]).received())
    assert gpt.api_key not in sent and stage.places["admin"] not in sent
    with pytest.raises(openai.NotFoundError):
        ask(gpt, "nowhere")
    with pytest.raises(openai.AuthenticationError):
        ask(gpt.with_options(api_key=stage.places["admin"]), "openai")


def test_a_provider_that_is_down_is_stood_in_for(gpt: OpenAI, claude: Anthropic) -> None:
    assert ask(gpt, "refusing") == (TEXT, "via=laptop")
    assert ask_streaming(gpt, "refusing") == (TEXT, "via=laptop")
    raw = claude.messages.with_raw_response.create(model="refusing", max_tokens=9, messages=MESSAGES)
    block = raw.parse().content[0]
    assert (block.type == "text" and block.text, raw.headers[MARK]) == (TEXT, "via=laptop")


def test_a_server_killed_in_the_middle_of_a_session_is_stood_in_for(
    gpt: OpenAI, claude: Anthropic, stage: Stage, home: Path
) -> None:
    assert ask(gpt, "leased") == (TEXT, None)
    assert ask(gpt, "openai") == (TEXT, None)
    eventually("a lease is kept", lambda: leased(home))
    stage.tell("kill")
    try:
        # The very next call, and then the others.
        assert ask(gpt, "leased") == (TEXT, "via=laptop; lease")
        assert ask_streaming(gpt, "leased") == (TEXT, "via=laptop; lease")
        with claude.messages.stream(model="leased", max_tokens=9, messages=MESSAGES) as stream:
            assert stream.get_final_text() == TEXT
            assert stream.response.headers[MARK] == "via=laptop; lease"
        received = Stub(stage.places["stub"]).received()
        assert [request["body"]["model"] for request in received[-3:]] == ["local-1"] * 3
        # An Llm without leases, and the list of models, are refused: it fails closed.
        for refused in (lambda: ask(gpt, "refusing"), lambda: ask(gpt, "openai"), lambda: gpt.models.list()):
            with pytest.raises(openai.InternalServerError) as error:
                refused()
            assert error.value.status_code == 503 and "connection refused" in error.value.message
    finally:
        stage.tell("restart")
    assert ask(gpt, "leased") == (TEXT, None)


def test_without_its_llm_the_next_failover_is_refused(gpt: OpenAI, stage: Stage, home: Path) -> None:
    assert ask(gpt, "leased") == (TEXT, None)
    eventually("a lease is kept", lambda: leased(home))
    server_of(stage).call("DELETE", "/api/v1/llms/leased", token=stage.places["admin"])
    with pytest.raises(openai.NotFoundError):
        ask(gpt, "leased")
    stage.tell("kill")
    try:
        with pytest.raises(openai.InternalServerError) as error:
            ask(gpt, "leased")
        assert "no lease is held" in error.value.message
    finally:
        stage.tell("restart")
