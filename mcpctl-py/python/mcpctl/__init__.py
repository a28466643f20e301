"""One server that holds a catalogue of LLMs and the only copy of their keys.

`Client` and `AsyncClient` talk to a running server; `Registry` and `AsyncRegistry` are its core in this process.
`FailoverRouter` and `AsyncFailoverRouter` let a model of your own answer while the server is down.

    >>> import mcpctl
    >>> with mcpctl.Registry.open("memory://") as registry:
    ...     llm = registry.llms.create("gpt", type="openai", model="gpt-4o-mini")
    ...     llm["tier"]
    'fast'

Every error is a `McpctlError`; its subclasses say what went wrong.
"""

from ._async import AsyncClient, AsyncRegistry, AsyncResources
from ._failover import AsyncFailoverRouter, FailoverRouter, Routed
from ._native import (
    ChunkStream,
    ConflictError,
    ForbiddenError,
    InternalError,
    InvalidError,
    McpctlError,
    NotFoundError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    SealedError,
    SecretUnavailableError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    __version__,
)
from ._sync import Client, Registry, Resources

__all__ = [
    "AsyncClient",
    "AsyncFailoverRouter",
    "AsyncRegistry",
    "AsyncResources",
    "ChunkStream",
    "Client",
    "ConflictError",
    "FailoverRouter",
    "ForbiddenError",
    "InternalError",
    "InvalidError",
    "McpctlError",
    "NotFoundError",
    "ProviderError",
    "ProviderTimeoutError",
    "RateLimitedError",
    "Registry",
    "Resources",
    "Routed",
    "SealedError",
    "SecretUnavailableError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]
