"""The real server and the stub provider, as processes, for the official SDKs to talk to."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
ADMIN = "admin@example.com"
LLMS = ("openai", "anthropic")
# What the stub always answers.
TEXT = "Grüße, 🦀 from the stub"


def binary(name: str) -> str:
    path = TARGET / name
    if not path.is_file():
        pytest.exit(f"{path} is missing; build it first: cargo build --workspace --bins", 2)
    return str(path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Stub:
    """The stub provider."""

    url: str

    def received(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/stub/received", timeout=10) as answer:
            return json.load(answer)


@dataclass
class Server:
    """The server, with what must not show in anything it gives out."""

    url: str
    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("content-type", "application/json")
        if token:
            request.add_header("authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def login(self, email: str, password: str) -> str:
        token = self.call("POST", "/api/v1/auth/login", {"email": email, "password": password})["token"]
        self.secrets[f"the token of {email}"] = token
        return token

    def leaks(self) -> list[str]:
        places = [path for path in (self.folder / "data").iterdir() if path.suffix != ".key"]
        places.append(self.folder / "log")
        return [
            f"{what} in {place.name}"
            for place in places
            for what, value in self.secrets.items()
            if value.encode() in place.read_bytes()
        ]


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    process = subprocess.Popen([binary("stub-provider")], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield Stub(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    address = f"127.0.0.1:{free_port()}"
    password = f"admin-{secrets.token_hex(16)}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "RUST_LOG": "trace",
        "MCPCTL_ADMIN_EMAIL": ADMIN,
        "MCPCTL_ADMIN_PASSWORD": password,
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [binary("mcpctl-server"), "--listen", address, "--data-dir", str(folder / "data")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Server(f"http://{address}", folder, {"the admin's password": password})
    try:
        wait_until_ready(server, process)
        yield server
    finally:
        process.terminate()
        status = process.wait(30)
    assert status == 0, f"the server ended with {status}"
    assert server.leaks() == []


def wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, (server.folder / "log").read_text()
        try:
            server.call("GET", "/readyz")
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the server is not ready after 30 s"
            time.sleep(0.02)


@pytest.fixture(scope="session")
def admin(server: Server, stub: Stub) -> str:
    """The admin's token, once there are an Llm of each type, one that nobody serves, and their keys."""
    token = server.login(ADMIN, server.secrets["the admin's password"])
    refusing = f"http://127.0.0.1:{free_port()}"
    for name, kind, url in [
        *((kind, kind, stub.url) for kind in LLMS),
        ("refusing", "openai", refusing),
    ]:
        key = f"sk-{secrets.token_hex(16)}"
        server.secrets[f"the key of {name}"] = key
        server.call("POST", "/api/v1/secrets", {"name": name, "data": {"api-key": key}}, token)
        reference = {"name": name, "key": "api-key"}
        llm = {"name": name, "type": kind, "model": f"{name}-1", "url": url, "apiKeyRef": reference}
        server.call("POST", "/api/v1/llms", llm, token)
    return token


def user_with(server: Server, admin: str, name: str, bindings: list[dict[str, str]]) -> str:
    """The token of a new user with these role bindings."""
    email, password = f"{name}@example.com", f"user-{secrets.token_hex(16)}"
    server.secrets[f"the password of {email}"] = password
    server.call("POST", "/api/v1/users", {"name": email, "password": password}, admin)
    subjects = [{"kind": "User", "name": email}]
    server.call("POST", "/api/v1/rbac", {"name": name, "subjects": subjects, "roleBindings": bindings}, admin)
    return server.login(email, password)


@pytest.fixture(scope="session")
def token(server: Server, admin: str) -> str:
    """The token of a user who may run every Llm, and nothing else."""
    return user_with(server, admin, "runner", [{"role": "run", "resource": "llms"}])


@pytest.fixture(scope="session")
def editor(server: Server, admin: str) -> str:
    """The token of a user who may edit every Llm, and run none."""
    return user_with(server, admin, "editor", [{"role": "edit", "resource": "llms"}])
