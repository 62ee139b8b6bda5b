"""Parse the call of a component on the command line, given in WAVE or as separate words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.component.planning.world import find_export
from aegis.errors import CallError
from aegis.text import count, printable
from aegis.wit.collected import collected, collected_type
from aegis.wit.results import as_result
from aegis.wit.types import Function, Result, show

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["Invocation"]

_MAX_COLLECTED_ELEMENTS = 1 << 20
"""Elements of a stream, or bytes of a ``stream<u8>``, that are printed."""


class Invocation(NamedTuple):
    """A call: the name of the export, its type with Python classes, and the arguments.

    The text of a stream is that of the list of its elements, and the text of a future that of its value.
    """

    target: str
    function: Function
    arguments: list[Any]

    @classmethod
    def of(cls, component: Component, call: str | None, name: str, words: Sequence[str]) -> Invocation:
        """Parse ``call``, such as ``iface#func({name: "x"}, some(3))``, or else the arguments ``words`` of ``name``.

        A word for a parameter of type string is taken literally, any other is WAVE. Raise ``CallError`` for words that
        do not fit the function.
        """
        from aegis.wit.wave_read import parse_arguments, parse_call, parse_value

        if call is not None:
            parsed = parse_call(call)
            target, function = _resolved(component, parsed.target)
            params = tuple((name, collected_type(of)) for name, of in function.params)
            return cls(target, function, parse_arguments(parsed.arguments, replace(function, params=params)))
        target, function = _resolved(component, name)
        if len(words) != len(function.params):
            shown = f"{printable(target)}{show(function).removeprefix('async ').removeprefix('func')}"
            raise CallError(f"{shown} takes {count(len(function.params), 'argument')}, not {len(words)}")
        values = [
            word if of == "string" else parse_value(word, collected_type(of))
            for word, (_, of) in zip(words, function.params, strict=True)
        ]
        return cls(target, function, values)

    def shown(self, value: Any) -> str | None:
        """Return a result as WAVE, after reading its streams to their ends; ``None`` if the function has no result.

        Raise the errors of the guest that writes them, and ``CallError`` for a stream that is too long.
        """
        from aegis.wit.wave_read import format_value

        of = self.function.result
        if of is None:
            return None
        value = as_result(value) if isinstance(of, Result) else value
        return format_value(collected(value, of, _MAX_COLLECTED_ELEMENTS), collected_type(of))


def _resolved(component: Component, name: str) -> tuple[str, Function]:
    interface, function, of = find_export(component.exports, name)
    return f"{interface}#{function}" if interface else function, component.with_python_types(of)
