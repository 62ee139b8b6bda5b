"""Pickles without :mod:`pickle`, which imports regular expressions; the C module alone does the work of both.

Only what the parent itself said is ever loaded, and only in a worker.
"""

from __future__ import annotations

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from pickle import Pickler as Pickler
    from pickle import Unpickler as Unpickler
    from pickle import dumps as dumps
    from pickle import loads as loads
else:
    from _pickle import Pickler, Unpickler, dumps, loads

__all__ = ["LATEST", "Pickler", "Unpickler", "dumps", "loads"]

LATEST = -1
"""The protocol: the highest that there is."""
