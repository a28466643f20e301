"""Many calls at once, round after round: nothing stays behind.

Short by itself. `MCPCTL_PY_LOAD=1` is the full scale: 1,000 streams and 32 threads, ten rounds. It prints what it measures
(`pytest -s`).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcpctl
import pytest
from conftest import QUESTION, server_binary
from stub_provider import WORDS, Provider

FULL = os.environ.get("MCPCTL_PY_LOAD") == "1"
STREAMS = 1000 if FULL else 100
CALLS = 50 if FULL else 5
THREADS = 32
ROUNDS = 10 if FULL else 5
# Until here, everything has been done once or twice: pools are full, code is imported.
SETTLED = 3
# What may come on top between the round `SETTLED` and the last one: the allocator's, not ours.
MORE_MEMORY = 1.10
# A pool keeps as many connections as were ever in use at once, which chance may raise by as many as there are threads; a
# thread for blocking work comes and goes, and a future that its loop has just let go of. A leak is one for each call.
MORE_FILES, MORE_THREADS, MORE_TASKS = THREADS, 1, 3
SOON = 20.0


@dataclass
class Stage:
    """The server, and a provider that can hold many streams."""

    client: mcpctl.Client
    stub: str

    def hung_up(self) -> int:
        """How many callers the provider has seen leave before their answer's end."""
        with urllib.request.urlopen(f"{self.stub}/stub/hung-up", timeout=10) as answer:
            return int(json.load(answer))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    program = server_binary().with_name("stage")
    assert program.exists(), f"build it first: {program} is not there"
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        told = json.loads(process.stdout.readline())
        client = mcpctl.Client(told["server"], told["admin"])
        for llm, model in (("good", "m"), ("stalls", "fault-stall")):
            client.llms.create(llm, type="vllm", model=model, url=told["stub"])
        yield Stage(client, told["stub"])
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@dataclass
class Held:
    """What this process holds."""

    memory: int
    threads: int
    files: int
    tasks: int

    @classmethod
    def after_all(cls) -> Held:
        """When what was left has been closed: that is done beside us, and soon."""
        deadline, steady, held = time.monotonic() + SOON, 0, cls.now()
        while steady < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
            before, held = held, cls.now()
            steady = steady + 1 if held.files == before.files else 0
        return held

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        threads = len(os.listdir("/proc/self/task"))
        tasks = sum(isinstance(each, (asyncio.Task, asyncio.Future)) for each in gc.get_objects())
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), threads, len(os.listdir("/proc/self/fd")), tasks)

    def __str__(self) -> str:
        return f"{self.memory / 2**20:.1f} MiB, {self.threads} threads, {self.files} files, {self.tasks} tasks"


def eventually(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"not in {SOON} s: {what}"
        time.sleep(0.02)


def rounds(what: str, work: Callable[[], None]) -> None:
    held = []
    for number in range(1, ROUNDS + 1):
        began = time.monotonic()
        work()
        took = time.monotonic() - began
        held.append(Held.after_all())
        print(f"{what}, round {number}: {held[-1]}; {took:.1f} s")
    settled, last = held[SETTLED - 1], held[-1]
    assert last.memory <= settled.memory * MORE_MEMORY, "memory grows"
    assert last.threads <= settled.threads + MORE_THREADS, "threads grow in number"
    assert last.files <= settled.files + MORE_FILES, "descriptors grow in number"
    assert last.tasks <= settled.tasks + MORE_TASKS, "tasks grow in number"


def test_streams_leave_nothing_behind(stage: Stage) -> None:
    async def cancelled(client: mcpctl.AsyncClient) -> None:
        """All at once are in the middle of a stream, and then are cancelled."""
        inside, all_inside = 0, asyncio.Event()

        async def listen() -> None:
            nonlocal inside
            began = False
            async for _ in await client.infer("stalls", QUESTION, stream=True):
                if not began:
                    began, inside = True, inside + 1
                    if inside == STREAMS:
                        all_inside.set()

        before = stage.hung_up()
        tasks = [asyncio.create_task(listen()) for _ in range(STREAMS)]
        await asyncio.wait_for(all_inside.wait(), 120)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        left = lambda: stage.hung_up() == before + STREAMS  # noqa: E731
        await asyncio.to_thread(eventually, "the provider sees every caller leave", left)

    async def read(client: mcpctl.AsyncClient) -> None:
        async def listen() -> str:
            chunks = await client.infer("good", QUESTION, stream=True)
            return "".join([said(chunk) async for chunk in chunks])

        answers = await asyncio.gather(*(listen() for _ in range(STREAMS)))
        assert set(answers) == {"Grüße, 🦀 from the stub"}

    async def work() -> None:
        client = mcpctl.AsyncClient(stage.client.url, stage.client.token)
        await cancelled(client)
        await read(client)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    rounds(f"{STREAMS} streams", lambda: asyncio.run(work()))


def said(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def test_threads_leave_nothing_behind(stage: Stage) -> None:
    failures: list[BaseException] = []

    def calls() -> None:
        try:
            for number in range(CALLS):
                if number % 5 == 4:
                    assert list(stage.client.infer("good", QUESTION, stream=True))
                else:
                    assert stage.client.infer("good", QUESTION)["choices"]
        except BaseException as error:
            failures.append(error)

    def work() -> None:
        threads = [threading.Thread(target=calls) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures

    rounds(f"{THREADS} threads, {CALLS} calls each", work)


def test_others_count_on_while_one_waits(stage: Stage) -> None:
    """The interpreter is as free during a call as during a sleep."""
    chunks = stage.client.infer("stalls", QUESTION, stream=True)
    next(chunks)
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    def during(wait: Callable[[], object]) -> float:
        before, began = counted, time.monotonic()
        wait()
        return (counted - before) / (time.monotonic() - began)

    def waits() -> None:
        closing = threading.Timer(0.5, chunks.close)
        closing.start()
        list(chunks)
        closing.join()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        asleep = during(lambda: time.sleep(0.5))
        waiting = during(waits)
        asleep = (asleep + during(lambda: time.sleep(0.5))) / 2
    finally:
        stop.set()
        thread.join()
    print(f"counted {waiting:,.0f}/s during a call, {asleep:,.0f}/s during a sleep: {waiting / asleep:.2f}")
    assert waiting > asleep * 0.5


CTRL_C = {
    "call": "client.infer('silent', messages)",
    "stream": "list(client.infer('pauses', messages, stream=True))",
    "failover": "mcpctl.FailoverRouter(client).infer('silent', messages)",
    "asyncio call": "asyncio.run(asynchronous.infer('silent', messages))",
    "asyncio stream": "asyncio.run(listen())",
    "thread": "threads(lambda: client.infer('silent', messages))",
}

CHILD = """
import asyncio, sys, threading
import mcpctl

url, token = sys.stdin.readline().split()
client, asynchronous = mcpctl.Client(url, token), mcpctl.AsyncClient(url, token)
messages = [{"role": "user", "content": "Where do keys live?"}]

async def listen():
    async for _ in await asynchronous.infer("pauses", messages, stream=True):
        pass

def threads(work):
    # The main thread waits for others, which cannot be interrupted, and leaves them.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
"""


@pytest.mark.parametrize("wait", CTRL_C.values(), ids=CTRL_C.keys())
def test_ctrl_c_ends_the_program_at_once(client: mcpctl.Client, provider: Provider, wait: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CHILD) + wait]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdin and child.stderr
        child.stdin.write(f"{client.url} {client.token}\n")
        child.stdin.flush()
        assert provider.arrived.wait(SOON), "it does not call"
        # The answer's beginning has come, and it waits for more.
        time.sleep(0.2)
        began = time.monotonic()
        child.send_signal(2)
        said = child.communicate(timeout=10)[1]
        took = time.monotonic() - began
    finally:
        child.kill()
    assert said.rstrip().endswith("KeyboardInterrupt"), said
    assert child.returncode == -2
    assert took < 1, f"it took {took:.2f} s"
    assert provider.client_left.wait(5), "the request goes on"
    assert len(WORDS) == 6 and client.models(), "the server is well"
