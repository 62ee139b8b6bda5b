"""Which exports suggest by name and type that one undoes what the other does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aegis.wit.types import Result, WitType

if TYPE_CHECKING:
    from aegis.fuzz.target import Subject, Target

__all__ = ["round_trips"]

_OPPOSITES = (
    ("encode", "decode"), ("serialize", "deserialize"), ("serialise", "deserialise"), ("marshal", "unmarshal"),
    ("pack", "unpack"), ("compress", "decompress"), ("deflate", "inflate"),
    ("encrypt", "decrypt"), ("escape", "unescape"),
    ("quote", "unquote"), ("print", "parse"), ("format", "parse"), ("stringify", "parse"), ("render", "parse"),
    ("to", "from"), ("write", "read"), ("wrap", "unwrap"), ("dump", "load"),
)  # fmt: skip


def round_trips(target: Target) -> Iterator[tuple[str, str]]:
    """Yield pairs of exports of which the second should undo the first."""
    for name, subject in target.subjects.items():
        for other in _undoing(name):
            undoing = target.subjects.get(other)
            if undoing is not None and _fit(subject, undoing):
                yield name, other


def _undoing(name: str) -> Iterator[str]:
    interface, mark, member = name.rpartition("#")
    words = member.split("-")
    for does, undoes in _OPPOSITES:
        if does in words:
            yield f"{interface}{mark}{'-'.join(undoes if word == does else word for word in words)}"


def _fit(subject: Subject, undoing: Subject) -> bool:
    one, two = subject.type, undoing.type
    if one is None or two is None or len(one.params) != 1 or len(two.params) != 1 or None in subject.shapes:
        return False
    return _good(one.result) == two.params[0][1] and _good(two.result) == one.params[0][1]


def _good(result: WitType | None) -> WitType | None:
    return result.ok if isinstance(result, Result) else result
