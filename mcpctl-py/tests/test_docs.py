"""What the documentation shows works as printed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import mcpctl
import pytest
from conftest import PASSWORD
from stub_provider import WORDS, Provider

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[0], "README.md", "exec"), {})
    expected = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert capsys.readouterr().out == expected[0]


@pytest.mark.parametrize("example", EXAMPLES[1:])
def test_the_other_examples_work(
    example: str, client: mcpctl.Client, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    client.llms.create("gpt", type="vllm", model="gpt-4o-mini", url=provider.url)
    example = example.replace("http://127.0.0.1:3100", client.url).replace("PASSWORD", PASSWORD)
    try:
        exec(compile(example, "README.md", "exec"), {})
    finally:
        client.llms.delete("gpt")
    assert capsys.readouterr().out.endswith("".join(WORDS))


def test_the_docstrings_work() -> None:
    assert doctest.testmod(mcpctl).attempted > 0
    assert doctest.testmod(mcpctl).failed == 0
