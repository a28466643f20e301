"""The examples in `examples/python`, as programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mcpctl
import pytest
from conftest import ADMIN, PASSWORD, ROOT, serve
from stub_provider import Provider

EXAMPLES = ROOT / "examples" / "python"


def run(name: str, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    names = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **names},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_agent_uses_its_tools_by_itself() -> None:
    done = run("agent.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The tools say: Oslo: 4 °C; Rome: 21 °C\n")


def test_the_agent_talks_to_a_server(client: mcpctl.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import stub  # type: ignore[import-not-found]

    client.llms.create("agent", type="vllm", model="m", url=stub.start())
    done = run("agent.py", "agent", "Oslo or Rome?", MCPCTL_URL=client.url, MCPCTL_TOKEN=client.token)
    client.llms.delete("agent")
    assert done.stdout.count("temperature(") == 2 and "Rome: 21 °C" in done.stdout, done.stderr


def test_failover_goes_on_without_the_provider_and_without_the_server(tmp_path: Path, provider: Provider) -> None:
    with serve(tmp_path) as (url, server):
        admin = mcpctl.Client(url)
        admin.login(ADMIN, PASSWORD)
        lease = {"failoverLeaseSeconds": 600}
        admin.llms.create("gpt", type="vllm", model="hello", url=provider.url, extraConfig=lease)

        def ask(leases: str = "leases") -> subprocess.CompletedProcess[str]:
            leases = str(tmp_path / leases / "leases.json")
            return run("failover.py", "gpt", MCPCTL_URL=url, MCPCTL_TOKEN=admin.token, LEASES=leases, HOME=str(tmp_path))

        assert ask().stdout.startswith("Hello!\nfrom the server: ")
        admin.llms.update("gpt", url="http://127.0.0.1:1")
        assert ask().stdout.startswith("Hello from the laptop!\nfrom laptop: ")
        server.kill()
        server.wait()
        assert ask().stdout.endswith("from laptop: a local provider answered, under a lease of the server\n")
        alone = ask("other")
        assert alone.returncode == 1 and "no lease is held" in alone.stderr
