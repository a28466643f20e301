"""The real server, and a provider that stands in for the models."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mcpctl
import pytest
from stub_provider import Provider

ROOT = Path(__file__).parents[2]
PASSWORD = "a good password"
ADMIN = "admin@localhost"
LLMS = ["hello", "silent", "refuses", "rubbish", "breaks", "pauses"]
QUESTION = [{"role": "user", "content": "Where do keys live?"}]


def server_binary() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = Path(os.environ.get("MCPCTL_SERVER", target / "debug" / "mcpctl-server"))
    assert binary.exists(), f"build the server first: {binary} is not there"
    return binary


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.shutdown()


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    shared_provider.forget()
    return shared_provider


@contextmanager
def serve(data: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on the database in this folder: its URL, and its process, which a test may kill."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(data), "MCPCTL_ADMIN_PASSWORD": PASSWORD}
    command = [str(server_binary()), "--listen", "127.0.0.1:0", "--data-dir", str(data)]
    with (data / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout
        announced = re.search(r"listens on (\S+)", server.stdout.readline())
        assert announced, (data / "log").read_text()
        yield announced[1], server
        if server.poll() is None:
            server.terminate()
            assert server.wait(20) == 0
    finally:
        # It waits for running streams, which a test that failed may have left.
        server.kill()
        server.communicate()


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server on an empty database."""
    with serve(tmp_path_factory.mktemp("server")) as (url, _):
        yield url


@pytest.fixture(scope="session")
def admin(url: str, shared_provider: Provider) -> mcpctl.Client:
    """Logged in as the admin; every model of the provider is registered."""
    client = mcpctl.Client(url)
    client.login(ADMIN, PASSWORD)
    register(client, shared_provider)
    return client


def register(catalogue: mcpctl.Client | mcpctl.Registry, provider: Provider) -> None:
    catalogue.secrets.create("provider", data={"key": "sk-very-secret"})
    for llm in LLMS:
        key = {"name": "provider", "key": "key"}
        catalogue.llms.create(llm, type="vllm", model=llm, url=provider.url, apiKeyRef=key)


@pytest.fixture
def client(admin: mcpctl.Client, provider: Provider) -> mcpctl.Client:
    return admin


@pytest.fixture
def registry(provider: Provider) -> Iterator[mcpctl.Registry]:
    with mcpctl.Registry.open("memory://") as registry:
        register(registry, provider)
        yield registry
