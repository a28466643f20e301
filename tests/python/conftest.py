"""The real server and the stub provider, as processes, for the official SDKs to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
LLMS = ("openai", "anthropic")
# What the stub answers, calls tools with, thinks, and makes of a schema.
TEXT = "Grüße, 🦀 from the stub"
INPUTS = [{"city": "Oslo"}, {"city": "Rome", "unit": "°C"}]
THOUGHT = "Let me see: it is about weather."
THINKING = [
    {"type": "thinking", "thinking": THOUGHT, "signature": "c3R1Yi1zaWduYXR1cmU/+w=="},
    {"type": "redacted_thinking", "data": "c3R1Yi1oaWRkZW4="},
]


@dataclass
class Stub:
    """The stub provider."""

    url: str

    def received(self) -> list[dict[str, Any]]:
        return self.shown("received")

    def hung_up(self) -> int:
        """How many callers have left before their answer's end."""
        return self.shown("hung-up")

    def shown(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/stub/{what}", timeout=10) as answer:
            return json.load(answer)


@dataclass
class Server:
    """The server, and the keys that it holds."""

    url: str
    keys: dict[str, str]

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("content-type", "application/json")
        if token:
            request.add_header("authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def eventually(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not in 10 s: {what}"
        time.sleep(0.01)


def binary(name: str) -> Path:
    program = TARGET / name
    if not program.is_file():
        pytest.exit(f"{program} is missing; build it first: cargo build --workspace --bins", 2)
    return program


@dataclass
class Stage:
    """Where everything is, and a hand on the server."""

    places: dict[str, Any]
    process: subprocess.Popen[str]

    def tell(self, word: str) -> None:
        """`kill` or `restart`."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def set_up() -> Iterator[Stage]:
    """A stage. At the end the server must end well, and have shown no secret."""
    process = subprocess.Popen([binary("stage")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield Stage(json.loads(process.stdout.readline()), process)
        process.stdin.close()
        assert process.wait(60) == 0, "the server did not end well, or showed a secret: see above"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def stage() -> Iterator[dict[str, Any]]:
    """Where everything is, for the tests that leave it as it is."""
    with set_up() as stage:
        yield stage.places


@pytest.fixture(scope="session")
def stub(stage: dict[str, Any]) -> Stub:
    return Stub(stage["stub"])


@pytest.fixture(scope="session")
def server(stage: dict[str, Any]) -> Server:
    """With an Llm of each type, and one that nobody serves."""
    return Server(stage["server"], stage["keys"])


@pytest.fixture(scope="session")
def admin(stage: dict[str, Any]) -> str:
    """The admin's token."""
    return stage["admin"]


@pytest.fixture(scope="session")
def token(stage: dict[str, Any]) -> str:
    """The token of a user who may run every Llm, and nothing else."""
    return stage["runner"]


@pytest.fixture(scope="session")
def editor(stage: dict[str, Any]) -> str:
    """The token of a user who may edit every Llm, and run none."""
    return stage["editor"]
