"""The only place with ambient authority: files, clocks, entropy, the environment, the streams.

``acquire`` turns a policy into the grants of one sandbox; ``host_functions`` is what a guest may import
of us, bound to those grants, and ``host_calls`` the same for a guest that imports nothing else. A provider is a module
of its own; ``preview1`` sits on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

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
    """Return what we offer of ``wanted``: WASI preview 1 and ``aegis.log``."""
    found: list[HostFunction] = []
    names = [name for module, name in wanted if module == "wasi_snapshot_preview1"]
    if names:
        from aegis.host.preview1 import preview1_functions

        found += preview1_functions(grants, memory, scope, limits, names)
    if ("aegis", "log") in wanted:
        found.append(HostFunction(module="aegis", name="log", type=_LOG, call=_log(grants, memory)))
    return found


class Wanted(NamedTuple):
    """Imports of a guest that the host serves all: module and name of each, and the kinds of those of preview 1."""

    names: Sequence[tuple[str, str]]
    kinds: frozenset[str]


def wanted_of(names: Sequence[tuple[str, str]]) -> Wanted:
    """Return what a guest wants that imports ``names``, such as :func:`offers` has."""
    from aegis.host.preview1 import kinds_of

    return Wanted(names, kinds_of(name for module, name in names if module != "aegis"))


def host_calls(
    grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, wanted: Wanted
) -> Mapping[int, Callable[..., Any]]:
    """Return what answers the imports that are wanted, by their place there."""
    return _Calls(grants, memory, scope, limits, wanted)


@cache
def _preview1(kinds: frozenset[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the class that has preview 1's functions of these kinds, and what makes host functions of them."""
    from aegis.host.preview1 import answering, guest_class

    return guest_class(kinds), answering


class _Calls(dict[int, Callable[..., Any]]):
    """Functions of the host by the place of the import; made when the guest calls them, for it imports more."""

    __slots__ = ("_answering", "_bound", "_guest", "_wanted")

    def __init__(self, grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, wanted: Wanted) -> None:
        self._bound, self._wanted = (grants, memory), wanted.names
        preview1, self._answering = _preview1(wanted.kinds)  # imported now, and not in the guest's first host call
        self._guest: Any = preview1(grants, memory, scope, limits)

    def __bool__(self) -> bool:
        """Tell that there are functions, though none was made yet."""
        return bool(self._wanted)

    def __missing__(self, place: int) -> Callable[..., Any]:
        module, name = self._wanted[place]
        made = _log(*self._bound) if module == "aegis" else self._answering(name, getattr(self._guest, name))
        self[place] = made
        return made


def offers(module: str, name: str) -> FuncType | None:
    """Return the type of the function that we offer as ``module.name``, ``None`` when there is none."""
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
        """A line whose text does not lie in memory is dropped: a log cannot answer."""
        try:
            kept = min(length & 0xFFFF_FFFF, 4 * MAX_LINE_CHARACTERS)
            grants.log.write(level, memory.read(pointer & 0xFFFF_FFFF, kept))
        except MemoryFault:
            return

    return log
