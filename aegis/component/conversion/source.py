"""Python source that converts values, as it is being written: its lines, its helpers, and the names that it uses.

Converters are compiled once a function type. The text depends on the type alone, never on Python classes or other
objects: those are bound to names in the scope, in the order in which the text mentions them. So equal types of
different components, or of another process that kept the code, share one compiled text.
"""

from __future__ import annotations

import marshal

# What hashlib gives; that one loads the system's cryptography besides.
from _blake2 import blake2b
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count
from types import CodeType
from typing import Any

from aegis.support.bounded_cache import WeightedCache
from aegis.wit.types import Resource

__all__ = ["ENCODINGS", "Source", "code_of", "offer_code", "take_new_code"]

ENCODINGS = ("utf8", "utf16", "latin1+utf16")
_CODE_BYTES_KEPT = 8 << 20
"""Characters of source whose compiled code is kept for the process; code takes about as many bytes."""
_MOST_NEW, _MOST_OFFERED = 2048, 16384
"""Texts whose code waits to be kept in the cache, and of which the cache's code waits to be used."""
_compiled: WeightedCache[CodeType] = WeightedCache(_CODE_BYTES_KEPT)


_offered: dict[bytes, bytes] = {}
"""Code that the cache had, marshalled, by the digest of its text; what was taken is gone."""
_new: dict[bytes, CodeType] = {}
"""Code that was compiled since somebody last asked for it, by the digest of its text."""


def code_of(text: str) -> CodeType:
    """Return the compiled code of a module's text."""
    made = _compiled.entries.get(text)
    if made is None:
        digest = blake2b(text.encode(), digest_size=16).digest()
        kept = _offered.pop(digest, None)
        if kept is not None:
            made = marshal.loads(kept)
        else:
            made = compile(text, "<aegis converter>", "exec")
            if len(_new) < _MOST_NEW:
                _new[digest] = made
        made = _compiled.keep(text, made, len(text))
    return made


def offer_code(kept: dict[bytes, bytes]) -> None:
    """Offer code that an earlier process compiled; the caller knows that it is unaltered."""
    if len(_offered) + len(kept) <= _MOST_OFFERED:
        _offered.update(kept)


def take_new_code() -> dict[bytes, bytes]:
    """Return the code that was compiled since the last time, marshalled."""
    taken = {}
    for digest in list(_new):
        code = _new.pop(digest, None)
        if code is not None:  # or else another thread took it
            taken[digest] = marshal.dumps(code)
    return taken


class Source:
    """Text of one converter, and its scope.

    ``encoding`` is that of strings in linear memory. ``raw``: values are in the form in which one component passes
    them to another, without the Python classes of their types. ``numbers`` are keys of resource
    types with their numbers in the program. ``beside``: another source that becomes one module with this one.
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
        """Return the number of a resource type in the program."""
        return self._numbers[resource.key]

    # -- names ---------------------------------------------------------------------------------

    def fresh(self, prefix: str = "x") -> str:
        """Return a variable's name that nothing else has."""
        return f"{prefix}{next(self._counter)}"

    def name(self, value: Any) -> str:
        """Give ``value`` a name in the scope."""
        made = self.fresh("k")
        self.scope[made] = value
        return made

    def uses(self, **values: Any) -> None:
        """Bind names of the converter's own vocabulary."""
        self.scope.update(values)

    def variable(self, expression: str) -> str:
        """Assign an expression to a variable of its own, unless it is a variable."""
        if expression.isidentifier():
            return expression
        made = self.fresh()
        self.say(f"{made} = {expression}")
        return made

    # -- text ----------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Add a line at the present indentation."""
        self.lines.append("    " * self.indent + line)

    def helper(self, key: Hashable, parameters: str, write: Callable[[], None]) -> str:
        """Return the name of a function that ``write`` writes the body of, once for a key."""
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
        """Run the helpers and ``body`` as one module; return its namespace."""
        exec(code_of("\n".join([*self._helpers, body])), self.scope)
        return self.scope
