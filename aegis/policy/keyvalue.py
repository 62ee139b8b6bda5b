"""The key-value capability: the buckets that a guest may open through ``wasi:keyvalue``, their stores and quotas.

Aegis has a store in memory and one in a SQLite file. An embedder can bring another: an object with the methods of
:class:`KeyValueStore`, whose transactions return :class:`KeyValueEntries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aegis.errors import PolicyError
from aegis.limits import parse_bytes, parse_count
from aegis.policy.filesystem import absolute
from aegis.support.lean import TYPE_CHECKING, Any, Protocol, dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from aegis.policy.declaration import Declaration, StatedFile
    from aegis.policy.toml_table import TomlTable
    from aegis.values import Decision

__all__ = ["QUOTAS", "KeyValueCall", "KeyValueCapability", "KeyValueEntries", "KeyValueStore"]

_MAX_NAME_BYTES = 256
"""Bytes of a bucket's name in UTF-8. Names are compared and shown in denials, so they stay short."""
_SQLITE = "sqlite:"
QUOTAS: Mapping[str, Callable[[object, str], int]] = {
    "max_keys": parse_count, "max_bytes": parse_bytes, "max_value_bytes": parse_bytes, "max_key_bytes": parse_bytes,
}  # fmt: skip
"""The quotas of a bucket by name, each with its parser."""


class KeyValueEntries(Protocol):
    """The entries of a bucket during one transaction. Keys are text without lone surrogates, values are bytes.

    Aegis calls the methods on one thread, inside the context of :meth:`KeyValueStore.transaction`, and has checked the
    quotas before ``set``. A change that the transaction made is visible to its own reads.
    """

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, ``None`` if the key does not exist."""

    def set(self, key: str, value: bytes) -> None:
        """Set the value of a key; create the key if it does not exist."""

    def delete(self, key: str) -> None:
        """Delete a key; do nothing if it does not exist."""

    def keys(self, after: str | None, limit: int) -> Sequence[str]:
        """Return up to ``limit`` keys that are greater than ``after``, in the order of their code points.

        ``None`` stands for the start of the bucket. Fewer than ``limit`` keys mean that no more follow.
        """

    def size(self) -> tuple[int, int]:
        """Return the number of keys, and the bytes of all keys (in UTF-8) and values together.

        Aegis asks before each ``set``: a store should keep the counts rather than compute them.
        """


class KeyValueCall(Protocol):
    """The call of a guest for which a store works. Both methods raise when the call must end.

    The reasons are the deadline, a cancellation and Ctrl-C. A store must not catch these errors: they roll back its
    transaction.
    """

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, ``None`` if the call has none."""

    def wait(self, seconds: float) -> object:
        """Sleep for ``seconds``; a deadline or a cancellation ends the sleep early."""


class KeyValueStore(Protocol):
    """The store of one bucket. Several sandboxes may call it at the same time, from different threads.

    ::

        class LockedDict:  # a store; _Entries has the methods of KeyValueEntries on self._values
            @contextmanager
            def transaction(self, call: KeyValueCall) -> Iterator[KeyValueEntries]:
                while not self._lock.acquire(timeout=0.02):
                    call.remaining()  # raises once the deadline has passed
                before = dict(self._values)
                try:
                    yield _Entries(self._values)
                except BaseException:
                    self._values = before
                    raise
                finally:
                    self._lock.release()
    """

    def transaction(self, call: KeyValueCall) -> AbstractContextManager[KeyValueEntries]:
        """Return a context manager for one transaction on the entries.

        Transactions are serialisable: no other caller sees or changes entries during the block. An exception in the
        block undoes its changes. A store that must wait calls ``call.wait``, or ``call.remaining`` at least every
        50 ms, so that a deadline ends the wait.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValueCapability:
    """The buckets that a guest may open by name through ``wasi:keyvalue``. Every other name is denied.

    ``buckets`` maps the name of each bucket (text of 1 to 256 bytes in UTF-8, without control characters) to its store:
    ``"memory"``, which starts empty for each sandbox and is dropped with it; ``"sqlite:PATH"``, a file of the host,
    which sandboxes and processes may share; or a :class:`KeyValueStore`, such as :class:`aegis.MemoryStore`, which all
    sandboxes of the policy share.

    The quotas apply to the content of each bucket, whichever sandbox wrote it; ``None`` lifts a quota. An operation
    that would exceed one fails with an error that the guest can handle.

    Raise :class:`~aegis.errors.PolicyError` for an invalid name, store or quota.

    >>> KeyValueCapability(buckets={"cache": "memory"}, max_keys=100).describe()
    ['key-value bucket cache in memory']
    """

    buckets: Mapping[str, str | KeyValueStore] | tuple[tuple[str, str | KeyValueStore], ...] = ()
    max_keys: int | None = 10_000
    """Keys of one bucket. Each costs about 100 bytes of index besides its own bytes."""
    max_bytes: int | None = 16 << 20
    """Bytes of all keys and values of one bucket. This bounds the memory or the disk space that it takes."""
    max_value_bytes: int | None = 1 << 20
    """Bytes of one value. This bounds the time for which one operation makes other sandboxes wait."""
    max_key_bytes: int | None = 1 << 10
    """Bytes of one key in UTF-8. This bounds a page of keys."""

    def __post_init__(self) -> None:
        given = self.buckets
        items = given.items() if isinstance(given, Mapping) else given
        if (
            isinstance(items, str)
            or not isinstance(items, Iterable)
            or not all(isinstance(i, (tuple, list)) and len(i) == 2 for i in items)
        ):
            raise PolicyError('keyvalue: expected buckets with their stores, such as {"cache": "memory"}')
        buckets = {_checked_name(name): _checked_store(name, store) for name, store in items}
        object.__setattr__(self, "buckets", tuple(sorted(buckets.items(), key=lambda item: item[0])))
        for name, parse in QUOTAS.items():
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else parse(value, f"keyvalue: {name}"))

    @classmethod
    def parse(cls, text: str, base: str | None = None) -> KeyValueCapability:
        """Parse ``BUCKET`` (a bucket in memory) or ``BUCKET=sqlite:PATH``, the argument of ``--allow-keyvalue``.

        A relative path starts at the directory ``base``, by default the working directory. Raise
        :class:`~aegis.errors.PolicyError` for anything else.

        >>> KeyValueCapability.parse("cache=sqlite:/var/lib/app/cache.db").files()
        [('cache', '/var/lib/app/cache.db')]
        """
        if not isinstance(text, str):
            raise PolicyError(f"keyvalue: expected text, not {type(text).__name__}")
        name, mark, store = text.partition("=")
        return cls.of(name, store if mark else "memory", base)

    @classmethod
    def of(cls, name: str, store: str, base: str | None = None) -> KeyValueCapability:
        """Return the capability of one bucket. A relative path of its store starts at the directory ``base``."""
        path = store.removeprefix(_SQLITE)
        if path and path != store:
            store = _SQLITE + absolute(path, base)
        return cls(buckets=((name, store),))

    def __add__(self, other: KeyValueCapability) -> KeyValueCapability:
        """Return the buckets of both, with the quotas of this one. For a name in both, ``other`` wins."""
        return replace(self, buckets={**dict(self.buckets), **dict(other.buckets)})

    def merged(self, other: KeyValueCapability, named: Collection[str] = ()) -> KeyValueCapability:
        """Return the buckets of both, and the quotas that ``other`` states: those in ``named`` or not at their default.

        For a bucket in both, ``other`` wins.
        """
        from aegis.policy.merging import stated

        return replace(self + other, **stated(other, named, *QUOTAS))

    def store_of(self, name: str) -> str | KeyValueStore | None:
        """Return the store of a bucket, ``None`` if its name is not granted."""
        return dict(self.buckets).get(name)

    def files(self) -> list[tuple[str, str]]:
        """Return the name of each bucket in a SQLite file, with the absolute path of the file."""
        return [
            (name, store.removeprefix(_SQLITE))
            for name, store in dict(self.buckets).items()
            if isinstance(store, str) and store.startswith(_SQLITE)
        ]

    def describe(self) -> list[str]:
        """Return one line for each bucket and each lifted quota."""
        stores = dict(self.buckets).items()
        lines = [f"key-value bucket {n} in {s if isinstance(s, str) else type(s).__name__}" for n, s in stores]
        return lines + [f"no limit on {name} of buckets" for name in QUOTAS if getattr(self, name) is None]


def _checked_name(name: object) -> str:
    """Return a valid name of a bucket; raise ``PolicyError`` for others."""
    if not isinstance(name, str):
        raise PolicyError(f"keyvalue: the name of a bucket must be text, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise PolicyError(
            "keyvalue: the name of a bucket has a lone surrogate: use text that UTF-8 can encode"
        ) from None
    if not name or size > _MAX_NAME_BYTES or not name.isprintable():
        raise PolicyError(
            f"keyvalue: {name[:40]!r} is not a valid name of a bucket: "
            f"use 1 to {_MAX_NAME_BYTES} bytes of printable text"
        )
    return name


def _checked_store(name: object, store: object) -> Any:
    """Return a valid store, its path made absolute; raise ``PolicyError`` for others."""
    if not isinstance(store, str):
        if not callable(getattr(store, "transaction", None)):
            raise PolicyError(
                f"keyvalue: the store of {name!r} is a {type(store).__name__} without a method transaction(): "
                'use "memory", "sqlite:PATH" or a KeyValueStore'
            )
        return store
    path = store.removeprefix(_SQLITE)
    if store == "memory":
        return store
    if not store.startswith(_SQLITE) or not path or "\0" in path:
        raise PolicyError(f'keyvalue: {store[:80]!r} is not a store for {name!r}: use "memory" or "sqlite:PATH"')
    return _SQLITE + absolute(path, None)


# -- the surfaces ----------------------------------------------------------------------------------


def declared() -> Declaration:
    """Return the declaration of the capability. No worker gets the stores: they are files and objects of the host."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="key-value store",
        needs="--allow-keyvalue BUCKET or BUCKET=sqlite:FILE; without a grant every bucket is denied",
        builder="Grant buckets of ``wasi:keyvalue``: a capability, or ``BUCKET`` and ``BUCKET=STORE`` texts.",
        accepts="KeyValue", short=_short,
        flags=(
            Flag(
                name="--allow-keyvalue", metavar="BUCKET[=STORE]",
                help="Grant a bucket of wasi:keyvalue: memory (default), sqlite:FILE.",
            ),
        ),
        stated=_stated,
        summary="Buckets of `wasi:keyvalue`.",
        tables=lambda: {
            "": {
                "buckets": Key("table of text", "The store of each bucket: `memory`, or `sqlite:PATH`."),
                "max_keys": Key("number or `none`", "Keys in one bucket."),
                "max_bytes": Key("size or `none`", "Bytes of all keys and values in one bucket."),
                "max_value_bytes": Key("size or `none`", "Bytes of one value."),
                "max_key_bytes": Key("size or `none`", "Bytes of one key."),
            }
        },
        read=_read,
        remedy=_remedy,
        host_files=_host_files,
    )  # fmt: skip


def _stated(options: Mapping[str, Any]) -> KeyValueCapability:
    found = KeyValueCapability()
    for text in options["allow_keyvalue"]:
        found += KeyValueCapability.parse(text)
    return found


def _read(table: TomlTable) -> KeyValueCapability:
    buckets = table.table("buckets")
    found = KeyValueCapability()
    for name in buckets.values:
        found += buckets.at((name,), KeyValueCapability.of, name, buckets.string(name), table.base)
    for name in QUOTAS:
        if name in table.values:
            value = None if table.values[name] == "none" else table.values[name]
            found = table.at((name,), replace, found, **{name: value})
    return found


def _remedy(policy: Any, decision: Decision) -> str:
    """Grant the one bucket in memory; a name that the option would read as a name and a store gets none."""
    from aegis.policy.declaration import option_text

    name = decision.wanted
    try:
        capability = KeyValueCapability.parse(name)
    except PolicyError:
        return ""
    return option_text("--allow-keyvalue", name) if capability.store_of(name) == "memory" else ""


def _host_files(granted: KeyValueCapability) -> Iterable[StatedFile]:
    """Yield the files of the stores. To read one is to open it, and to close that drops SQLite's locks on it."""
    from aegis.policy.declaration import StatedFile

    for bucket, path in granted.files():
        for name in (path, *(path + ending for ending in ("-journal", "-wal", "-shm"))):
            reason = f"a file of the key-value bucket {bucket!r}: a guest could pass its quotas and break its locks"
            yield StatedFile(name, reason, False)


def _short(value: Any) -> Any:
    from aegis.policy.short_form_parsers import texts

    if hasattr(value, "keys"):
        return KeyValueCapability(buckets=value)
    parts = [KeyValueCapability.parse(text) for text in texts(value)]
    made = parts[0] if parts else KeyValueCapability()
    for part in parts[1:]:
        made += part
    return made
