"""All that is known of a component besides its code, kept in the cache: its structure, its program, its world.

An entry exists only for a component that the engine found valid under the same limits of compiling. Reading one saves
decoding, planning and validating. An entry without a world is of a component that only a worker validated. Entries are
pickled: the cache authenticates them, and what it authenticates it also runs (:mod:`aegis.engine.cache`).
"""

from __future__ import annotations

import pickle
import sys
from typing import NamedTuple

from aegis.component.program import Program
from aegis.engine.cache import Cache
from aegis.engine.reflect import World
from aegis.limits import Limits
from aegis.wasm.admission import bounds
from aegis.wasm.anatomy import Anatomy

__all__ = ["Record", "keep_record", "kept_record"]

_FORMAT = 1
"""Changes with the classes that a record consists of."""


class Record(NamedTuple):
    """``world`` is ``None`` until the component was validated."""

    anatomy: Anatomy
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


def _name(cache: Cache, digest: str, limits: Limits) -> str:
    python = ".".join(map(str, sys.version_info[:2]))
    return cache.name(digest, f"component record {_FORMAT} python {python} {bounds(limits)}")
