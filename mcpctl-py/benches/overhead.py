"""What a call costs the caller, in processor time: this package beside httpx and the openai package.

    mcpctl-py/build.sh bench            # builds a release wheel, and everything this needs
    mcpctl-py/build.sh bench --calls 50 --rounds 2

One process makes all the calls, of the same server with the same stub behind it, and takes turns: what disturbs the
machine disturbs all alike. Counted is the processor time of this process with all its threads, never that of the server.
Each client is used as its documentation says, one for all calls. httpx parses the answer with `json()`; for a stream it
splits the lines and parses each, which is the least that its users do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import mcpctl
import openai

ROOT = Path(__file__).resolve().parents[2]
MESSAGES: Any = [{"role": "user", "content": "Where do keys live?"}]
LLM = "openai"
AT_ONCE = 20
# The most that a call may cost, of what the openai package's costs.
LIMIT = 0.5


def clients(server: str, token: str) -> dict[str, dict[str, Callable[[], Any]]]:
    """A call of each kind, of each client."""
    ours = mcpctl.Client(server, token)
    plain = httpx.Client(base_url=server, headers={"authorization": f"Bearer {token}"}, timeout=60)
    theirs = openai.OpenAI(base_url=f"{server}/v1", api_key=token, max_retries=0)
    body = {"model": LLM, "messages": MESSAGES}

    def httpx_stream() -> int:
        with plain.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            lines = (line[6:] for line in answer.iter_lines() if line.startswith("data: "))
            return sum(1 for line in lines if line != "[DONE]" and json.loads(line))

    return {
        "a call": {
            "mcpctl": lambda: ours.infer(LLM, MESSAGES)["choices"],
            "httpx": lambda: plain.post("/v1/chat/completions", json=body).json()["choices"],
            "openai": lambda: theirs.chat.completions.create(model=LLM, messages=MESSAGES).choices,
        },
        "a stream": {
            "mcpctl": lambda: sum(1 for _ in ours.infer(LLM, MESSAGES, stream=True)),
            "httpx": httpx_stream,
            "openai": lambda: sum(1 for _ in theirs.chat.completions.create(model=LLM, messages=MESSAGES, stream=True)),
        },
    }


def async_clients(server: str, token: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    ours = mcpctl.AsyncClient(server, token)
    plain = httpx.AsyncClient(base_url=server, headers={"authorization": f"Bearer {token}"}, timeout=60)
    theirs = openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=token, max_retries=0)
    body = {"model": LLM, "messages": MESSAGES}

    async def httpx_call() -> Any:
        return (await plain.post("/v1/chat/completions", json=body)).json()["choices"]

    async def openai_call() -> Any:
        return (await theirs.chat.completions.create(model=LLM, messages=MESSAGES)).choices

    return {"mcpctl": lambda: ours.infer(LLM, MESSAGES), "httpx": httpx_call, "openai": openai_call}


def cost(work: Callable[[], object], calls: int) -> float:
    """Processor time of a call, in microseconds."""
    began = time.process_time()
    for _ in range(calls):
        assert work()
    return (time.process_time() - began) / calls * 1e6


async def async_cost(work: Callable[[], Awaitable[Any]], calls: int) -> float:
    async def some() -> None:
        for _ in range(calls // AT_ONCE):
            assert await work()

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return (time.process_time() - began) / (calls // AT_ONCE * AT_ONCE) * 1e6


def measure(server: str, token: str, calls: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for what, each in clients(server, token).items():
        found[what] = take_turns(each, rounds, lambda work: cost(work, calls))
    kind = f"a coroutine, {AT_ONCE} at once"
    with asyncio.Runner() as loop:
        each = async_clients(server, token)
        found[kind] = take_turns(each, rounds, lambda work: loop.run(async_cost(work, calls)))
    return found


def take_turns(each: dict[str, Any], rounds: int, measured: Callable[[Any], float]) -> dict[str, list[float]]:
    costs: dict[str, list[float]] = {name: [] for name in each}
    for number in range(rounds + 1):
        names = list(each)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            took = measured(each[name])
            # The first round is for connections and caches.
            if number:
                costs[name].append(took)
    return costs


def report(found: dict[str, dict[str, list[float]]]) -> bool:
    print(f"Python {platform.python_version()}, mcpctl {mcpctl.__version__}, httpx {httpx.__version__}, "
          f"openai {openai.__version__}, {os.cpu_count()} cores\n")
    print("| processor time, µs | mcpctl | httpx | openai | of httpx | of openai | rounds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    well = True
    for what, costs in found.items():
        middle = {name: statistics.median(each) for name, each in costs.items()}
        ratios = [ours / theirs for ours, theirs in zip(costs["mcpctl"], costs["openai"])]
        ratio = statistics.median(ratios)
        well &= ratio <= LIMIT
        figures = " | ".join(f"{middle[name]:,.0f}" for name in ("mcpctl", "httpx", "openai"))
        print(f"| {what} | {figures} | {middle['mcpctl'] / middle['httpx']:.2f} | {ratio:.2f} "
              f"| {min(ratios):.2f} to {max(ratios):.2f} |")
    return well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="calls of each client in a round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    stage = subprocess.Popen([target / "debug" / "stage"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert stage.stdin and stage.stdout
    try:
        told = json.loads(stage.stdout.readline())
        found = measure(told["server"], told["runner"], options.calls, options.rounds)
    finally:
        stage.stdin.close()
        stage.wait(60)
    sys.exit(0 if report(found) else f"over the limit: {LIMIT} of the openai package's")


if __name__ == "__main__":
    main()
