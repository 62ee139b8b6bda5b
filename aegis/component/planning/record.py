"""All that is known of a component besides its code, kept in the cache: its structure, its program, its world.

An entry exists only for a component that the engine found valid under the same limits of compiling. Reading one saves
decoding, planning and validating. An entry without a world is of a component that only a worker validated. Entries are
pickled: the cache authenticates them, and what it authenticates it also runs (:mod:`aegis.engine.compile.cache`).
"""

from __future__ import annotations

import marshal
import pickle
import sys
from typing import NamedTuple

from aegis.component.conversion.source import offer_code, take_new_code
from aegis.component.planning.program import Program
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.reflect import World
from aegis.limits import Limits
from aegis.wasm.bounds import bounds
from aegis.wasm.structure import ComponentStructure

__all__ = ["KeptCode", "Record", "keep_record", "kept_record"]

_MOST_KEPT = 4096
"""Texts whose code is kept with one component."""
_FORMAT = 2
"""Changes with the classes that a record consists of."""


class Record(NamedTuple):
    """``world`` is ``None`` until the component was validated."""

    structure: ComponentStructure
    program: Program
    world: World | None


def keep_record(cache: Cache, digest: str, limits: Limits, record: Record) -> None:
    """Keep what is known of a valid component."""
    cache.put(_name(cache, digest, limits), pickle.dumps(tuple(record), protocol=5))


def kept_record(cache: Cache, digest: str, limits: Limits) -> Record | None:
    """Return what the cache has about a component, if it has it."""
    kept = cache.get(_name(cache, digest, limits))
    if kept is None:
        return None
    try:
        return Record(*pickle.loads(kept))
    except Exception:  # it is another version's
        return None


class KeptCode:
    """The generated code of one component in the cache: offered when it is loaded, and added to as it is used."""

    def __init__(self, cache: Cache, digest: str) -> None:
        self._cache = cache
        self._name = cache.name(digest, f"component code {_FORMAT} {sys.implementation.cache_tag}")
        kept = cache.get(self._name)
        self._code: dict[bytes, bytes] = {} if kept is None else marshal.loads(kept)
        offer_code(self._code)

    def add(self) -> None:
        """Keep what was compiled meanwhile too, of whichever component."""
        new = take_new_code()
        if new and len(self._code) + len(new) <= _MOST_KEPT:
            self._code.update(new)
            self._cache.put(self._name, marshal.dumps(self._code))


def _name(cache: Cache, digest: str, limits: Limits) -> str:
    return cache.name(digest, f"component record {_FORMAT} {sys.implementation.cache_tag} {bounds(limits)}")
