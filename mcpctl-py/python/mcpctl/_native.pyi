"""The native half of the package: what `_sync.py` and `_async.py` are made of."""

from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, final

__all__ = [
    "Call",
    "ChunkStream",
    "Client",
    "ConflictError",
    "Failover",
    "ForbiddenError",
    "InternalError",
    "InvalidError",
    "KINDS",
    "McpctlError",
    "NotFoundError",
    "ProviderError",
    "ProviderTimeoutError",
    "RateLimitedError",
    "Registry",
    "SealedError",
    "SecretUnavailableError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]

_T = TypeVar("_T", covariant=True)
_Object = dict[str, Any]

KINDS: Final[tuple[str, ...]]
__version__: Final[str]

@final
class Call(Generic[_T]):
    """A call that begins when it is waited for, which happens once."""

    def wait(self) -> _T: ...
    def __await__(self) -> Generator[Any, None, _T]: ...

@final
class ChunkStream:
    """The chunks of an answer, as dicts in OpenAI's format: an iterator, and an asynchronous one.

    Dropping or closing it ends the request. It is a context manager too.
    """

    def __iter__(self) -> ChunkStream: ...
    def __next__(self) -> _Object: ...
    def __aiter__(self) -> ChunkStream: ...
    async def __anext__(self) -> _Object: ...
    def close(self) -> None: ...
    def __enter__(self) -> ChunkStream: ...
    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
        /,
    ) -> None: ...

class _Catalogue:
    def models(self) -> Call[list[_Object]]: ...
    def list(self, plural: str, filters: list[tuple[str, str]]) -> Call[list[_Object]]: ...
    def get(self, plural: str, name: str, show_values: bool) -> Call[_Object]: ...
    def create(self, plural: str, body: Mapping[str, Any]) -> Call[_Object]: ...
    def update(self, plural: str, name: str, body: Mapping[str, Any], version: int | None) -> Call[_Object]: ...
    def delete(self, plural: str, name: str) -> Call[None]: ...
    def infer(self, name: str, body: Mapping[str, Any], stream: bool) -> Call[Any]: ...

@final
class Client(_Catalogue):
    """The client of a running server."""

    def __new__(cls, url: str, token: str | None = None) -> Client: ...
    @property
    def url(self) -> str: ...
    @property
    def token(self) -> str | None: ...
    def login(self, email: str, password: str) -> Call[_Object]: ...
    def logout(self) -> Call[None]: ...
    def whoami(self) -> Call[_Object]: ...
    def can_i(self, action: str, resource: str | None, name: str | None) -> Call[_Object]: ...

@final
class Registry(_Catalogue):
    """The embedded core."""

    @staticmethod
    def open(url: str, master_key: str | None, program: str) -> Call[Registry]: ...
    def close(self) -> Call[None]: ...

@final
class Failover:
    """Local providers, and when they stand in."""

    def __new__(
        cls, client: Client, providers: list[Mapping[str, Any]], leases: str | None, home: str | None
    ) -> Failover: ...
    def infer(self, name: str, body: Mapping[str, Any], stream: bool) -> Call[Any]: ...
    def stand_in(self, llm: str, error: BaseException) -> Call[tuple[str | None, str]]: ...
    @staticmethod
    def stand_in_failed(error: BaseException, via: str, fault: BaseException) -> None: ...
    def register(self, settings: Mapping[str, Any]) -> None: ...
    def unregister(self, name: str) -> None: ...
    def map(self, llm: str, provider: str) -> None: ...
    def unmap(self, llm: str) -> bool: ...
    def mappings(self) -> list[tuple[str, str]]: ...
    def providers(self, tier: str | None) -> list[_Object]: ...
    def active(self) -> str | None: ...
    def set_active(self, name: str) -> None: ...
    def close(self) -> Call[None]: ...

class McpctlError(Exception):
    """The base of everything that goes wrong."""

    status: int
    """The HTTP status that stands for it."""
    retryable: bool
    """Whether the same call may succeed later, unchanged."""
    retry_after: float | None
    """How many seconds to wait before that, or None when that is not known."""
    down: bool
    """Whether the server, or the provider behind it, is down, rather than that it refused."""
    mcpctl_decision: str | None
    """Why no local provider answered, or None when no `FailoverRouter` was asked."""

class InvalidError(McpctlError):
    """The input is malformed or failed validation; the message lists every fault."""

class UnauthenticatedError(McpctlError):
    """No token, or one that is unknown, expired or revoked."""

class ForbiddenError(McpctlError):
    """The permission that the message names is missing."""

class NotFoundError(McpctlError):
    """There is no such resource."""

class ConflictError(McpctlError):
    """The name is taken, the version is stale, or the resource is in use."""

class TooLargeError(McpctlError):
    """The input is over a size limit."""

class RateLimitedError(McpctlError):
    """Too many calls; see `retry_after`."""

class UnavailableError(McpctlError):
    """The server or its database cannot be reached, or is overloaded."""

class SealedError(McpctlError):
    """The master key does not fit the stored values."""

class SecretUnavailableError(McpctlError):
    """A stored secret value cannot be read."""

class UnsupportedError(McpctlError):
    """The request is understood, and this build cannot serve it."""

class ProviderError(McpctlError):
    """The provider could not be reached, broke off, or answered rubbish."""

class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time."""

class InternalError(McpctlError):
    """A fault of mcpctl itself."""
