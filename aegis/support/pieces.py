"""Convert long texts piece by piece, so that other threads run in between.

CPython holds its global lock for a whole conversion, which takes up to 3 ms for a MiB. An event loop in another thread
would stall for as long. The main thread converts in one go, which is faster: where the loop runs there, calls run in
other threads.
"""

from __future__ import annotations

import threading
from codecs import getincrementaldecoder
from collections.abc import Iterator

from aegis.support.lean import Any

__all__ = [
    "MAX_WHOLE_BYTES", "copy_bytes", "decoded", "encoded", "has_astral", "in_pieces", "is_ascii", "is_unicode",
    "text_pieces",
]  # fmt: skip

MAX_WHOLE_BYTES = 4 << 20
"""Bytes, or characters, of the longest text that every thread converts in one go."""
_CHUNK_BYTES = 1 << 20
"""Bytes, or characters, that are converted at once: about 2 ms."""
_ASTRAL = tuple(bytes([lead]) for lead in range(0xF0, 0xF5))
"""The first bytes of the characters that UTF-8 encodes in four bytes."""


def in_pieces(size: int) -> bool:
    """Return whether a text of ``size`` bytes or characters is to be converted in pieces on this thread."""
    return size > MAX_WHOLE_BYTES and threading.current_thread() is not threading.main_thread()


def text_pieces(data: Any, encoding: str, errors: str = "strict") -> Iterator[str]:
    """Yield the text of ``data`` in pieces; a character is never split.

    Raise ``UnicodeDecodeError`` for data that is malformed as a whole.
    """
    decode, view, size = getincrementaldecoder(encoding)(errors).decode, memoryview(data), len(data)
    for start in range(0, size, _CHUNK_BYTES):
        yield decode(view[start : start + _CHUNK_BYTES], start + _CHUNK_BYTES >= size)


def decoded(data: Any, encoding: str, errors: str = "strict") -> str:
    """Return the text of a bytes-like object; raise ``UnicodeDecodeError`` if it is malformed."""
    return "".join(text_pieces(data, encoding, errors)) if in_pieces(len(data)) else str(data, encoding, errors)


def encoded(text: str, encoding: str, errors: str = "strict") -> bytes | bytearray:
    """Return a text as bytes; raise ``UnicodeEncodeError`` for a character that ``encoding`` does not have."""
    if not in_pieces(len(text)):
        return text.encode(encoding, errors)
    made = bytearray()
    for start in range(0, len(text), _CHUNK_BYTES):
        made += text[start : start + _CHUNK_BYTES].encode(encoding, errors)
    return made


def is_unicode(text: str) -> bool:
    """Return whether a text consists of Unicode scalar values, that is, contains no lone surrogates."""
    try:
        if not in_pieces(len(text)):
            text.encode()
            return True
        for start in range(0, len(text), _CHUNK_BYTES):
            text[start : start + _CHUNK_BYTES].encode()
    except UnicodeEncodeError:
        return False
    return True


def copy_bytes(view: memoryview, at: int, data: Any) -> None:
    """Copy a bytes-like object to ``view`` at the offset ``at``, where it must fit."""
    size = len(data)
    if not in_pieces(size):
        view[at : at + size] = data
        return
    source = memoryview(data)
    for start in range(0, size, _CHUNK_BYTES):
        end = min(start + _CHUNK_BYTES, size)
        view[at + start : at + end] = source[start:end]


def is_ascii(view: memoryview) -> bool:
    """Return whether all bytes are ASCII."""
    try:
        for start in range(0, len(view), _CHUNK_BYTES):
            str(view[start : start + _CHUNK_BYTES], "ascii")
    except UnicodeDecodeError:
        return False
    return True


def has_astral(view: memoryview) -> bool:
    """Return whether UTF-8 has characters beyond the basic multilingual plane, by the first bytes of characters.

    A search for each byte by itself is ten times as fast as one for any of them.
    """
    for start in range(0, len(view), _CHUNK_BYTES):
        piece = bytes(view[start : start + _CHUNK_BYTES])
        if any(lead in piece for lead in _ASTRAL):
            return True
    return False
