"""Failover: with the router's own calls, and with callables."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn

import mcpctl
import pytest
from conftest import ADMIN, PASSWORD, QUESTION, serve
from stub_provider import WORDS, Provider

# Nobody listens there.
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def dead(client: mcpctl.Client) -> Iterator[str]:
    """An Llm of the server whose provider is down."""
    client.llms.create("dead", type="vllm", model="hello", url=NOWHERE)
    yield "dead"
    client.llms.delete("dead")


@pytest.fixture
def laptop(provider: Provider) -> dict[str, Any]:
    """A local provider that works."""
    llms = ["dead", "hello", "refuses"]
    return {"name": "laptop", "type": "ollama", "model": "local", "url": provider.url, "failover_for": llms}


@pytest.fixture
def router(client: mcpctl.Client, laptop: dict[str, Any]) -> Iterator[mcpctl.FailoverRouter]:
    with mcpctl.FailoverRouter(client, [laptop]) as router:
        yield router


@pytest.fixture
def stranger(client: mcpctl.Client) -> Iterator[mcpctl.Client]:
    """Someone who may see no Llm."""
    client.users.create("stranger@example.com", password="another good one")
    stranger = mcpctl.Client(client.url)
    stranger.login("stranger@example.com", "another good one")
    yield stranger
    client.users.delete("stranger@example.com")


def content(answer: mcpctl.Routed[dict[str, Any]]) -> Any:
    return answer.value["choices"][0]["message"]["content"]


def words(chunks: Any) -> list[str]:
    return [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]


def raises(error: BaseException) -> Any:
    def primary(*_: str) -> NoReturn:
        raise error

    return primary


def local(provider: str) -> str:
    return f"from {provider}"


def test_a_local_provider_answers_for_one_that_is_down(
    router: mcpctl.FailoverRouter, provider: Provider, dead: str
) -> None:
    routed = router.infer(dead, QUESTION, temperature=0)
    assert (content(routed), routed.failover, routed.via) == ("Hello!", True, "laptop")
    assert routed.decision == "a local provider answered, with the server's consent"
    assert [(sent["model"], sent["temperature"]) for sent in provider.requests] == [("local", 0)]
    assert provider.keys == [None], "it is sent no token and no key of the server's"
    streamed = router.infer(dead, QUESTION, stream=True)
    assert (streamed.failover, streamed.via) == (True, "laptop")
    assert "".join(words(streamed.value)) == "".join(WORDS)


def test_the_primary_answers_while_it_can(router: mcpctl.FailoverRouter, provider: Provider) -> None:
    routed = router.infer("hello", QUESTION)
    assert (content(routed), routed.failover, routed.via) == ("Hello!", False, None)
    assert routed.decision == router.run("hello", lambda: 1, raises(AssertionError())).decision
    assert words(router.infer("hello", QUESTION, stream=True).value) == WORDS
    assert provider.keys == ["Bearer sk-very-secret"] * 2


def test_its_own_error_comes_back_when_nobody_stands_in(
    client: mcpctl.Client, router: mcpctl.FailoverRouter, provider: Provider, dead: str
) -> None:
    with pytest.raises(mcpctl.RateLimitedError, match="slow down") as refused:
        router.infer("refuses", QUESTION)
    assert refused.value.mcpctl_decision == "the primary refused, which is an answer"
    assert not refused.value.down and not hasattr(refused.value, "__notes__")
    assert [sent["model"] for sent in provider.requests] == ["refuses"]
    assert router.unmap(dead)
    for stream in (False, True):
        with pytest.raises(mcpctl.ProviderError) as error:
            router.infer(dead, QUESTION, stream)
        assert error.value.mcpctl_decision == "no local provider stands in for this llm"
        assert error.value.down
    router.register(name="broken", type="vllm", model="m", url=NOWHERE, failoverFor=[dead])
    with pytest.raises(mcpctl.ProviderError) as error:
        router.infer(dead, QUESTION)
    assert "broken" in str(error.value.mcpctl_decision) and "broken" not in str(error.value)
    assert str(error.value.mcpctl_decision) in getattr(error.value, "__notes__", [error.value.mcpctl_decision])[0]
    away = mcpctl.FailoverRouter(mcpctl.Client(NOWHERE, client.token))
    away.register(name="laptop", type="ollama", model="m", url=provider.url, failover_for=["gpt"])
    provider.forget()
    with pytest.raises(mcpctl.UnavailableError, match="connection refused") as unreachable:
        away.infer("gpt", QUESTION)
    assert "could not be asked for its consent" in str(unreachable.value.mcpctl_decision)
    assert provider.requests == []


def test_callables_are_routed_the_same_way(
    router: mcpctl.FailoverRouter, laptop: dict[str, Any], stranger: mcpctl.Client
) -> None:
    assert router.run("hello", lambda: "primary", local) == mcpctl.Routed(
        "primary", False, None, "the primary answered"
    )
    routed = router.run("hello", raises(ConnectionResetError()), local)
    assert (routed.value, routed.failover, routed.via) == ("from laptop", True, "laptop")
    forbidden = mcpctl.FailoverRouter(stranger, [laptop])
    for caller, llm, error, why in [
        (router, "hello", ValueError("x"), "the primary refused"),
        (router, "unknown", ConnectionRefusedError(), "no local provider stands in"),
        (forbidden, "hello", TimeoutError(), "the server says that the caller may not see"),
    ]:
        with pytest.raises(type(error)) as raised:
            caller.run(llm, raises(error), raises(AssertionError("nobody may stand in")))
        assert raised.value is error
        assert getattr(error, "mcpctl_decision").startswith(why)
        assert error.__cause__ is None and error.__context__ is None


def test_a_stand_in_that_fails_leaves_the_primarys_error(router: mcpctl.FailoverRouter) -> None:
    error = mcpctl.UnavailableError("down")
    for _ in range(2):
        with pytest.raises(mcpctl.UnavailableError) as raised:
            router.run("hello", raises(error), raises(RuntimeError("no GPU")))
        assert raised.value is error and error.__context__ is None
        assert error.mcpctl_decision == "the local provider failed as well: laptop: no GPU"
    notes = getattr(error, "__notes__", ["mcpctl: " + str(error.mcpctl_decision)])
    assert notes == ["mcpctl: the local provider failed as well: laptop: no GPU"]
    # Ctrl-C and the end of the program are no failures.
    for leaving in (KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(leaving)):
            router.run("hello", raises(error), raises(leaving))
        with pytest.raises(type(leaving)):
            router.run("hello", raises(leaving), raises(AssertionError()))


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def of(module: str, name: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """What another library raises: the class below the one that is known."""
    known = type(name, (base,), {"__module__": module})
    error: Exception = type("Special", (known,), {"__module__": module})("x")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


class Raises(Exception):
    @property
    def response(self) -> NoReturn:
        raise RuntimeError("no answer yet")


class RaisesMore(ConnectionError):
    @property
    def reason(self) -> NoReturn:
        raise RuntimeError("no reason yet")


DOWN = [
    mcpctl.McpctlError(),
    mcpctl.UnavailableError(),
    mcpctl.ProviderError(),
    mcpctl.ProviderTimeoutError(),
    mcpctl.InternalError(),
    ConnectionRefusedError(),
    BrokenPipeError(),
    TimeoutError(),
    asyncio.TimeoutError(),
    OSError(errno.ECONNREFUSED, "refused"),
    OSError(errno.ENETUNREACH, "no way"),
    socket.gaierror(-2, "unknown host"),
    ssl.SSLError(1, "no certificate"),
    urllib.error.URLError(ConnectionRefusedError()),
    urllib.error.HTTPError("http://h", 503, "", Message(), None),
    of("httpx", "ConnectError", of("httpx", "NetworkError").__class__),
    of("httpx", "TimeoutException"),
    of("httpx", "RemoteProtocolError"),
    of("httpx", "HTTPStatusError", response=Answer(502)),
    of("openai", "APIConnectionError"),
    of("openai", "InternalServerError", status_code=500),
    of("anthropic._exceptions", "APIConnectionError"),
    of("requests.exceptions", "ConnectionError", OSError),
    of("aiohttp.client_exceptions", "ClientResponseError", status=504),
]

REFUSED = [
    mcpctl.NotFoundError(),
    mcpctl.RateLimitedError(),
    mcpctl.UnauthenticatedError(),
    mcpctl.InvalidError("502 Bad Gateway: connection refused"),
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "no"),
    OSError("connection refused"),
    urllib.error.URLError("unknown url type"),
    urllib.error.HTTPError("http://h", 404, "", Message(), None),
    of("httpx", "HTTPStatusError", response=Answer(429)),
    of("httpx", "PoolTimeout", of("httpx", "TimeoutException").__class__),
    of("openai", "RateLimitError", status_code=429),
    of("openai", "APIStatusError", of("openai", "APIConnectionError").__class__, status_code=400),
    of("elsewhere", "ConnectError"),
    of("elsewhere", "Failure", code=503),
    of("elsewhere", "Failure", status_code="503"),
    Raises(),
    RaisesMore(),
    ValueError("503"),
    KeyError(503),
]


@pytest.mark.parametrize("error", DOWN, ids=repr)
def test_what_counts_as_down(router: mcpctl.FailoverRouter, error: Exception) -> None:
    assert router.run("hello", raises(error), local).failover


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_what_is_an_answer(router: mcpctl.FailoverRouter, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        router.run("hello", raises(error), local)
    assert raised.value is error


def test_something_else_in_the_servers_place_is_not_down(provider: Provider, laptop: dict[str, Any]) -> None:
    # It answers 501 to a GET, and no server of this kind does.
    with pytest.raises(mcpctl.McpctlError) as error:
        mcpctl.Client(provider.url).models()
    assert error.value.down is (error.value.status >= 500)


def test_an_exception_without_room_stays_as_it_is(router: mcpctl.FailoverRouter) -> None:
    class Closed(ConnectionError):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("closed")

        def add_note(self, note: str) -> None:
            raise TypeError("closed")

    error = Closed()
    with pytest.raises(Closed) as raised:
        router.run("hello", raises(error), raises(RuntimeError()))
    assert raised.value is error


def test_coroutines_are_routed_the_same_way(
    client: mcpctl.Client, provider: Provider, laptop: dict[str, Any], dead: str
) -> None:
    async def fails() -> str:
        raise error

    async def stands_in(name: str) -> str:
        await asyncio.sleep(0)
        return f"from {name}"

    async def breaks(name: str) -> str:
        raise RuntimeError(name)

    async def succeeds() -> str:
        return "primary"

    async def waits(*_: str) -> str:
        waiting.set()
        await asyncio.sleep(60)
        return ""

    async def work() -> None:
        asynchronous = mcpctl.AsyncClient(client.url, client.token)
        async with mcpctl.AsyncFailoverRouter(asynchronous, [laptop]) as router:
            routed = await router.infer(dead, QUESTION)
            assert (content(routed), routed.via) == ("Hello!", "laptop")
            stream = await router.infer(dead, QUESTION, stream=True)
            assert words([chunk async for chunk in stream.value]) == [*WORDS]
            assert not (await router.infer("hello", QUESTION)).failover
            assert (await router.run("hello", succeeds, breaks)).value == "primary"
            assert (await router.run("hello", fails, stands_in)).value == "from laptop"
            for llm, local in (("unknown", stands_in), ("hello", breaks)):
                with pytest.raises(ConnectionError) as raised:
                    await router.run(llm, fails, local)
                assert raised.value is error
            assert "laptop: laptop" in getattr(error, "mcpctl_decision")
            for call in (router.run("hello", waits, breaks), router.run("hello", fails, waits)):
                waiting.clear()
                task = asyncio.create_task(call)
                await asyncio.wait_for(waiting.wait(), 5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    error, waiting = ConnectionError(), asyncio.Event()
    asyncio.run(asyncio.wait_for(work(), 30))


def test_leaving_a_local_stream_ends_its_request(
    router: mcpctl.FailoverRouter, provider: Provider, dead: str
) -> None:
    router.register(name="slow", type="vllm", model="pauses", url=provider.url)
    router.map(dead, "slow")
    routed = router.infer(dead, QUESTION, stream=True)
    assert routed.via == "slow" and next(routed.value)
    routed.value.close()
    assert provider.client_left.wait(5)


def test_providers_are_registered_and_mapped(client: mcpctl.Client) -> None:
    router = mcpctl.FailoverRouter(client)
    assert (router.active, router.providers(), router.mappings()) == (None, [], {})
    router.register(name="b", type="vllm", model="m", url=NOWHERE, tier="heavy", failover_for=["two", "one"])
    router.register(name="a", type="openai", model="m", url=NOWHERE, api_key="sk-local", tier="fast")
    assert [provider["name"] for provider in router.providers()] == ["b", "a"]
    assert router.providers("fast") == [{"name": "a", "type": "openai", "model": "m", "url": NOWHERE, "tier": "fast"}]
    assert "sk-local" not in repr(router) + repr(vars(router)) + repr(router.providers())
    assert router.active == "b"
    router.active = "a"
    assert router.active == "a"
    router.map("three", "a")
    assert list(router.mappings().items()) == [("two", "b"), ("one", "b"), ("three", "a")]
    with pytest.raises(mcpctl.ConflictError, match="failoverFor: `b` stands in for llm `one` already"):
        router.register(name="c", type="vllm", model="m", url=NOWHERE, failover_for=["four", "one"])
    assert "four" not in router.mappings() and len(router.providers()) == 2, "all or nothing"
    router.map("one", "a")
    assert list(router.mappings()) == ["two", "one", "three"]
    with pytest.raises(mcpctl.ConflictError, match="called `a` already"):
        router.register(name="a", type="vllm", model="m", url=NOWHERE)
    router.unregister("a")
    assert (router.mappings(), router.active) == ({"two": "b"}, "b")
    assert router.unmap("two") and not router.unmap("two")
    unknown = pytest.raises(mcpctl.NotFoundError, match="no local provider is called `a`; there are: b")
    with unknown:
        router.unregister("a")
    with unknown:
        router.map("x", "a")
    with unknown:
        router.active = "a"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": "A b"}, "name: must be"),
        ({"type": "llama"}, "type: `llama` is not one of"),
        ({"url": "ftp://x"}, "url: invalid URL"),
        ({"url": None}, "url: is required"),
        ({"tier": "slow"}, "tier: must be one of"),
        ({"failover_for": ["*"]}, "failoverFor: the name of an llm"),
        ({"failover_for": [], "failoverFor": []}, "failoverFor: is given twice"),
        ({"max_model_len": 8}, "maxModelLen: is for type vllm-managed alone"),
        ({"api_key": {"sk-very-secret": 1}}, "apiKey: must be a string"),
        ({"modle": "x"}, "unknown field `modle`"),
        ({"base_url": "x"}, "unknown field `base_url`"),
    ],
)
def test_faults_name_the_field(client: mcpctl.Client, fields: dict[str, Any], fault: str) -> None:
    entry = {"name": "a", "type": "vllm", "model": "m", "url": NOWHERE, **fields}
    router = mcpctl.FailoverRouter(client)
    with pytest.raises(mcpctl.InvalidError) as one:
        router.register(**entry)
    with pytest.raises(mcpctl.InvalidError, match="^providers") as listed:
        mcpctl.FailoverRouter(client, [entry])
    for error in (one, listed):
        assert fault in str(error.value) and "sk-very-secret" not in str(error.value)
    assert router.providers() == []
    with pytest.raises(mcpctl.InvalidError, match=r"^providers\[0\]: "):
        mcpctl.FailoverRouter(client, ["laptop"])  # type: ignore[list-item]


def test_a_lease_holds_while_the_server_is_away(tmp_path: Path, provider: Provider) -> None:
    leases = tmp_path / "leases.json"
    with serve(tmp_path) as (url, server):
        client = mcpctl.Client(url)
        client.login(ADMIN, PASSWORD)
        for llm, extra in (("leased", {"failoverLeaseSeconds": 600}), ("unleased", {})):
            client.llms.create(llm, type="vllm", model="hello", url=provider.url, extraConfig=extra)
        laptop = {
            "name": "laptop",
            "type": "ollama",
            "model": "local",
            "url": provider.url,
            "failoverFor": ["leased", "unleased"],
        }
        with mcpctl.FailoverRouter(client, [laptop], leases) as router:
            for llm in ("leased", "unleased"):
                assert not router.infer(llm, QUESTION).failover
        assert leases.stat().st_mode & 0o777 == 0o600
        assert client.token and client.token not in leases.read_text()
        server.kill()
        server.wait()
        # Another program, later.
        with mcpctl.FailoverRouter(mcpctl.Client(url, client.token), [laptop], str(leases)) as router:
            routed = router.infer("leased", QUESTION)
            assert (routed.via, content(routed)) == ("laptop", "Hello!")
            assert routed.decision == "a local provider answered, under a lease of the server"
            assert router.run("leased", raises(ConnectionError()), local).value == "from laptop"
            with pytest.raises(mcpctl.UnavailableError) as error:
                router.infer("unleased", QUESTION)
            assert "no lease is held for this llm" in str(error.value.mcpctl_decision)
        for other in (
            mcpctl.FailoverRouter(mcpctl.Client(url, "another token"), [laptop], leases),
            mcpctl.FailoverRouter(mcpctl.Client(url, client.token), [laptop]),
        ):
            with pytest.raises(mcpctl.UnavailableError):
                other.infer("leased", QUESTION)
