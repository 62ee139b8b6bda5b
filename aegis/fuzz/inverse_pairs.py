"""Find pairs of exports that, by their names and types, are inverse functions: ``encode`` and ``decode``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aegis.wit.types import Result, WitType

if TYPE_CHECKING:
    from aegis.fuzz.target import Target, TargetExport

__all__ = ["round_trips"]

_OPPOSITES = (
    ("encode", "decode"), ("serialize", "deserialize"), ("serialise", "deserialise"), ("marshal", "unmarshal"),
    ("pack", "unpack"), ("compress", "decompress"), ("deflate", "inflate"),
    ("encrypt", "decrypt"), ("escape", "unescape"),
    ("quote", "unquote"), ("print", "parse"), ("format", "parse"), ("stringify", "parse"), ("render", "parse"),
    ("to", "from"), ("write", "read"), ("wrap", "unwrap"), ("dump", "load"),
)  # fmt: skip


def round_trips(target: Target) -> Iterator[tuple[str, str]]:
    """Yield the names of exports where the second should be the inverse of the first."""
    for name, export in target.exports.items():
        for other in _undoing(name):
            undoing = target.exports.get(other)
            if undoing is not None and _fit(export, undoing):
                yield name, other


def _undoing(name: str) -> Iterator[str]:
    interface, mark, member = name.rpartition("#")
    words = member.split("-")
    for does, undoes in _OPPOSITES:
        if does in words:
            yield f"{interface}{mark}{'-'.join(undoes if word == does else word for word in words)}"


def _fit(export: TargetExport, undoing: TargetExport) -> bool:
    one, two = export.type, undoing.type
    if one is None or two is None or len(one.params) != 1 or len(two.params) != 1 or None in export.shapes:
        return False
    return _good(one.result) == two.params[0][1] and _good(two.result) == one.params[0][1]


def _good(result: WitType | None) -> WitType | None:
    return result.ok if isinstance(result, Result) else result
