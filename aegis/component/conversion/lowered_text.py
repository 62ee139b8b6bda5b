"""The source of the first phase of lowering: convert the values, and try again with values that are made to fit."""

from __future__ import annotations

import textwrap

from aegis.component.conversion.lower import Lower

__all__ = ["lowered_text"]

_MANY_LINES = 12
"""Lines of the first phase above which the source has them once, in a loop, instead of twice."""
_CHECKED = """try:
{first}except CallError: raise
except UNFIT:
{take_back}    {names}= fit_arguments(function, ({names}))
{again}"""
_LOOP = """for fitted in (False, True):
    try:
{first}        break
    except CallError: raise
    except UNFIT:
        if fitted: raise
{take_back}        {names}= fit_arguments(function, ({names}))
"""


def lowered_text(lower: Lower, names: list[str], *, handles: bool, raw: bool, ends: bool = False) -> str:
    """Return the text of the first phase of lowering.

    ``ends``: the values contain streams or futures, which can be given once, so there is no second try.
    """
    first = lower.lines
    if not first or raw:
        return "".join(f"{line}\n" for line in first)
    parameters = "".join(f"{name}, " for name in names)
    take_back = "    cx.handles.take_back()\n" if handles else ""
    if ends:
        text = f"{parameters}= fit_arguments(function, ({parameters}))\n" + _indented(first, 0)
    elif len(first) > _MANY_LINES:
        text = _LOOP.format(first=_indented(first, 2), names=parameters, take_back=textwrap.indent(take_back, "    "))
    else:
        text = _CHECKED.format(
            first=_indented(first, 1), again=_indented(first, 1), names=parameters, take_back=take_back
        )
    if handles:
        inside = textwrap.indent(text, "    ")
        text = f"try:\n{inside}except BaseException:\n    cx.handles.take_back()\n    raise\ncx.handles.lowered()\n"
    return text


def _indented(lines: list[str], levels: int) -> str:
    return "".join("    " * levels + line + "\n" for line in lines)
