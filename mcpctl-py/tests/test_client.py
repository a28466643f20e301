"""The client that waits, against the real server."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import mcpctl
import pytest
from conftest import ADMIN, LLMS, PASSWORD, QUESTION
from mcpctl import _native
from stub_provider import WORDS, Provider


def text(chunks: object) -> str:
    assert isinstance(chunks, mcpctl.ChunkStream)
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_resources_are_created_read_changed_and_deleted(client: mcpctl.Client) -> None:
    made = client.llms.create("crud", type="openai", model="gpt-4o-mini", extraConfig={"n": [1, 2.5, None, True]})
    assert (made["name"], made["version"], made["tier"]) == ("crud", 1, "fast")
    assert made["extraConfig"] == {"n": [1, 2.5, None, True]}
    changed = client.llms.update("crud", tier="heavy", version=1)
    assert (changed["version"], changed["model"]) == (2, "gpt-4o-mini")
    assert client.llms.get(made["id"]) == changed
    assert "crud" in [llm["name"] for llm in client.llms.list(tier="heavy")]
    assert "crud" not in [llm["name"] for llm in client.llms.list(tier="fast")]
    client.llms.delete("crud")
    with pytest.raises(mcpctl.NotFoundError):
        client.llms.get("crud")


def test_secrets_show_their_values_only_when_asked(client: mcpctl.Client) -> None:
    client.secrets.create("pair", data={"a": "1", "b": "2"})
    client.secrets.update("pair", data={"b": None, "c": "3"})
    assert client.secrets.get("pair")["keys"] == ["a", "c"]
    assert "data" not in client.secrets.get("pair")
    assert client.secrets.get("pair", show_values=True)["data"] == {"a": "1", "c": "3"}
    client.secrets.delete("pair")


def test_every_kind_is_there(client: mcpctl.Client) -> None:
    for kind in _native.KINDS:
        assert kind in mcpctl.Client.__mro__[1].__annotations__, f"`{kind}` has no type in _sync.py"
        assert isinstance(getattr(client, kind).list(), list)
    assert [user["name"] for user in client.users.list()] == [ADMIN]


def test_a_session_begins_and_ends(url: str) -> None:
    client = mcpctl.Client(url)
    assert client.token is None
    with pytest.raises(mcpctl.UnauthenticatedError):
        client.whoami()
    session = client.login(ADMIN, PASSWORD)
    assert session["user"]["name"] == ADMIN and session["expiresAt"].startswith("2")
    assert client.whoami()["user"]["name"] == ADMIN
    assert client.can_i("run", "llms", "x")["allowed"] is True
    assert mcpctl.Client(url, client.token).whoami()["user"]["name"] == ADMIN
    token = client.token
    client.logout()
    assert client.token is None
    with pytest.raises(mcpctl.UnauthenticatedError):
        mcpctl.Client(url, token).whoami()


def test_an_llm_answers(client: mcpctl.Client, provider: Provider) -> None:
    answer = client.infer("hello", QUESTION, temperature=0.5, stop=["x"])
    assert answer["choices"][0]["message"]["content"] == "Hello!"
    assert provider.requests == [{"messages": QUESTION, "temperature": 0.5, "stop": ["x"], "model": "hello"}]
    assert provider.keys == ["Bearer sk-very-secret"]
    assert {model["id"] for model in client.models()} == set(LLMS)


def test_an_answer_comes_in_chunks(client: mcpctl.Client) -> None:
    chunks = client.infer("hello", QUESTION, stream=True)
    assert iter(chunks) is chunks
    assert text(chunks) == "".join(WORDS)
    assert list(chunks) == [], "it is over"
    assert text(client.infer("hello", tuple(QUESTION), True)) == "".join(WORDS)


def test_leaving_an_iterator_ends_the_request(client: mcpctl.Client, provider: Provider) -> None:
    for leave in (lambda chunks: None, lambda chunks: chunks.close()):
        provider.forget()
        chunks = client.infer("pauses", QUESTION, stream=True)
        assert next(chunks)["choices"][0]["delta"]["content"] == WORDS[0]
        leave(chunks)
        del chunks
        assert provider.client_left.wait(5), "the provider was not told"
    provider.forget()
    with client.infer("pauses", QUESTION, stream=True) as chunks:
        next(chunks)
    assert list(chunks) == [], "nothing comes after the end"
    assert provider.client_left.wait(5)


def test_errors_come_by_cause(client: mcpctl.Client, url: str) -> None:
    with pytest.raises(mcpctl.InvalidError, match="teir: unknown field") as invalid:
        client.llms.create("x", type="openai", model="m", teir="fast")
    assert (invalid.value.status, invalid.value.retryable, invalid.value.retry_after) == (400, False, None)
    with pytest.raises(mcpctl.ConflictError, match="already exists"):
        client.llms.create("hello", type="openai", model="m")
    with pytest.raises(mcpctl.ConflictError):
        client.llms.update("hello", version=99, tier="heavy")
    with pytest.raises(mcpctl.NotFoundError, match="no llm named `missing`"):
        client.infer("missing", QUESTION)
    with pytest.raises(mcpctl.InvalidError, match="messages is required"):
        client.infer("hello", [])
    with pytest.raises(mcpctl.RateLimitedError, match="slow down") as limited:
        client.infer("refuses", QUESTION, stream=True)
    assert (limited.value.retryable, limited.value.retry_after) == (True, 7.0)
    with pytest.raises(mcpctl.ProviderError):
        client.infer("rubbish", QUESTION)
    with pytest.raises(mcpctl.UnavailableError, match="connection refused"):
        mcpctl.Client("http://127.0.0.1:1").models()
    with pytest.raises(mcpctl.InvalidError, match="invalid URL"):
        mcpctl.Client("ftp://x")
    chunks = client.infer("breaks", QUESTION, stream=True)
    with pytest.raises(mcpctl.ProviderError, match="fell over"):
        list(chunks)
    assert list(chunks) == []


def test_a_user_without_the_right_is_refused(client: mcpctl.Client, url: str) -> None:
    client.users.create("nobody@example.com", password="another good one")
    nobody = mcpctl.Client(url)
    nobody.login("nobody@example.com", "another good one")
    with pytest.raises(mcpctl.ForbiddenError, match="run:llms:hello"):
        nobody.infer("hello", QUESTION)
    assert nobody.can_i("run", "llms", "hello")["allowed"] is False
    with pytest.raises(mcpctl.UnauthenticatedError):
        nobody.login("nobody@example.com", "wrong")
    assert nobody.whoami()["user"]["name"] == "nobody@example.com", "a login that fails changes nothing"
    client.users.delete("nobody@example.com")


def test_exceptions_are_of_one_family() -> None:
    errors = [each for name, each in vars(mcpctl).items() if name.endswith("Error")]
    assert len(errors) == 15
    for error in errors:
        assert issubclass(error, mcpctl.McpctlError) and error.__doc__
        assert error.__module__ == "mcpctl"
        again = pickle.loads(pickle.dumps(error("x")))
        assert type(again) is error and again.retry_after is None
    assert issubclass(mcpctl.ProviderTimeoutError, mcpctl.ProviderError)


def test_what_json_cannot_hold_is_refused(client: mcpctl.Client) -> None:
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    for value, error in [
        ({1}, TypeError),
        (b"x", TypeError),
        (float("nan"), ValueError),
        (1 << 64, ValueError),
        ({1: 2}, TypeError),
        (deep, ValueError),
        ("\ud800", UnicodeEncodeError),
    ]:
        with pytest.raises(error):
            client.infer("hello", QUESTION, user=value)
    big = client.llms.create("big", type="openai", model="m", extraConfig={"n": [2**64 - 1, -(2**63), 0.1, "ß🦀"]})
    assert big["extraConfig"]["n"] == [2**64 - 1, -(2**63), 0.1, "ß🦀"]
    client.llms.delete("big")


def test_tokens_are_in_nothing_that_is_printed(client: mcpctl.Client) -> None:
    assert client.token
    shown = [repr(client), str(client), repr(vars(client)), repr(client.llms), repr(client.login)]
    with pytest.raises(mcpctl.McpctlError) as error:
        mcpctl.Client(client.url, client.token + "x").whoami()
    shown += [repr(error.value), str(error.value)]
    with pytest.raises(mcpctl.InvalidError) as error:
        mcpctl.Client(client.url, client.token + "\n" + client.token)
    assert client.token not in "".join([*shown, str(error.value)])
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_ctrl_c_ends_a_wait(client: mcpctl.Client, provider: Provider) -> None:
    def interrupt() -> None:
        provider.arrived.wait(5)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    for wait in (
        lambda: client.infer("silent", QUESTION),
        lambda: list(client.infer("pauses", QUESTION, stream=True)),
    ):
        provider.forget()
        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert time.monotonic() - began < 3
        thread.join()
        assert provider.client_left.wait(5), "the request goes on"


def test_other_threads_run_while_one_waits(client: mcpctl.Client, provider: Provider) -> None:
    chunks = client.infer("pauses", QUESTION, stream=True)
    for _ in WORDS:
        next(chunks)
    waiting = threading.Thread(target=lambda: list(chunks))
    waiting.start()
    count, end = 0, time.monotonic() + 0.5
    while time.monotonic() < end:
        count += 1
        time.sleep(0)
    assert count > 100, "only one thread ran"
    assert len(client.llms.list()) == len(LLMS), "and one client serves several threads"
    chunks.close()
    waiting.join(5)
    assert not waiting.is_alive()


def test_threads_do_not_grow_in_number(client: mcpctl.Client) -> None:
    def work() -> None:
        one = mcpctl.Client(client.url, client.token)
        chunks = [one.infer("hello", QUESTION, stream=True) for _ in range(3)]
        next(chunks[0])
        list(chunks[1])
        one.models()

    def threads() -> int:
        names = [f"/proc/self/task/{task}/comm" for task in os.listdir("/proc/self/task")]
        return sum("mcpctl" in open(name).read() for name in names)

    work()
    before = threads()
    for _ in range(15):
        work()
    assert threads() <= before + 1
    assert before < 8


def test_a_forked_child_makes_its_own(client: mcpctl.Client) -> None:
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(mcpctl.InvalidError, match="forked"):
                client.models()
            assert len(mcpctl.Client(client.url, client.token).models()) == len(LLMS)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(client.models()) == len(LLMS), "and the parent goes on"
