"""The capability of key-value stores: which buckets a guest may open, the store of each, and its quotas.

An embedder's own store implements the protocols; Aegis has a store in memory and one in a SQLite file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aegis.errors import PolicyError
from aegis.limits import parse_bytes, parse_count
from aegis.policy.filesystem import absolute
from aegis.support.lean import TYPE_CHECKING, Any, Protocol, dataclass, replace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["QUOTAS", "KeyValueCall", "KeyValueCapability", "KeyValueEntries", "KeyValueStore"]

_NAME_BYTES = 256
_SQLITE = "sqlite:"
QUOTAS: Mapping[str, Callable[[object, str], int]] = {
    "max_keys": parse_count, "max_bytes": parse_bytes, "max_value_bytes": parse_bytes, "max_key_bytes": parse_bytes,
}  # fmt: skip
"""The quotas of a bucket, each with its parser."""


class KeyValueEntries(Protocol):
    """The entries of a bucket during one transaction. Keys are any text, values any bytes."""

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, ``None`` if there is no such key."""

    def set(self, key: str, value: bytes) -> None:
        """Set the value of a key, which need not exist."""

    def delete(self, key: str) -> None:
        """Remove a key, which need not exist."""

    def keys(self, after: str | None, most: int) -> Sequence[str]:
        """Return the first ``most`` keys after ``after``, ordered by code point; from the start for ``None``."""

    def size(self) -> tuple[int, int]:
        """Return how many keys there are, and how many bytes keys (in UTF-8) and values have together."""


class KeyValueCall(Protocol):
    """The guest's call that a store serves. Both methods raise when the call must end: a store does not catch that."""

    def remaining(self) -> float | None:
        """Return the seconds to the deadline, ``None`` without one."""

    def wait(self, seconds: float) -> object:
        """Sleep, no longer than the call may last."""


class KeyValueStore(Protocol):
    """The store of one bucket. Several sandboxes may use it at once, each on a thread of its own."""

    def transaction(self, call: KeyValueCall) -> AbstractContextManager[KeyValueEntries]:
        """Return a context in which the caller alone reads and changes entries; an exception undoes its changes.

        A store that has to wait sleeps by ``call.wait``, or asks ``call.remaining`` at least every 50 ms.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValueCapability:
    """The buckets that a guest may open by name through ``wasi:keyvalue``; none unless named.

    ``buckets`` has the store of each name: ``"memory"``, a bucket that begins empty and ends with the sandbox;
    ``"sqlite:PATH"``, a table in a file of the host; or a :class:`KeyValueStore`, such as an
    :class:`aegis.MemoryStore`, which every sandbox of the policy shares.

    The quotas hold for the whole content of one bucket, whichever sandbox wrote it. ``None`` lifts one. An operation
    that would exceed one changes nothing, and the guest gets an error that it can handle.
    """

    buckets: Mapping[str, str | KeyValueStore] | tuple[tuple[str, str | KeyValueStore], ...] = ()
    max_keys: int | None = 10_000
    """Keys of one bucket: bounds the index, which costs some 100 bytes a key beside the key itself."""
    max_bytes: int | None = 16 << 20
    """Bytes of keys and values of one bucket: bounds the memory, or the file, that it fills."""
    max_value_bytes: int | None = 1 << 20
    """Bytes of one value: bounds how long one operation keeps other sandboxes waiting."""
    max_key_bytes: int | None = 1 << 10
    """Bytes of one key in UTF-8, as most stores have it: bounds a page of keys."""

    def __post_init__(self) -> None:
        given = self.buckets
        items = given.items() if isinstance(given, Mapping) else given
        if (
            isinstance(items, str)
            or not isinstance(items, Iterable)
            or not all(isinstance(i, (tuple, list)) and len(i) == 2 for i in items)
        ):
            raise PolicyError('keyvalue: expected buckets with their stores, such as {"cache": "memory"}')
        buckets = {_name(name): _store(name, store) for name, store in items}
        object.__setattr__(self, "buckets", tuple(sorted(buckets.items(), key=lambda item: item[0])))
        for name, parse in QUOTAS.items():
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else parse(value, f"keyvalue: {name}"))

    @classmethod
    def parse(cls, text: str, base: str | None = None) -> KeyValueCapability:
        """Parse ``BUCKET``, a bucket in memory, or ``BUCKET=STORE``; a relative path of it starts at ``base``."""
        if not isinstance(text, str):
            raise PolicyError(f"keyvalue: expected text, not {type(text).__name__}")
        name, mark, store = text.partition("=")
        return cls.of(name, store if mark else "memory", base)

    @classmethod
    def of(cls, name: str, store: str, base: str | None = None) -> KeyValueCapability:
        """Return the capability of one bucket; a relative path of its store starts at ``base``."""
        path = store.removeprefix(_SQLITE)
        if path and path != store:
            store = _SQLITE + absolute(path, base)
        return cls(buckets=((name, store),))

    def __add__(self, other: KeyValueCapability) -> KeyValueCapability:
        """Return the buckets of both, under the quotas of this one; of a name in both, the store of ``other``."""
        return replace(self, buckets={**dict(self.buckets), **dict(other.buckets)})

    def store_of(self, name: str) -> str | KeyValueStore | None:
        """Return the store of a bucket, ``None`` for a name that is not granted."""
        return dict(self.buckets).get(name)

    def files(self) -> list[tuple[str, str]]:
        """Return the buckets that are kept in a SQLite file, each with the absolute path of the file."""
        return [
            (name, store.removeprefix(_SQLITE))
            for name, store in dict(self.buckets).items()
            if isinstance(store, str) and store.startswith(_SQLITE)
        ]

    def describe(self) -> list[str]:
        """Return one line for each bucket and each quota that is lifted."""
        stores = dict(self.buckets).items()
        lines = [f"key-value bucket {n} in {s if isinstance(s, str) else type(s).__name__}" for n, s in stores]
        return lines + [f"no limit on {name} of buckets" for name in QUOTAS if getattr(self, name) is None]


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise PolicyError(f"keyvalue: a bucket's name is text, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise PolicyError("keyvalue: a bucket's name is not Unicode, and a guest takes no other") from None
    if not name or size > _NAME_BYTES or not name.isprintable():
        raise PolicyError(
            f"keyvalue: {name[:40]!r} is not a bucket's name; it has 1 to {_NAME_BYTES} bytes, none of them a control"
        )
    return name


def _store(name: object, store: object) -> Any:
    if not isinstance(store, str):
        if not callable(getattr(store, "transaction", None)):
            raise PolicyError(
                f"keyvalue: the store of {name!r} is a {type(store).__name__}, which has no transaction(); "
                'use "memory", "sqlite:PATH" or a KeyValueStore'
            )
        return store
    path = store.removeprefix(_SQLITE)
    if store == "memory":
        return store
    if not store.startswith(_SQLITE) or not path or "\0" in path:
        raise PolicyError(f'keyvalue: the store of {name!r} is {store[:80]!r}; use "memory" or "sqlite:PATH"')
    return _SQLITE + absolute(path, None)
