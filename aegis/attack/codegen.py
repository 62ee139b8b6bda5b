"""Core code of the ABI fuzzer's functions: they call imports with raw values and return raw values.

A *careful* body uses only handles that exist and pointers into memory. So its calls reach the host's functions, whereas
the canonical ABI rejects most calls of a careless body.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aegis.attack.wat import core_signature, flat
from aegis.wit.types import Borrow, Function, List, Own, Resource, Result, Tuple, WitType

__all__ = ["CoreCodeBuilder", "Key", "LoweredFunction", "Raw", "RawCall", "key_of", "lower_function"]

Raw: TypeAlias = tuple[str, int]
"""A raw value: ``("const", bits)``, ``("load", address)`` or ``("kept", number)``, the result of an earlier call."""
Key: TypeAlias = tuple[str, str]
"""A resource: the interface that owns it, and its name."""
_RESULT_ADDRESS = 2048
"""Address of the result area that a careful body passes to imports."""
_LIKELY_HANDLES = 6
"""Handle numbers below this usually exist."""


class RawCall(NamedTuple):
    """A call to an import. ``selector`` chooses the function, modulo the number of functions; ``arguments`` are raw."""

    selector: int
    arguments: tuple[Raw, ...]


class LoweredFunction(NamedTuple):
    """A core function that the code may call."""

    name: str
    params: list[str]
    results: list[str]
    takes: tuple[Key | None, ...] = ()
    """For each core parameter, the resource if it is a handle, else ``None``."""
    gives: Key | None = None
    """The resource of the handle that the function returns."""
    load: str = ""
    """Code that loads this handle from the result area; empty if the handle is the core result."""
    pointers: frozenset[int] = frozenset()
    """The core parameters that are pointers or lengths."""
    result_by_address: bool = False
    """Whether the last core parameter is the address of the result area."""


def key_of(resource: Resource) -> Key:
    """Return the key of a resource."""
    return resource.owner or "", resource.name


def lower_function(name: str, function: Function) -> LoweredFunction:
    """Return the core function that core code sees for an imported function."""
    params, results = core_signature(function, lowered=True)
    takes: list[Key | None] = []
    pointers: list[bool] = []
    for _, of in function.params:
        key = key_of(of.resource) if isinstance(of, (Own, Borrow)) else None
        takes += [key] * len(flat(of))
        pointers += [of == "string" or isinstance(of, List)] * len(flat(of))
    if len(takes) > len(params):  # more than 16 flat parameters are passed in memory
        takes, pointers = [], [True]
    spilled = function.result is not None and len(flat(function.result)) > 1
    gives, load = _given(function.result, spilled=spilled)
    return LoweredFunction(
        name, params, results, tuple(takes), gives, load,
        frozenset(n for n, is_pointer in enumerate(pointers) if is_pointer), spilled,
    )  # fmt: skip


def _given(of: WitType | None, *, spilled: bool) -> tuple[Key | None, str]:
    """Return the resource of the handle in a result, and the code that loads the handle from the result area."""
    match of:
        case Own(resource):
            return key_of(resource), ""
        case Result(Own(resource), _) if spilled:
            return key_of(resource), f"(i32.load (i32.const {_RESULT_ADDRESS + 4}))"
        case List(Tuple((Own(resource), *_))) if spilled:
            return key_of(resource), f"(i32.load (i32.and (i32.load (i32.const {_RESULT_ADDRESS})) (i32.const 0xfffc)))"
    return None, ""


class CoreCodeBuilder:
    """Builds the body of one core function."""

    def __init__(self, functions: Sequence[LoweredFunction], *, careful: bool) -> None:
        self._functions, self._careful = functions, careful
        self._code: list[str] = []
        self._kinds: list[str] = []
        """The core types of the locals, by index."""
        self._held: dict[Key, int] = {}

    def open(self) -> None:
        """Call the imports that return a handle without requiring one."""
        for function in self._functions:
            if function.gives is not None and not any(function.takes) and function.gives not in self._held:
                self._call(function, (("const", 0),))

    def perform(self, call: RawCall) -> None:
        """Append a call. A careful body chooses only among functions whose handles it has."""
        functions = self._functions
        if self._careful:
            functions = [f for f in functions if all(key is None or key in self._held for key in f.takes)]
        if functions:
            self._call(functions[call.selector % len(functions)], call.arguments)

    def _call(self, function: LoweredFunction, arguments: Sequence[Raw]) -> None:
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

    def _argument(self, function: LoweredFunction, number: int, arguments: Sequence[Raw]) -> str:
        kind, given = function.params[number], arguments[number % len(arguments)] if arguments else ("const", 0)
        key = function.takes[number] if number < len(function.takes) else None
        if self._careful:
            if function.result_by_address and number == len(function.params) - 1:
                return f"(i32.const {_RESULT_ADDRESS})"
            if key is not None and given[0] != "load":
                return f"(local.get $k{self._held[key]})"
            if number in function.pointers:
                return f"(i32.const {given[1] % 256 & ~7})"
        if key is not None and given[0] == "const":
            given = "const", given[1] % _LIKELY_HANDLES
        return self.raw(kind, given)

    def raw(self, kind: str, given: Raw) -> str:
        """Return code for a raw value of core type ``kind``. If a load or local has another type, use the bits."""
        how, bits = given
        if how == "kept" and self._kinds and self._kinds[bits % len(self._kinds)] == kind:
            return f"(local.get $k{bits % len(self._kinds)})"
        if how == "load" and kind in ("i32", "i64"):
            return f"({kind}.load (i32.const {bits % 256 & ~3}))"
        size = int(kind[1:])
        value = f"(i{size}.const {bits & ((1 << size) - 1)})"
        return value if kind[0] == "i" else f"({kind}.reinterpret_i{size} {value})"

    def returning(self, results: Sequence[str], given: Sequence[Raw]) -> Iterator[str]:
        """Yield the locals, the calls, and the raw values that the function returns."""
        yield from (f"(local $k{number} {kind})" for number, kind in enumerate(self._kinds))
        yield from self._code
        for number, kind in enumerate(results):
            yield self.raw(kind, given[number % len(given)] if given else ("const", 0))
