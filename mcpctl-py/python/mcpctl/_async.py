"""The same as coroutines, for asyncio. Cancelling one ends the request."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from . import _native
from ._sync import Messages, Object, Objects

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncResources:
    """The resources of one kind: `Resources` as coroutines."""

    def __init__(self, native: _native._Catalogue, kind: str) -> None:
        self._native = native
        self._kind = kind

    def __repr__(self) -> str:
        return f"<mcpctl {self._kind}, async>"

    async def list(self, **filters: str) -> Objects:
        """All that the caller may view, sorted by name."""
        return await self._native.list(self._kind, list(filters.items()))

    async def get(self, name: str, *, show_values: bool = False) -> Object:
        """The one of this name or id; see `Resources.get`."""
        return await self._native.get(self._kind, name, show_values)

    async def create(self, name: str, **fields: Any) -> Object:
        """Creates one; see `Resources.create`."""
        return await self._native.create(self._kind, {"name": name, **fields})

    async def update(self, name: str, /, *, version: int | None = None, **fields: Any) -> Object:
        """Changes the fields that are given and leaves the others; see `Resources.update`."""
        return await self._native.update(self._kind, name, fields, version)

    async def delete(self, name: str) -> None:
        """Deletes the one of this name or id."""
        await self._native.delete(self._kind, name)


class AsyncCatalogue:
    """What a server and the embedded core have in common."""

    groups: AsyncResources
    llms: AsyncResources
    mcptokens: AsyncResources
    projects: AsyncResources
    rbac: AsyncResources
    secretbackends: AsyncResources
    secrets: AsyncResources
    users: AsyncResources

    def __init__(self, native: _native._Catalogue) -> None:
        for kind in _native.KINDS:
            setattr(self, kind, AsyncResources(native, kind))
        self._catalogue = native

    @overload
    async def infer(
        self, name: str, messages: Messages, stream: Literal[False] = False, **params: Any
    ) -> Object: ...
    @overload
    async def infer(
        self, name: str, messages: Messages, stream: Literal[True], **params: Any
    ) -> _native.ChunkStream: ...
    @overload
    async def infer(
        self, name: str, messages: Messages, stream: bool, **params: Any
    ) -> Object | _native.ChunkStream: ...
    async def infer(
        self, name: str, messages: Messages, stream: bool = False, **params: Any
    ) -> Object | _native.ChunkStream:
        """Asks an Llm; see `Client.infer`. With ``stream``, what is awaited is an asynchronous iterator.

        >>> async for chunk in await client.infer("gpt", messages, stream=True):
        ...     print(chunk["choices"][0]["delta"].get("content", ""), end="|")
        Keys |stay |on |the |server|.|
        """
        answer: Object | _native.ChunkStream
        answer = await self._catalogue.infer(name, {"messages": messages, **params}, stream)
        return answer

    async def models(self) -> Objects:
        """The Llms that the caller may run, as OpenAI lists models: ``id`` is the Llm's name."""
        return await self._catalogue.models()


class AsyncClient(AsyncCatalogue):
    """A client of a running server: `Client` as coroutines.

    >>> client = mcpctl.AsyncClient("http://127.0.0.1:3100", token="TOKEN")
    >>> one, two = await asyncio.gather(
    ...     client.infer("gpt", messages), client.infer("claude", messages))
    >>> one["choices"][0]["message"]["content"]
    'Hello!'
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._native = _native.Client(url, token)
        super().__init__(self._native)

    def __repr__(self) -> str:
        return f"mcpctl.AsyncClient({self.url!r})"

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._native.url

    @property
    def token(self) -> str | None:
        """The token that this client sends: keep it as you would a password."""
        return self._native.token

    async def login(self, email: str, password: str) -> Object:
        """Begins a session, whose token this client sends from now on; see `Client.login`."""
        return await self._native.login(email, password)

    async def logout(self) -> None:
        """Ends the session; its token is worth nothing from now on."""
        await self._native.logout()

    async def whoami(self) -> Object:
        """Whose token this client sends: ``{"user": …}``."""
        return await self._native.whoami()

    async def can_i(self, action: str, resource: str | None = None, name: str | None = None) -> Object:
        """Whether the caller may, and why; see `Client.can_i`."""
        return await self._native.can_i(action, resource, name)


class AsyncRegistry(AsyncCatalogue):
    """The core in this process: `Registry` as coroutines.

    >>> async with await mcpctl.AsyncRegistry.open("memory://") as registry:
    ...     await registry.llms.list()
    []
    """

    def __init__(self, native: _native.Registry) -> None:
        self._native = native
        super().__init__(native)

    def __repr__(self) -> str:
        return "<mcpctl AsyncRegistry>"

    @classmethod
    async def open(cls, url: str, *, master_key: str | None = None, program: str = "python") -> Self:
        """Opens ``sqlite://PATH`` or ``memory://``; see `Registry.open`."""
        return cls(await _native.Registry.open(url, master_key, program))

    async def close(self) -> None:
        """Writes what is still to be written, and lets go of the database."""
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
