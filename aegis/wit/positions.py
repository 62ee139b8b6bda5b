"""Find the position of an item in WIT text, for messages; the output of wasm-tools has no positions."""

from __future__ import annotations

import re

__all__ = ["locate"]

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def locate(text: str, owner: str, item: str) -> tuple[int, int] | None:
    """Return line and column, both from 1, of ``item`` in the interface or world ``owner``; ``None`` if not found.

    ``item`` is the name of a type, or of a function as in a binary: ``get``, ``[method]bucket.get``.
    """
    bare = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    name = owner.partition("@")[0].rpartition("/")[2] or owner
    inside = _block(
        bare, rf"\b(?:interface|world|import|export)\s+%?{re.escape(name)}\s*(?::\s*interface\s*)?\{{", 0, len(bare)
    )
    if inside is None:
        return None
    kind, mark, rest = item.partition("]")
    resource, _, own = rest.rpartition(".") if mark else ("", "", item)
    if mark and (found := _block(bare, rf"\bresource\s+%?{re.escape(resource or rest)}\s*\{{", *inside)):
        inside = found
    word = "constructor" if kind == "[constructor" else re.escape(own)
    rule = rf"(?<![\w-])%?{word}(?=\s*[:(])|\b(?:type|record|variant|enum|flags|resource)\s+%?{word}(?![\w-])"
    match = re.compile(rule).search(bare, *inside)
    return None if match is None else _position(text, match.start())


def _block(text: str, opening: str, start: int, end: int) -> tuple[int, int] | None:
    """Return start and end of the text between the braces that ``opening`` opens."""
    match = re.compile(opening).search(text, start, end)
    if match is None:
        return None
    depth = 1
    for n in range(match.end(), end):
        depth += {"{": 1, "}": -1}.get(text[n], 0)
        if depth == 0:
            return match.end(), n
    return match.end(), end


def _position(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
