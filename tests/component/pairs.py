"""The same component in Aegis and in the engine, with the same calls: the comparison that these tests are built on."""

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
"""The type of the export ``log`` of guests that log calls of their ``realloc``."""


class Pair:
    """A component, from text or a file, with exports and imports of the given types, in Aegis and in the engine.

    With ``wasi`` the oracle has the engine's own WASI, which grants nothing. Without ``coded``, trap codes are not
    compared.
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
        actual, self._expected = (
            {name: _noting(seen, function) for name, (_, function) in wanted.items()} for seen in self._seen
        )
        provided = {name: (of, actual[name]) for name, (of, _) in wanted.items()}
        loaded = source if isinstance(source, str) else aegis_side.RUNTIME.load_file(source)
        self._guest = aegis_side.Guest(loaded, exports, provided)
        self._used = False

    def check(self, *calls: Sequence[Any]) -> list[Outcome]:
        """Make the calls, each a name with arguments, on a fresh instance on both sides, up to the first trap.

        The outcomes and the arguments received by host functions must be the same. Return the outcomes.
        """
        if self._used:
            self._guest.reset()
        self._used = True
        oracle = Native(self._text, self._expected, wasi=self._wasi)
        for seen in self._seen:
            seen.clear()
        actual, expected = _until_trap(self._guest.call, calls), _until_trap(oracle.call, calls)
        if not self._coded:
            actual, expected = (
                [Trapped(ABI) if isinstance(e, Trapped) else e for e in ends] for ends in (actual, expected)
            )
        assert agree(actual, expected), calls
        assert agree(*self._seen), calls
        return actual

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
    """Return the type of an echo function with parameters of these types."""
    return Function(tuple((f"p{n}", of) for n, of in enumerate(params)), echoed_type(params))


def echo_pair(text: str, params: Sequence[WitType], logs: Iterable[str], *, hosted: bool) -> Pair:
    """Return a pair for a guest that echoes, by itself or (``hosted``) through the host's import ``echo``."""
    of = echo_type(params)

    def echo(*arguments: Any) -> Any:
        return arguments[0] if len(params) == 1 else arguments

    return Pair(text, {"echo-back": of, **dict.fromkeys(logs, LOG)}, {"echo": (of, echo)} if hosted else {})
