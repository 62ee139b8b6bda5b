"""A buffer for generated Python source: its lines, its helper functions, and the scope that it runs in.

The source of a converter depends only on the function type. Python classes and other objects never appear in it; they
are bound to names in the scope, numbered in the order of first use. Equal types therefore share one compiled code
object, across components and, through the cache, across processes.
"""

from __future__ import annotations

import marshal

# The same function as hashlib.blake2b; importing hashlib would also load OpenSSL.
from _blake2 import blake2b
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count
from types import CodeType
from typing import Any

from aegis.support.bounded_cache import WeightedCache
from aegis.wit.types import Resource

__all__ = ["ENCODINGS", "Source", "code_of", "offer_code", "take_new_code"]

ENCODINGS = ("utf8", "utf16", "latin1+utf16")
_MAX_SOURCE_CHARACTERS = 8 << 20
"""Characters of source whose code objects the process caches; a code object takes about one byte a character."""
_MAX_NEW_ENTRIES, _MAX_OFFERED_ENTRIES = 2048, 16384
"""Code objects waiting to be stored in the cache on disk, and marshalled ones from there waiting to be used."""
_compiled: WeightedCache[CodeType] = WeightedCache(_MAX_SOURCE_CHARACTERS)


_offered: dict[bytes, bytes] = {}
"""Marshalled code from the cache on disk, by digest of the source; an entry is removed when it is used."""
_new: dict[bytes, CodeType] = {}
"""Code compiled since the last :func:`take_new_code`, by digest of the source."""


def code_of(text: str) -> CodeType:
    """Return the code object of a generated module: from memory, from the offered code, or newly compiled."""
    made = _compiled.entries.get(text)
    if made is None:
        digest = blake2b(text.encode(), digest_size=16).digest()
        kept = _offered.pop(digest, None)
        if kept is not None:
            made = marshal.loads(kept)
        else:
            made = compile(text, "<aegis converter>", "exec")
            if len(_new) < _MAX_NEW_ENTRIES:
                _new[digest] = made
        made = _compiled.keep(text, made, len(text))
    return made


def offer_code(kept: dict[bytes, bytes]) -> None:
    """Offer marshalled code of an earlier process. The caller must have authenticated it: it will be executed."""
    if len(_offered) + len(kept) <= _MAX_OFFERED_ENTRIES:
        _offered.update(kept)


def take_new_code() -> dict[bytes, bytes]:
    """Return, marshalled, the code that was compiled since the last call."""
    taken = {}
    for digest in list(_new):
        code = _new.pop(digest, None)
        if code is not None:  # None: another thread took it first
            taken[digest] = marshal.dumps(code)
    return taken


class Source:
    """The source of one converter under construction, and its scope.

    ``encoding`` is the encoding of strings in linear memory. ``raw``: values pass between two components, so they use
    plain tuples and integers instead of Python classes. ``numbers`` maps keys of resource types to their numbers in
    the program. ``beside``: another source with which this one shares helpers and scope, to form one module.
    """

    def __init__(
        self,
        encoding: str,
        *,
        raw: bool = False,
        numbers: Iterable[tuple[int, int]] = (),
        beside: Source | None = None,
    ) -> None:
        self.encoding, self.raw = encoding, raw
        self._numbers = dict(numbers)
        self.lines: list[str] = []
        self.indent = 0
        self.scope: dict[str, Any] = {} if beside is None else beside.scope
        self._helpers: list[str] = [] if beside is None else beside._helpers
        self._known: dict[Hashable, str] = {} if beside is None else beside._known
        self._counter: Iterator[int] = count(1) if beside is None else beside._counter

    def number(self, resource: Resource) -> int:
        """Return a resource type's number in the program."""
        return self._numbers[resource.key]

    # -- names ---------------------------------------------------------------------------------

    def fresh(self, prefix: str = "x") -> str:
        """Return an unused variable name."""
        return f"{prefix}{next(self._counter)}"

    def name(self, value: Any) -> str:
        """Bind ``value`` to an unused name in the scope and return the name."""
        made = self.fresh("k")
        self.scope[made] = value
        return made

    def uses(self, **values: Any) -> None:
        """Bind fixed names in the scope."""
        self.scope.update(values)

    def variable(self, expression: str) -> str:
        """Assign an expression to a new variable and return its name; return a plain variable unchanged."""
        if expression.isidentifier():
            return expression
        made = self.fresh()
        self.say(f"{made} = {expression}")
        return made

    # -- text ----------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Append a line at the current indentation."""
        self.lines.append("    " * self.indent + line)

    def helper(self, key: Hashable, parameters: str, write: Callable[[], None]) -> str:
        """Return the name of the helper function for ``key``; on first use, ``write`` writes its body."""
        key = (type(self), key)
        made = self._known.get(key)
        if made is None:
            made = self._known[key] = self.fresh("f")
            outer = self.lines, self.indent
            self.lines, self.indent = [], 1
            try:
                write()
                self._helpers.append("\n".join([f"def {made}({parameters}):", *self.lines]))
            finally:
                self.lines, self.indent = outer
        return made

    def module(self, body: str) -> dict[str, Any]:
        """Execute the helpers and ``body`` as one module; return its namespace."""
        exec(code_of("\n".join([*self._helpers, body])), self.scope)
        return self.scope
