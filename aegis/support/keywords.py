"""Optional keyword arguments whose absence differs from every value.

``None`` lifts a limit, so ``None`` cannot also mean "not given". A function with such parameters uses :data:`DEFAULT`
as their default and collects the ones that its caller passed with :func:`given`. Its signature stays explicit, for
``help()``, editors and type checkers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aegis.support.lean import Any

__all__ = ["DEFAULT", "given"]


class _Default:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<default>"


DEFAULT: Any = _Default()
"""The default of a parameter that its caller may omit."""


def given(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return those of ``names`` that the caller passed, and the content of ``unknown``.

    ``arguments`` is ``vars()`` at the start of the function; a parameter called ``locals`` hides that built-in.
    ``unknown`` holds misspelt keywords, for the error message.
    """
    unknown: dict[str, Any] = arguments["unknown"]
    return {name: arguments[name] for name in names if arguments[name] is not DEFAULT} | unknown
