"""The only place with ambient authority: files, clocks, entropy, the environment, the streams.

``acquire`` turns a policy into the grants of one sandbox. ``host_functions`` returns the functions that a module may
import from the host, bound to those grants; ``host_calls`` does the same for a module that imports nothing else. Each
provider is a module of its own; ``preview1``, ``preview2`` and ``preview3`` use all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MethodType

from aegis.host.grants import Grants as Grants
from aegis.host.grants import acquire as acquire
from aegis.limits import Limits
from aegis.support.lean import Any, NamedTuple
from aegis.values import CallScope, FuncType, GuestMemory, HostFunction

__all__ = ["Grants", "Wanted", "acquire", "host_calls", "host_functions", "offers", "wanted_of"]

_LOG = FuncType(("i32", "i32", "i32"), ())


def host_functions(
    grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, wanted: Mapping[tuple[str, str], FuncType]
) -> list[HostFunction]:
    """Return those functions of ``wanted`` that the host has: WASI preview 1 and ``aegis.log``."""
    found: list[HostFunction] = []
    names = [name for module, name in wanted if module == "wasi_snapshot_preview1"]
    if names:
        from aegis.host.preview1 import preview1_functions

        found += preview1_functions(grants, memory, scope, limits, names)
    if ("aegis", "log") in wanted:
        found.append(HostFunction(module="aegis", name="log", type=_LOG, call=_log(grants, memory)))
    return found


class Wanted(NamedTuple):
    """The imports of a guest that the host serves alone: module and name of each, and the kinds of preview 1's.

    ``answers`` has, for each import of preview 1, the function that answers for any guest, once one was made.
    """

    names: Sequence[tuple[str, str]]
    kinds: frozenset[str]
    answers: list[Callable[..., Any] | None]


def wanted_of(names: Sequence[tuple[str, str]]) -> Wanted:
    """Return the ``Wanted`` of a guest that imports ``names``, all of which :func:`offers` has."""
    from aegis.host.preview1 import kinds_of

    return Wanted(names, kinds_of(name for module, name in names if module != "aegis"), [None] * len(names))


def host_calls(
    grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, wanted: Wanted
) -> Mapping[int, Callable[..., Any]]:
    """Return the functions that answer the wanted imports, by their index there."""
    return _Calls(grants, memory, scope, limits, wanted)


@cache
def _preview1(kinds: frozenset[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the class with preview 1's functions of these kinds, and the wrapper that makes host functions of them."""
    from aegis.host.preview1 import answering, guest_class

    return guest_class(kinds), answering


class _Calls(dict[int, Callable[..., Any]]):
    """Functions of the host by the index of the import, each made at its first call."""

    __slots__ = ("_answers", "_bound", "_guest", "_make", "_names")

    def __init__(self, grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, wanted: Wanted) -> None:
        self._names, kinds, self._answers = wanted
        self._bound = grants, memory
        preview1, self._make = _preview1(kinds)  # imported here, not in the guest's first host call
        self._guest: Any = preview1(grants, memory, scope, limits)

    def __bool__(self) -> bool:
        """Return whether there are functions, whether or not one was made yet."""
        return bool(self._names)

    def __missing__(self, place: int) -> Callable[..., Any]:
        answer = self._answers[place]
        if answer is None:
            module, name = self._names[place]
            if module == "aegis":
                return self.setdefault(place, _log(*self._bound))
            answer = self._answers[place] = self._make(name)
        made = self[place] = MethodType(answer, self._guest)
        return made


def offers(module: str, name: str) -> FuncType | None:
    """Return the type of the host's function ``module.name``, ``None`` when there is none."""
    if (module, name) == ("aegis", "log"):
        return _LOG
    if module != "wasi_snapshot_preview1":
        return None
    from aegis.host.preview1.abi import SIGNATURES

    return SIGNATURES.get(name)


def _log(grants: Grants, memory: GuestMemory) -> Callable[[int, int, int], None]:
    from aegis.host.logs import MAX_LINE_CHARACTERS
    from aegis.values import MemoryFault

    def log(level: int, pointer: int, length: int) -> None:
        """Log a line; drop one whose text is out of bounds, since the function has no result that could say so."""
        try:
            kept = min(length & 0xFFFF_FFFF, 4 * MAX_LINE_CHARACTERS)
            grants.log.write(level, memory.read(pointer & 0xFFFF_FFFF, kept))
        except MemoryFault:
            return

    return log
