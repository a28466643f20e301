"""What the documentation shows works as printed, and leads somewhere."""

from __future__ import annotations

import ast
import asyncio
import doctest
import os
import re
import types
from pathlib import Path
from typing import Any

import mcpctl
import pytest
from conftest import ADMIN, PASSWORD, serve
from first_example import README, block
from mcpctl import _async, _failover, _sync
from stub_provider import WORDS, Provider

EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = [mcpctl, _sync, _async, _failover]
ADDRESS = "http://127.0.0.1:3100"
# Where the provider is that an example says is down.
NOWHERE = "http://127.0.0.1:1"


def test_the_first_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "README.md", "exec"), {})
    assert capsys.readouterr().out == block("text")


@pytest.mark.parametrize("example", EXAMPLES[1:])
def test_the_other_examples_work(
    example: str, client: mcpctl.Client, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_over = "FailoverRouter" in example
    client.llms.create("gpt", type="vllm", model="gpt-4o-mini", url=NOWHERE if fails_over else provider.url)
    example = example.replace(ADDRESS, client.url).replace("PASSWORD", PASSWORD)
    example = example.replace("http://127.0.0.1:11434", provider.url)
    try:
        exec(compile(example, "README.md", "exec"), {})
    finally:
        client.llms.delete("gpt")
    out = capsys.readouterr().out
    assert out.endswith("laptop\n" if fails_over else "".join(WORDS))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_the_docstrings_work(module: types.ModuleType, tmp_path: Path, provider: Provider) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "folder").mkdir()
    with serve(tmp_path / "server") as (url, _):
        runner = doctest.DocTestRunner()
        for test in doctest.DocTestFinder().find(module):
            names = prepared(url, provider, "FailoverRouter" in test.name)
            if "Async" in test.name:
                names["client"] = mcpctl.AsyncClient(url, names["client"].token)
            test.globs = {**names, "mcpctl": mcpctl, "os": os, "folder": str(tmp_path / "folder")}
            token = names["client"].token
            run(runner, test, {ADDRESS: url, "PASSWORD": PASSWORD, "TOKEN": token})
    assert runner.tries > 0 and runner.failures == 0


def prepared(url: str, provider: Provider, is_down: bool) -> dict[str, Any]:
    """What the examples take as given, anew for each."""
    client = mcpctl.Client(url)
    client.login(ADMIN, PASSWORD)
    for llm in client.llms.list():
        client.llms.delete(llm["name"])
    for name in ("gpt", "claude"):
        client.llms.create(name, type="vllm", model="hello", url=NOWHERE if is_down else provider.url)
    laptop = {"name": "laptop", "type": "ollama", "model": "m", "url": provider.url, "failover_for": ["gpt"]}
    messages = [{"role": "user", "content": "Where do keys live?"}]
    return {"client": client, "messages": messages, "laptop": laptop}


def run(runner: doctest.DocTestRunner, test: doctest.DocTest, replacements: dict[str, str]) -> None:
    """Runs the examples of a docstring, in one asyncio loop for those that need one."""
    loop = asyncio.new_event_loop()

    def in_loop(source: str) -> None:
        # As the interpreter of `python -m asyncio` does it.
        code = compile(source, test.name, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        coroutine = types.FunctionType(code, test.globs)()
        if coroutine is not None:
            loop.run_until_complete(coroutine)

    test.globs.update({"in_loop": in_loop, "asyncio": asyncio})
    for example in test.examples:
        for printed, actual in replacements.items():
            example.source = example.source.replace(printed, actual)
        if re.search(r"\bawait\b|\basync\b", example.source):
            example.source = f"in_loop({example.source!r})\n"
    try:
        runner.run(test)
    finally:
        loop.close()


def test_every_public_name_is_documented() -> None:
    for name, public in public_names():
        assert public.__doc__, name
        for attribute, value in vars(public).items():
            if not attribute.startswith("_") and isinstance(value, (types.FunctionType, property)):
                assert value.__doc__, f"{name}.{attribute}"
    assert "+SKIP" not in "".join(sources()), "an example that is not run"


def test_no_reference_leads_nowhere() -> None:
    known = dict(public_names())
    for source in sources():
        for name, attribute in re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", source):
            assert name in known, f"`{name}`"
            assert not attribute or hasattr(known[name], attribute), f"`{name}.{attribute}`"
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", README, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        # PyPI shows this file alone: a path beside it is dead there.
        assert target.startswith("https://") or target.removeprefix("#") in anchors, target
    for name in re.findall(r"\b([A-Z]\w+(?:Error|Router|Client|Registry))\b", README):
        assert name in known, name


def public_names() -> list[tuple[str, type]]:
    return [(name, getattr(mcpctl, name)) for name in mcpctl.__all__ if name != "__version__"]


def sources() -> list[str]:
    return [Path(str(module.__file__)).read_text() for module in MODULES]
