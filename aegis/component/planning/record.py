"""The cache entry of a component: its structure, program and world, and its generated Python code.

An entry exists only for a component that the engine validated under the same compile limits, so reading one replaces
decoding, planning and validation. An entry without a world belongs to a component that only a worker validated.
Entries are pickled and marshalled, which is safe only because the cache authenticates them: it already executes the
native code that it authenticates (:mod:`aegis.engine.compile.cache`).
"""

from __future__ import annotations

import marshal
import pickle
import sys
from collections.abc import Sequence
from typing import NamedTuple

from aegis.component.conversion.source import offer_code, take_new_code
from aegis.component.planning.program import ComponentProgram
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.reflect import World
from aegis.limits import Limits
from aegis.wasm.compile_limits import cache_key_part
from aegis.wasm.structure import ComponentStructure

__all__ = ["ComponentRecord", "KeptCode", "keep_record", "kept_record"]

_MAX_CODE_ENTRIES = 4096
"""Generated source texts whose code is cached with one component."""
_FORMAT = 7
"""Version of the entries: increment it when a class that is pickled in a record, or its world, changes."""


class ComponentRecord(NamedTuple):
    """The structure, program and world of a component; ``world`` is ``None`` until this process validates it."""

    structure: ComponentStructure
    program: ComponentProgram
    world: World | None


def keep_record(
    cache: Cache, digest: str, limits: Limits, record: ComponentRecord, proposals: Sequence[str] = ()
) -> None:  # fmt: skip
    """Store the record of a component that is valid with these optional proposals in the cache."""
    cache.put(_name(cache, digest, limits, proposals), pickle.dumps(tuple(record), protocol=5))


def kept_record(
    cache: Cache, digest: str, limits: Limits, proposals: Sequence[str] = ()
) -> ComponentRecord | None:  # fmt: skip
    """Return the cached record of a component, or ``None``."""
    kept = cache.get(_name(cache, digest, limits, proposals))
    if kept is None:
        return None
    try:
        return ComponentRecord(*pickle.loads(kept))
    except Exception:  # another version of Aegis wrote it, with other classes
        return None


class KeptCode:
    """Cached bytecode of a component's generated converters.

    Creating the object offers the cached bytecode to the process; :meth:`add` extends the entry with newly compiled
    code.
    """

    def __init__(self, cache: Cache, digest: str) -> None:
        self._cache = cache
        self._name = cache.name(digest, f"component code {_FORMAT} {sys.implementation.cache_tag}")
        kept = cache.get(self._name)
        self._code: dict[bytes, bytes] = {} if kept is None else marshal.loads(kept)
        offer_code(self._code)

    def add(self) -> None:
        """Store the code that the process compiled since the last call, whichever component it belongs to."""
        new = take_new_code()
        if new and len(self._code) + len(new) <= _MAX_CODE_ENTRIES:
            self._code.update(new)
            self._cache.put(self._name, marshal.dumps(self._code))


def _name(cache: Cache, digest: str, limits: Limits, proposals: Sequence[str]) -> str:
    enabled = "".join(f" with-{name}" for name in proposals)
    return cache.name(
        digest, f"component record {_FORMAT} {sys.implementation.cache_tag} {cache_key_part(limits)}{enabled}"
    )
