"""The C implementation behind :mod:`pickle`, without importing the latter, which also imports regular expressions.

Only workers unpickle, and only data that the parent sent.
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
"""The highest pickle protocol."""
