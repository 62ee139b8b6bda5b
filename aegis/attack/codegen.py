"""The code of a liar's functions: calls of what it imports, with raw values, and raw values returned.

A *careful* body calls only what it has the handles for, with pointers that lie in memory: so it comes as far as the
host's own functions, where a careless one is stopped by the canonical ABI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aegis.attack.wat import core_signature, flat
from aegis.wit.types import Borrow, Function, List, Own, Resource, Result, Tuple, WitType

__all__ = ["Act", "Body", "Key", "Lowered", "Raw", "key_of", "lowered"]

Raw: TypeAlias = tuple[str, int]
"""A raw value: ``("const", bits)``, ``("load", address)`` or ``("kept", number)``, what an earlier act gave."""
Key: TypeAlias = tuple[str, str]
"""A resource by the interface that owns it and its name."""
_RETURNS = 2048
"""Where a careful body has results written."""
_HANDLES = 6
"""Numbers of handles that are there, mostly."""


class Act(NamedTuple):
    """One thing that the code does before it returns: ``what`` chooses, ``arguments`` are raw."""

    what: int
    arguments: tuple[Raw, ...]


class Lowered(NamedTuple):
    """A core function that the code may call."""

    name: str
    params: list[str]
    results: list[str]
    takes: tuple[Key | None, ...] = ()
    """For each core parameter the resource whose handle it is, if it is one."""
    gives: Key | None = None
    """The resource that it returns a handle of."""
    load: str = ""
    """The code that reads that handle from memory; none where it is the core result."""
    pointers: frozenset[int] = frozenset()
    """The core parameters that are pointers or lengths."""
    returns: bool = False
    """Whether its last core parameter says where its results are written."""


def key_of(resource: Resource) -> Key:
    """Return the key of a resource."""
    return resource.owner or "", resource.name


def lowered(name: str, function: Function) -> Lowered:
    """Return what core code sees of an imported function."""
    params, results = core_signature(function, lowered=True)
    takes: list[Key | None] = []
    pointers: list[bool] = []
    for _, of in function.params:
        key = key_of(of.resource) if isinstance(of, (Own, Borrow)) else None
        takes += [key] * len(flat(of))
        pointers += [of == "string" or isinstance(of, List)] * len(flat(of))
    if len(takes) > len(params):  # they lie in memory
        takes, pointers = [], [True]
    spilled = function.result is not None and len(flat(function.result)) > 1
    gives, load = _given(function.result, spilled=spilled)
    return Lowered(
        name, params, results, tuple(takes), gives, load,
        frozenset(n for n, is_pointer in enumerate(pointers) if is_pointer), spilled,
    )  # fmt: skip


def _given(of: WitType | None, *, spilled: bool) -> tuple[Key | None, str]:
    """Return the resource that a result has a handle of, and the code that loads it from where results are."""
    match of:
        case Own(resource):
            return key_of(resource), ""
        case Result(Own(resource), _) if spilled:
            return key_of(resource), f"(i32.load (i32.const {_RETURNS + 4}))"
        case List(Tuple((Own(resource), *_))) if spilled:
            return key_of(resource), f"(i32.load (i32.and (i32.load (i32.const {_RETURNS})) (i32.const 0xfffc)))"
    return None, ""


class Body:
    """The body of one function in the making."""

    def __init__(self, functions: Sequence[Lowered], *, careful: bool) -> None:
        self._functions, self._careful = functions, careful
        self._code: list[str] = []
        self._kinds: list[str] = []
        """The kinds of the locals, by number."""
        self._held: dict[Key, int] = {}

    def open(self) -> None:
        """Get the handles that the host gives to whoever asks."""
        for function in self._functions:
            if function.gives is not None and not any(function.takes) and function.gives not in self._held:
                self._call(function, (("const", 0),))

    def act(self, act: Act) -> None:
        """Do one thing: what it can, if it is careful."""
        functions = self._functions
        if self._careful:
            functions = [f for f in functions if all(key is None or key in self._held for key in f.takes)]
        if functions:
            self._call(functions[act.what % len(functions)], act.arguments)

    def _call(self, function: Lowered, arguments: Sequence[Raw]) -> None:
        pushed = " ".join(self._argument(function, n, arguments) for n in range(len(function.params)))
        call = f"(call {function.name} {pushed})"
        self._code.append(self._set(function.results[0], call) if function.results else call)
        if function.gives is not None and function.load and self._careful:
            self._code.append(self._set("i32", function.load))
        if function.gives is not None and (function.results or function.load):
            self._held[function.gives] = len(self._kinds) - 1

    def _set(self, kind: str, value: str) -> str:
        self._kinds.append(kind)
        return f"(local.set $k{len(self._kinds) - 1} {value})"

    def _argument(self, function: Lowered, number: int, arguments: Sequence[Raw]) -> str:
        kind, given = function.params[number], arguments[number % len(arguments)] if arguments else ("const", 0)
        key = function.takes[number] if number < len(function.takes) else None
        if self._careful:
            if function.returns and number == len(function.params) - 1:
                return f"(i32.const {_RETURNS})"
            if key is not None and given[0] != "load":
                return f"(local.get $k{self._held[key]})"
            if number in function.pointers:
                return f"(i32.const {given[1] % 256 & ~7})"
        if key is not None and given[0] == "const":
            given = "const", given[1] % _HANDLES
        return self.raw(kind, given)

    def raw(self, kind: str, given: Raw) -> str:
        """Return the code of a raw value: as it was given if that fits its kind, else its bits."""
        how, bits = given
        if how == "kept" and self._kinds and self._kinds[bits % len(self._kinds)] == kind:
            return f"(local.get $k{bits % len(self._kinds)})"
        if how == "load" and kind in ("i32", "i64"):
            return f"({kind}.load (i32.const {bits % 256 & ~3}))"
        size = int(kind[1:])
        value = f"(i{size}.const {bits & ((1 << size) - 1)})"
        return value if kind[0] == "i" else f"({kind}.reinterpret_i{size} {value})"

    def returning(self, results: Sequence[str], given: Sequence[Raw]) -> Iterator[str]:
        """Yield locals, code and the raw values that it returns."""
        yield from (f"(local $k{number} {kind})" for number, kind in enumerate(self._kinds))
        yield from self._code
        for number, kind in enumerate(results):
            yield self.raw(kind, given[number % len(given)] if given else ("const", 0))
