"""One component in Aegis and in the engine, called alike: the comparison that the tests of this folder are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aegis.wit.types import Function, List, WitType
from tests.component import aegis_side
from tests.component.oracle import ABI, Native, Outcome, Trapped, agree
from tests.echo import echoed_type

__all__ = ["ENCODINGS", "LOG", "Pair", "echo_pair", "echo_type"]

ENCODINGS = ("utf8", "utf16", "latin1+utf16")
LOG = Function((), List("u32"))
"""The type of the export ``log`` of guests that write down calls of their ``realloc``."""


class Pair:
    """A component, text or a file, with exports and imports of the stated types, in Aegis and in the engine.

    With ``wasi`` the engine's own WASI is there for the oracle, which grants nothing. Without ``coded`` a trap is the
    same as any other.
    """

    def __init__(
        self,
        source: str | Path,
        exports: Mapping[str, Function],
        imports: Mapping[str, tuple[Function, Callable[..., Any]]] | None = None,
        *,
        wasi: bool = False,
        coded: bool = True,
    ) -> None:
        self._text = source if isinstance(source, str) else source.read_bytes()
        self._wasi, self._coded = wasi, coded
        self._seen: tuple[list[Any], list[Any]] = ([], [])
        wanted = imports or {}
        ours, self._theirs = (
            {name: _noting(seen, function) for name, (_, function) in wanted.items()} for seen in self._seen
        )
        provided = {name: (of, ours[name]) for name, (of, _) in wanted.items()}
        loaded = source if isinstance(source, str) else aegis_side.RUNTIME.load_file(source)
        self._guest = aegis_side.Guest(loaded, exports, provided)
        self._used = False

    def check(self, *calls: Sequence[Any]) -> list[Outcome]:
        """Make the calls, each a name with arguments, on a fresh instance on both sides, up to the first trap.

        The outcomes must be the same, and so must the arguments that host functions received. Return the outcomes.
        """
        if self._used:
            self._guest.reset()
        self._used = True
        oracle = Native(self._text, self._theirs, wasi=self._wasi)
        for seen in self._seen:
            seen.clear()
        ours, theirs = _until_trap(self._guest.call, calls), _until_trap(oracle.call, calls)
        if not self._coded:
            ours, theirs = ([Trapped(ABI) if isinstance(e, Trapped) else e for e in ends] for ends in (ours, theirs))
        assert agree(ours, theirs), calls
        assert agree(*self._seen), calls
        return ours

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exception: object) -> None:
        self._guest.close()


def _noting(seen: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        seen.append(arguments)
        return function(*arguments)

    return noted


def _until_trap(call: Callable[..., Outcome], calls: Iterable[Sequence[Any]]) -> list[Outcome]:
    ends: list[Outcome] = []
    for name, *arguments in calls:
        ends.append(call(name, *arguments))
        if isinstance(ends[-1], Trapped):
            break
    return ends


def echo_type(params: Sequence[WitType]) -> Function:
    """Return the type of an echo of parameters of these types."""
    return Function(tuple((f"p{n}", of) for n, of in enumerate(params)), echoed_type(params))


def echo_pair(text: str, params: Sequence[WitType], logs: Iterable[str], *, hosted: bool) -> Pair:
    """Return a pair of a guest that echoes, by itself or (``hosted``) through the host's import ``echo``."""
    of = echo_type(params)

    def echo(*arguments: Any) -> Any:
        return arguments[0] if len(params) == 1 else arguments

    return Pair(text, {"echo-back": of, **dict.fromkeys(logs, LOG)}, {"echo": (of, echo)} if hosted else {})
