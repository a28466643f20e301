"""Writes the README's first example and what it is to print into a folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README shows no {language}"
    return found[1]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "example.py").write_text(block("python"))
    (folder / "expected").write_text(block("text"))
