"""Local providers that answer while the server, or a provider behind it, is down. The core decides when."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from . import _native
from ._async import AsyncClient
from ._sync import Client, Messages, Object, Objects

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

# In the words of the core.
_PRIMARY = "the primary answered"


@dataclass(frozen=True)
class Routed(Generic[T]):
    """A result, and where it comes from.

    >>> mcpctl.Routed("Hello!", failover=True, via="laptop", decision="…").via
    'laptop'
    """

    value: T
    """The answer: a dict, an iterator of chunks, or what one's own callable gave."""
    failover: bool
    """Whether a local provider gave it."""
    via: str | None
    """That provider's name."""
    decision: str
    """Why, in words for people."""


class _Providers:
    """The local providers, and which Llm of the server each stands in for. Both keep the order in which they came."""

    def __init__(
        self,
        client: Client | AsyncClient,
        providers: Iterable[Mapping[str, Any]],
        leases: str | os.PathLike[str] | None,
    ) -> None:
        folder = os.environ.get("MCPCTL_HOME")
        home = Path(folder) if folder else Path("~/.mcpctl").expanduser()
        kept = None if leases is None else os.fspath(leases)
        self._native = _native.Failover(client._native, list(providers), kept, str(home))

    def __repr__(self) -> str:
        names = [provider["name"] for provider in self.providers()]
        return f"<mcpctl {type(self).__name__}: {', '.join(names) or 'no providers'}>"

    def register(self, *, name: str, type: str, model: str, **settings: Any) -> None:
        """Adds a provider; ``failover_for`` lists the Llms that it stands in for. The first one is the active one.

        The fields are those of ``providers`` in ``~/.mcpctl/config.json``, in Python's spelling or in the file's. A
        `ConflictError` if the name is taken, or an Llm has a stand-in already.

        >>> router = mcpctl.FailoverRouter(mcpctl.Client("http://127.0.0.1:3100"))
        >>> router.register(name="laptop", type="ollama", model="qwen3:4b", url="http://127.0.0.1:11434",
        ...                 tier="fast", failover_for=["gpt"])
        >>> router
        <mcpctl FailoverRouter: laptop>
        >>> router.register(name="gpu", type="vllm-managed", model="Qwen/Qwen3-8B", idle_timeout_minutes=-1)
        Traceback (most recent call last):
        mcpctl.InvalidError: idleTimeoutMinutes: must be a number of minutes, at most a year
        """
        self._native.register({"name": name, "type": type, "model": model, **settings})

    def unregister(self, name: str) -> None:
        """Removes a provider, and every mapping to it."""
        self._native.unregister(name)

    def map(self, llm: str, provider: str) -> None:
        """Lets a provider stand in for an Llm, in the place of another if there is one.

        >>> router = mcpctl.FailoverRouter(mcpctl.Client("http://127.0.0.1:3100"))
        >>> router.map("gpt", "laptop")
        Traceback (most recent call last):
        mcpctl.NotFoundError: no local provider is called `laptop`; there are none
        """
        self._native.map(llm, provider)

    def unmap(self, llm: str) -> bool:
        """Ends the mapping of an Llm. Whether there was one."""
        return self._native.unmap(llm)

    def mappings(self) -> dict[str, str]:
        """Who stands in for which Llm: the Llm's name, and the provider's."""
        return dict(self._native.mappings())

    def providers(self, tier: str | None = None) -> Objects:
        """The providers, or those of one tier: ``name``, ``type``, ``model``, ``url``, ``tier``. No keys.

        >>> laptop = {"name": "laptop", "type": "ollama", "model": "qwen3:4b", "url": "http://127.0.0.1:11434"}
        >>> router = mcpctl.FailoverRouter(mcpctl.Client("http://127.0.0.1:3100"), [laptop])
        >>> router.providers() == [laptop]
        True
        """
        return self._native.providers(tier)

    @property
    def active(self) -> str | None:
        """The name of the active provider. Assigning another's makes that the active one."""
        return self._native.active()

    @active.setter
    def active(self, name: str) -> None:
        self._native.set_active(name)


class FailoverRouter(_Providers):
    """Calls of Llms, which local providers answer while the server, or the provider behind it, is down.

    ``providers`` are dicts, as in ``~/.mcpctl/config.json``. A provider stands in only for whom the server lets see the
    Llm, and it is asked each time; without its word nothing is answered locally. ``leases`` is a file in which the
    server's signed permissions are kept, for as long as each says: with one, failover works while the server is away.

    `close` it, or use it as a context manager, and providers that it started end.

    >>> client = mcpctl.Client("http://127.0.0.1:1")
    >>> router = mcpctl.FailoverRouter(client, [
    ...     {"name": "laptop", "type": "ollama", "model": "qwen3:4b", "url": "http://127.0.0.1:11434",
    ...      "failover_for": ["gpt"]},
    ... ])
    >>> router.mappings()
    {'gpt': 'laptop'}
    >>> try:
    ...     router.infer("gpt", [{"role": "user", "content": "Hello"}])
    ... except mcpctl.UnavailableError as error:
    ...     error.mcpctl_decision.split(":")[0]
    'the server could not be asked for its consent'
    """

    def __init__(
        self,
        client: Client,
        providers: Iterable[Mapping[str, Any]] = (),
        leases: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(client, providers, leases)

    @overload
    def infer(
        self, name: str, messages: Messages, stream: Literal[False] = False, **params: Any
    ) -> Routed[Object]: ...
    @overload
    def infer(
        self, name: str, messages: Messages, stream: Literal[True], **params: Any
    ) -> Routed[_native.ChunkStream]: ...
    @overload
    def infer(
        self, name: str, messages: Messages, stream: bool, **params: Any
    ) -> Routed[Object] | Routed[_native.ChunkStream]: ...
    def infer(
        self, name: str, messages: Messages, stream: bool = False, **params: Any
    ) -> Routed[Object] | Routed[_native.ChunkStream]:
        """Asks an Llm, as `Client.infer` does: the answer is in ``value``. A stream has begun when this returns.

        When nobody may stand in, or the one who does fails too, the server's own error is raised, and its
        ``mcpctl_decision`` says why.

        >>> router = mcpctl.FailoverRouter(client, [laptop])  # the provider of `gpt` is down
        >>> routed = router.infer("gpt", messages)
        >>> routed.value["choices"][0]["message"]["content"], routed.via
        ('Hello!', 'laptop')
        """
        answer: tuple[Any, bool, str | None, str]
        answer = self._native.infer(name, {"messages": messages, **params}, stream).wait()
        return Routed(*answer)

    def run(self, llm: str, primary: Callable[[], T], local: Callable[[str], T]) -> Routed[T]:
        """Calls ``primary()`` and, if it is down and the caller may see the Llm, ``local(provider)``.

        Down is no connection, no answer in time, or a status of 500 or more: of this package, of Python's own
        exceptions, and of httpx, openai, anthropic, requests and aiohttp. A refusal is an answer. What ``primary``
        raised is raised again, the same object, whenever nobody stands in.

        >>> def primary():
        ...     raise ConnectionRefusedError("nobody is there")
        >>> router = mcpctl.FailoverRouter(mcpctl.Client("http://127.0.0.1:1"))
        >>> router.run("gpt", primary, lambda provider: f"answered by {provider}")
        Traceback (most recent call last):
        ConnectionRefusedError: nobody is there
        >>> router.run("gpt", lambda: "Hello!", lambda provider: "").value
        'Hello!'
        """
        try:
            value = primary()
        except Exception as error:
            via, decision = self._native.stand_in(llm, error).wait()
            if via is not None:
                try:
                    return Routed(local(via), True, via, decision)
                except Exception as fault:
                    self._native.stand_in_failed(error, via, fault)
            raise
        return Routed(value, False, None, _PRIMARY)

    def close(self) -> None:
        """Writes leases that are still to be written, and ends the providers that were started."""
        self._native.close().wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncFailoverRouter(_Providers):
    """`FailoverRouter` as coroutines, with an `AsyncClient`.

    >>> async with mcpctl.AsyncFailoverRouter(client, [laptop]) as router:  # the provider of `gpt` is down
    ...     routed = await router.infer("gpt", messages)
    >>> routed.via
    'laptop'
    """

    def __init__(
        self,
        client: AsyncClient,
        providers: Iterable[Mapping[str, Any]] = (),
        leases: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(client, providers, leases)

    @overload
    async def infer(
        self, name: str, messages: Messages, stream: Literal[False] = False, **params: Any
    ) -> Routed[Object]: ...
    @overload
    async def infer(
        self, name: str, messages: Messages, stream: Literal[True], **params: Any
    ) -> Routed[_native.ChunkStream]: ...
    @overload
    async def infer(
        self, name: str, messages: Messages, stream: bool, **params: Any
    ) -> Routed[Object] | Routed[_native.ChunkStream]: ...
    async def infer(
        self, name: str, messages: Messages, stream: bool = False, **params: Any
    ) -> Routed[Object] | Routed[_native.ChunkStream]:
        """Asks an Llm; see `FailoverRouter.infer`."""
        answer: tuple[Any, bool, str | None, str]
        answer = await self._native.infer(name, {"messages": messages, **params}, stream)
        return Routed(*answer)

    async def run(
        self, llm: str, primary: Callable[[], Awaitable[T]], local: Callable[[str], Awaitable[T]]
    ) -> Routed[T]:
        """Awaits ``primary()`` and, if it is down and the caller may see the Llm, ``local(provider)``.

        See `FailoverRouter.run`. Both run in the task that awaits this; cancelling it cancels them.
        """
        try:
            value = await primary()
        except Exception as error:
            via, decision = await self._native.stand_in(llm, error)
            if via is not None:
                try:
                    return Routed(await local(via), True, via, decision)
                except Exception as fault:
                    self._native.stand_in_failed(error, via, fault)
            raise
        return Routed(value, False, None, _PRIMARY)

    async def close(self) -> None:
        """Writes leases that are still to be written, and ends the providers that were started."""
        await self._native.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
