"""The embedded core."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import mcpctl
import pytest
from conftest import LLMS, QUESTION, register
from stub_provider import WORDS, Provider


def test_resources_are_created_read_changed_and_deleted(registry: mcpctl.Registry) -> None:
    made = registry.llms.create("crud", type="openai", model="m")
    changed = registry.llms.update("crud", tier="heavy", version=1)
    assert (changed["id"], changed["version"]) == (made["id"], 2)
    assert registry.llms.get(made["id"]) == changed
    assert [llm["name"] for llm in registry.llms.list(tier="heavy")] == ["crud"]
    registry.llms.delete("crud")
    assert [llm["name"] for llm in registry.llms.list()] == sorted(LLMS)
    assert registry.secrets.get("provider")["keys"] == ["key"]
    assert registry.secrets.get("provider", show_values=True)["data"] == {"key": "sk-very-secret"}


def test_an_llm_answers(registry: mcpctl.Registry, provider: Provider) -> None:
    answer = registry.infer("hello", QUESTION, temperature=0)
    assert answer["choices"][0]["message"]["content"] == "Hello!"
    chunks = registry.infer("hello", QUESTION, stream=True)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == WORDS
    assert provider.keys == ["Bearer sk-very-secret"] * 2
    assert {model["id"] for model in registry.models()} == set(LLMS)


def test_leaving_an_iterator_ends_the_request(registry: mcpctl.Registry, provider: Provider) -> None:
    chunks = registry.infer("pauses", QUESTION, stream=True)
    next(chunks)
    del chunks
    assert provider.client_left.wait(5)


def test_errors_come_by_cause(registry: mcpctl.Registry) -> None:
    with pytest.raises(mcpctl.InvalidError, match="teir: unknown field"):
        registry.llms.create("x", type="openai", model="m", teir="fast")
    with pytest.raises(mcpctl.ConflictError):
        registry.llms.create("hello", type="openai", model="m")
    with pytest.raises(mcpctl.NotFoundError):
        registry.infer("missing", QUESTION)
    for stream in (False, True):
        with pytest.raises(mcpctl.RateLimitedError, match="slow down"):
            registry.infer("refuses", QUESTION, stream)
    with pytest.raises(mcpctl.ProviderError):
        registry.infer("rubbish", QUESTION)
    with pytest.raises(mcpctl.ProviderError, match="fell over"):
        list(registry.infer("breaks", QUESTION, stream=True))
    with pytest.raises(mcpctl.InvalidError, match="llms have no values"):
        registry.llms.get("hello", show_values=True)


def test_a_database_is_kept_and_its_values_are_sealed(tmp_path: Path, provider: Provider) -> None:
    url = f"sqlite://{tmp_path}/mcpctl.db"
    with mcpctl.Registry.open(url) as registry:
        register(registry, provider)
        with pytest.raises(mcpctl.ConflictError, match="in use"):
            mcpctl.Registry.open(url)
    with pytest.raises(mcpctl.InvalidError, match="closed"):
        registry.llms.list()
    registry.close()
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    for file in tmp_path.iterdir():
        assert b"sk-very-secret" not in file.read_bytes(), file

    with mcpctl.Registry.open(url) as registry:
        assert registry.infer("hello", QUESTION)["choices"]
        assert provider.keys == ["Bearer sk-very-secret"]
    with pytest.raises(mcpctl.SealedError):
        mcpctl.Registry.open(url, master_key="ab" * 32)
    key = (tmp_path / "master.key").read_text()
    (tmp_path / "master.key").unlink()
    with mcpctl.Registry.open(url, master_key=key) as registry:
        assert len(registry.llms.list()) == len(LLMS)
    assert not (tmp_path / "master.key").exists()


def test_closing_ends_what_is_still_running(tmp_path: Path, provider: Provider) -> None:
    url = f"sqlite://{tmp_path}/mcpctl.db"
    with mcpctl.Registry.open(url) as registry:
        register(registry, provider)
        chunks = registry.infer("pauses", QUESTION, stream=True)
        next(chunks)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert provider.client_left.wait(5)
    with pytest.raises(mcpctl.UnavailableError, match="cut off"):
        list(chunks)
    assert list(chunks) == []
    mcpctl.Registry.open(url).close()


def test_a_process_ends_whatever_it_left_open(url: str, client: mcpctl.Client) -> None:
    script = """
import mcpctl, sys
url, token, question = sys.argv[1], sys.argv[2], [{"role": "user", "content": "x"}]
registry = mcpctl.Registry.open("memory://")
client = mcpctl.Client(url, token)
chunks = client.infer("pauses", question, stream=True)
print(next(chunks)["id"])
import asyncio
async def leave():
    asyncio.ensure_future(mcpctl.AsyncClient(url, token).infer("silent", question))
    await asyncio.sleep(0.1)
asyncio.run(leave())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, url, str(client.token)], capture_output=True, text=True, timeout=20
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for url in ("", "nonsense", "sqlite://", f"sqlite://{tmp_path}/no/folder/x.db"):
        with pytest.raises(mcpctl.InvalidError):
            mcpctl.Registry.open(url)
    with pytest.raises(mcpctl.UnsupportedError):
        mcpctl.Registry.open("postgres://x:pa55@localhost/x")
    with pytest.raises(mcpctl.InvalidError, match="32 bytes") as error:
        mcpctl.Registry.open("memory://", master_key="hunter2")
    assert "hunter2" not in str(error.value)


def test_the_audit_trail_names_the_program(tmp_path: Path) -> None:
    with mcpctl.Registry.open(f"sqlite://{tmp_path}/x.db", program="my-service") as registry:
        registry.llms.create("gpt", type="openai", model="m")
    assert b"my-service" in (tmp_path / "x.db").read_bytes() + b"".join(
        file.read_bytes() for file in tmp_path.glob("x.db-wal")
    )


def test_everything_has_a_coroutine(tmp_path: Path, provider: Provider) -> None:
    async def work() -> None:
        async with await mcpctl.AsyncRegistry.open(f"sqlite://{tmp_path}/x.db") as registry:
            await registry.llms.create("hello", type="vllm", model="hello", url=provider.url)
            assert (await registry.infer("hello", QUESTION))["choices"]
            chunks = await registry.infer("hello", QUESTION, stream=True)
            assert [chunk["choices"][0]["delta"]["content"] async for chunk in chunks] == WORDS
            assert len(await registry.models()) == 1
        with pytest.raises(mcpctl.InvalidError, match="closed"):
            await registry.llms.list()

    asyncio.run(work())
