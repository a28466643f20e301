"""Functions that wait for their answer. Other Python threads run meanwhile, and Ctrl-C ends the wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from . import _native

if TYPE_CHECKING:
    from typing_extensions import Self

Object: TypeAlias = dict[str, Any]
"""A JSON object: a resource, an answer, a chunk."""

Objects: TypeAlias = list[dict[str, Any]]

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""A conversation in OpenAI's format: ``[{"role": "user", "content": "Hello"}]``."""


class Resources:
    """The resources of one kind. A resource is a dict with ``id``, ``name``, ``version`` and its kind's fields."""

    def __init__(self, native: _native._Catalogue, kind: str) -> None:
        self._native = native
        self._kind = kind

    def __repr__(self) -> str:
        return f"<mcpctl {self._kind}>"

    def list(self, **filters: str) -> Objects:
        """All that the caller may view, sorted by name.

        >>> [llm["name"] for llm in client.llms.list(tier="fast")]
        ['claude', 'gpt']
        """
        return self._native.list(self._kind, list(filters.items())).wait()

    def get(self, name: str, *, show_values: bool = False) -> Object:
        """The one of this name or id.

        ``show_values`` adds the values of a Secret as ``data``; that needs the right to edit it, and is audited.
        """
        return self._native.get(self._kind, name, show_values).wait()

    def create(self, name: str, **fields: Any) -> Object:
        """Creates one.

        >>> client.secrets.create("openai", data={"token": "sk-…"})["keys"]
        ['token']
        >>> llm = client.llms.create("mini", type="openai", model="gpt-4o-mini",
        ...                          apiKeyRef={"name": "openai", "key": "token"})
        >>> llm["version"], llm["tier"]
        (1, 'fast')
        """
        return self._native.create(self._kind, {"name": name, **fields}).wait()

    def update(self, name: str, /, *, version: int | None = None, **fields: Any) -> Object:
        """Changes the fields that are given and leaves the others, as a JSON merge patch does: None unsets.

        With ``version``, the change is refused with a `ConflictError` if the stored one is another.

        >>> client.llms.update("gpt", tier="heavy", apiKeyRef=None)["version"]
        2
        """
        return self._native.update(self._kind, name, fields, version).wait()

    def delete(self, name: str) -> None:
        """Deletes the one of this name or id."""
        self._native.delete(self._kind, name).wait()


class Catalogue:
    """What a server and the embedded core have in common."""

    groups: Resources
    llms: Resources
    mcptokens: Resources
    projects: Resources
    rbac: Resources
    secretbackends: Resources
    secrets: Resources
    users: Resources

    def __init__(self, native: _native._Catalogue) -> None:
        for kind in _native.KINDS:
            setattr(self, kind, Resources(native, kind))
        self._catalogue = native

    @overload
    def infer(
        self, name: str, messages: Messages, stream: Literal[False] = False, **params: Any
    ) -> Object: ...
    @overload
    def infer(
        self, name: str, messages: Messages, stream: Literal[True], **params: Any
    ) -> _native.ChunkStream: ...
    @overload
    def infer(
        self, name: str, messages: Messages, stream: bool, **params: Any
    ) -> Object | _native.ChunkStream: ...
    def infer(
        self, name: str, messages: Messages, stream: bool = False, **params: Any
    ) -> Object | _native.ChunkStream:
        """Asks an Llm, in OpenAI's format whatever the provider. ``params`` are the request's other fields.

        The answer is a dict or, with ``stream``, an iterator of chunks. It takes as long as the model does.

        >>> messages = [{"role": "user", "content": "Hi"}]
        >>> client.infer("gpt", messages, temperature=0)["choices"][0]["message"]["content"]
        'Hello!'
        >>> for chunk in client.infer("gpt", messages, stream=True):
        ...     print(chunk["choices"][0]["delta"].get("content", ""), end="|")
        Keys |stay |on |the |server|.|
        """
        answer: Object | _native.ChunkStream
        answer = self._catalogue.infer(name, {"messages": messages, **params}, stream).wait()
        return answer

    def models(self) -> Objects:
        """The Llms that the caller may run, as OpenAI lists models: ``id`` is the Llm's name."""
        return self._catalogue.models().wait()


class Client(Catalogue):
    """A client of a running server. Threads may share one.

    >>> client = mcpctl.Client("http://127.0.0.1:3100")
    >>> client.login("admin@localhost", "PASSWORD")["user"]["name"]
    'admin@localhost'
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._native = _native.Client(url, token)
        super().__init__(self._native)

    def __repr__(self) -> str:
        return f"mcpctl.Client({self.url!r})"

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._native.url

    @property
    def token(self) -> str | None:
        """The token that this client sends: keep it as you would a password."""
        return self._native.token

    def login(self, email: str, password: str) -> Object:
        """Begins a session, whose token this client sends from now on.

        Gives ``{"user": …, "expiresAt": …}``; the token is in `token`, and in nothing that is printed.
        """
        return self._native.login(email, password).wait()

    def logout(self) -> None:
        """Ends the session; its token is worth nothing from now on."""
        self._native.logout().wait()

    def whoami(self) -> Object:
        """Whose token this client sends: ``{"user": …}``."""
        return self._native.whoami().wait()

    def can_i(self, action: str, resource: str | None = None, name: str | None = None) -> Object:
        """Whether the caller may, and why: ``{"allowed": …, "reason": …, "binding": …}``.

        >>> client.can_i("run", "llms", "gpt")["allowed"]
        True
        """
        return self._native.can_i(action, resource, name).wait()


class Registry(Catalogue):
    """The core in this process: no server, no HTTP between you and the catalogue. Made by `open`.

    The program owns the database, so it may do everything. `close` it, or use it as a context manager: one process
    has an SQLite database to itself.
    """

    def __init__(self, native: _native.Registry) -> None:
        self._native = native
        super().__init__(native)

    def __repr__(self) -> str:
        return "<mcpctl Registry>"

    @classmethod
    def open(cls, url: str, *, master_key: str | None = None, program: str = "python") -> Self:
        """Opens ``sqlite://PATH`` or ``memory://``.

        ``master_key`` is 32 bytes in base64 or hexadecimal, which protect the stored secret values. Without it, the
        file ``master.key`` beside the database is used, and made when it is not there, as the server does.
        ``program`` is who the audit trail says it was.

        >>> with mcpctl.Registry.open(f"sqlite://{folder}/mcpctl.db") as registry:
        ...     registry.llms.create("gpt", type="openai", model="gpt-4o-mini")["version"]
        1
        >>> os.path.exists(f"{folder}/master.key")
        True
        """
        return cls(_native.Registry.open(url, master_key, program).wait())

    def close(self) -> None:
        """Writes what is still to be written, and lets go of the database."""
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
