"""The table of exports: how often each was called and how the calls ended, with a warning where nothing was tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aegis.fuzz.oracles.endings import TRAPS
from aegis.text import count, printable

if TYPE_CHECKING:
    from aegis.fuzz.plan import CampaignResult
    from aegis.fuzz.target import TargetExport

__all__ = ["ExportRow", "export_rows", "table_lines", "warnings_of"]

_MAX_ROWS = 40
"""Most rows of the table in a text report; JSON and HTML have all."""
_OK = ("returned", "exited")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """The calls of one export: those that returned, declared an error, trapped, or exceeded a limit."""

    name: str
    called: int
    ok: int
    error: int
    trap: int
    limit: int
    warning: str = ""
    """Why the export is untested: it was never called, or no call returned; empty otherwise."""


def export_rows(result: CampaignResult, exports: Mapping[str, TargetExport]) -> list[ExportRow]:
    """Return a row for each export that the campaign may call, in the order of the artifact."""
    names = [*exports, *(name for name in result.calls if name not in exports and not name.startswith("["))]
    rows = [_row(name, result.calls.get(name, {})) for name in names]
    ok = {row.name for row in rows if row.ok}
    none = _no_call(result)
    return [_warned(row, exports, ok, result.errors.get(row.name, ""), none) for row in rows]


def _no_call(result: CampaignResult) -> str:
    """Return why a campaign ran no case; empty for one that did."""
    if result.cases or result.replayed:
        return ""
    if result.interrupted:
        return "the campaign was stopped before its first call ended"
    return "no call of the campaign ended: see its problem" if result.lost else "the campaign made no call"


def _row(name: str, calls: Mapping[str, int]) -> ExportRow:
    called, ok = sum(calls.values()), sum(calls.get(status, 0) for status in _OK)
    error, trap = calls.get("declared", 0), sum(calls.get(status, 0) for status in TRAPS)
    return ExportRow(name=name, called=called, ok=ok, error=error, trap=trap, limit=called - ok - error - trap)


def _warned(row: ExportRow, exports: Mapping[str, TargetExport], ok: set[str], error: str, none: str) -> ExportRow:
    warning = ""
    if not row.called:
        warning = f"never called: {none or _missing(exports.get(row.name), exports, ok)}"
    elif not row.ok:
        endings = [
            f"{number:,} {word}"
            for number, word in (
                (row.error, "declared an error"), (row.trap, "trapped"), (row.limit, "ended otherwise"),
            )
            if number
        ]  # fmt: skip
        example = f", such as {error}" if row.error and error else ""
        warning = f"never ok: of {count(row.called, 'call')}, {', '.join(endings)}{example}"
    return ExportRow(**{**asdict(row), "warning": warning}) if warning else row


def _missing(export: TargetExport | None, exports: Mapping[str, TargetExport], ok: set[str]) -> str:
    """Return why an export was not called: the handle it takes was not available, or there were too few calls."""
    for key in () if export is None else export.takes:
        givers = [other.name for other in exports.values() if key is not None and other.gives == key]
        if key is not None and not givers:
            return "no export returns the handle that it takes"
        if givers and not ok.intersection(givers):
            return f"it takes a handle, and {', '.join(map(printable, givers[:3]))} never returned one"
    return "raise --runs or --time"


def warnings_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the warnings of rows as plain data, each with the name of its export."""
    return [f"{printable(row['name'])}: {row['warning']}" for row in rows if row["warning"]]


def table_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return rows, as plain data, as lines of a table with a heading; none if there is no row."""
    shown = list(rows)
    if not shown:
        return []
    cells: list[tuple[str, ...]] = [("export", "called", "ok", "error", "trap", "limit")]
    cells += [
        (printable(row["name"], 60), *(f"{row[key]:,}" for key in cells[0][1:])) for row in shown[:_MAX_ROWS]
    ]  # fmt: skip
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return [*lines, *([f"and {len(shown) - _MAX_ROWS} more exports"] if len(shown) > _MAX_ROWS else [])]
