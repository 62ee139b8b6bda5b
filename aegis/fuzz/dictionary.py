"""The dictionary of a campaign: integers, bytes and texts that the guest is likely to compare its input with.

Its entries come from four sources: a file of the user in AFL's format, the guest's results and error messages at run
time, the constants that the guest's code compares, and the strings in its data. A draw first chooses a source, so that
many strings do not hide a few entries of the user.

A chunk of a campaign must not depend on the chunks before it in the same process: :meth:`Dictionary.begin` forgets all
entries learned since the last one, and gets the entries that the campaign merged.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from aegis.errors import PolicyError
from aegis.text import printable
from aegis.wasm.binary import is_component
from aegis.wasm.component import decode_component
from aegis.wasm.constants import CodeConstant, DataSegment, code_constants, data_segments

__all__ = ["Dictionary", "read_entries"]

_MAX_ENTRIES = 4096
"""Most integers, and most words, of one source."""
_MAX_LEARNED_ENTRIES = 512
"""Most entries that are learned at run time; the oldest are forgotten first."""
_MAX_WORD_BYTES, _MAX_TEXT_CHARACTERS = 128, 8192
_MAX_KEPT_WORD_BYTES = 4
"""Longest word that the code spells which is not also an entry without its first byte."""
_MAX_STRING_CHARACTERS = 64
"""Longest string of the guest's data that is an entry of its own."""
_SMALL = 16
"""Constants of the code below this are no entries: they are generated anyway."""
_MAX_PARTS = 24
"""Most parts of one learned text, such as quoted words, that become entries."""
_MAX_CONTINUED_ENTRIES = 8
"""Most words that begin with given bytes."""
_MAX_FOLLOWING_BYTES, _MAX_DATA_BYTES = 32, 1 << 20
_STRING = re.compile(rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){2,}")
_PLAIN = re.compile(rb"[\t\n\r\x20-\x7e]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.:/+-]{1,30}")
_QUOTED = re.compile(r"`([^`]{1,40})`|\"([^\"]{1,40})\"|'([^']{1,40})'|[\u2018\u201c]([^\u2019\u201d]{1,40})")
_INTEGER = re.compile(r"(?<![\w.])-?\d{1,19}(?![\w.])")


class _Entries:
    """Entries of one origin. When it is full, it forgets the oldest ones if ``latest``, and else ignores new ones."""

    def __init__(self, most: int = _MAX_ENTRIES, *, latest: bool = False) -> None:
        self.integers: list[int] = []
        self.words: list[bytes] = []
        self.texts: list[str] = []
        self._known: set[Any] = set()
        self._most, self._latest = most, latest

    def add(self, entry: int | bytes | str) -> bool:
        """Add an entry, and return whether it is new and there was room."""
        into: list[Any] = (
            self.integers if isinstance(entry, int) else self.words if isinstance(entry, bytes) else self.texts
        )
        if entry in self._known or (len(into) >= self._most and not self._latest):
            return False
        if len(into) >= self._most:
            self._known.discard(into.pop(0))
        self._known.add(entry)
        into.append(entry)
        return True

    def both(self, word: bytes) -> None:
        """Add a word as bytes and, if it is UTF-8, as text."""
        if 0 < len(word) <= _MAX_WORD_BYTES and self.add(word):
            try:
                self.add(word.decode())
            except UnicodeDecodeError:
                return


class Dictionary:
    """The entries of a campaign. Not thread-safe.

    :meth:`integer`, :meth:`word` and :meth:`text` draw an entry, or return ``None`` if there is none. ``documents`` has
    the JSON schemas that the guest returned, and ``json`` says whether the guest reads or writes JSON.
    """

    def __init__(self, user: Iterable[bytes] = ()) -> None:
        self._user, self._compared, self._plain = _Entries(), _Entries(), _Entries()
        self._learned = _Entries(_MAX_LEARNED_ENTRIES, latest=True)
        self._new: dict[tuple[str, Any], None] = {}
        self.recent: list[int] = [0] * 8
        """The integers generated last, by which related values are generated."""
        self._data = b""
        self.documents: list[Any] = []
        self.json = False
        self.keys: list[str] = []
        """Words that may be keys and values of documents: identifiers in learned texts."""
        for word in user:
            self._user.both(word)
            if len(word) in (1, 2, 4, 8):
                self._user.add(int.from_bytes(word, "little"))
                self._user.add(int.from_bytes(word, "big"))
            if _INTEGER.fullmatch(word.decode("latin-1")):
                self._user.add(int(word))
        self._prepare()

    # -- sources -------------------------------------------------------------------------------

    def read_guest(self, binary: bytes) -> None:
        """Add the constants and strings of a module, or of all modules of a component."""
        parts = [binary]
        if is_component(binary):
            parts = [binary[module.start : module.end] for module in decode_component(binary).modules]
        for part in parts:
            self._read_module(part)
        self._prepare()

    def _read_module(self, module: bytes) -> None:
        constants, segments = list(code_constants(module)), list(data_segments(module))
        for one in constants:
            if one.compared:
                self._constant(one, self._compared)
        for word in (*_named_strings(constants, segments), *_spelled_strings(constants)):
            self._compared.both(word)
        self._data += b"".join(segment.data + b"\0" for segment in segments)[: _MAX_DATA_BYTES - len(self._data)]
        for segment in segments:
            for found in _STRING.finditer(segment.data):
                self._string(found[0])
        for one in constants:
            if not one.compared:
                self._constant(one, self._plain)

    def _constant(self, constant: CodeConstant, into: _Entries) -> None:
        """Add an integer constant, and its bytes if it may be a magic number or several characters at once."""
        if abs(constant.value) < _SMALL:
            return
        into.add(constant.value)
        data = (constant.value & ((1 << constant.bits) - 1)).to_bytes(constant.bits // 8, "little")
        word = data.rstrip(b"\0")
        plain = sum(byte in (0, 0x80, 0xFF) for byte in word) > len(word) // 4  # a mask or a bound, no magic number
        if constant.compared and len(word) >= 2 and not plain and (len(word) == len(data) or _STRING.fullmatch(word)):
            into.both(word)
            into.both(word[::-1])

    def _string(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if len(text) <= _MAX_STRING_CHARACTERS:
            self._plain.both(data)
        for word in _IDENTIFIER.findall(text):
            self._plain.both(word.encode())

    # -- entries at run time -------------------------------------------------------------------

    def begin(self, entries: Sequence[Any] = ()) -> None:
        """Forget the learned entries, and learn those that :meth:`learned` of other chunks returned."""
        self._learned = _Entries(_MAX_LEARNED_ENTRIES, latest=True)
        self._new, self.documents, self.json, self.keys = {}, [], False, []
        self.recent = [0] * 8
        for kind, value in entries:
            if kind == "integer":
                self._learned.add(int(value))
            elif kind == "bytes":
                self._learned.both(bytes.fromhex(value))
            else:
                self._text(str(value))
        self._new = {}
        self._prepare()

    def learned(self) -> list[list[Any]]:
        """Return the entries learned since :meth:`begin` as plain data, the oldest first."""
        return [list(key) for key in self._new][-_MAX_LEARNED_ENTRIES:]

    def learn_integer(self, value: int) -> None:
        """Add an integer that the guest returned or compared."""
        if abs(value) >= _SMALL and self._learned.add(value):
            self._new["integer", value] = None
            self._prepare()

    def learn_bytes(self, value: bytes) -> None:
        """Add bytes that the guest returned or compared. Longer ones than a word are ignored."""
        if 0 < len(value) <= _MAX_WORD_BYTES and value not in self._learned._known:
            self._learned.both(value)
            self._new["bytes", value.hex()] = None
            self._prepare()

    def learn_text(self, value: str) -> None:
        """Add a text that the guest returned, such as an error message, and the words in it.

        A text that is a JSON schema makes documents of that schema candidates for arguments.
        """
        if 0 < len(value) <= _MAX_TEXT_CHARACTERS and value not in self._learned._known:
            self._text(value)
            self._new["text", value] = None
            self._prepare()

    def _text(self, value: str) -> None:
        self._learned.add(value)
        for found in list(_QUOTED.finditer(value))[:_MAX_PARTS]:
            word = next(filter(None, found.groups()), "")
            if word:
                self._learned.both(word.encode("utf-8", "replace"))
                self._key(word)
        for word in _IDENTIFIER.findall(value)[:_MAX_PARTS]:
            self._learned.both(word.encode("utf-8", "replace"))
        for number in _INTEGER.findall(value)[:_MAX_PARTS]:
            self._learned.add(int(number))
        self.json = self.json or "json" in value.lower() or value.lstrip()[:1] in ("{", "[")
        self._schema(value)

    def _key(self, word: str) -> None:
        if word not in self.keys and len(self.keys) < _MAX_LEARNED_ENTRIES:
            self.keys.append(word)

    def _schema(self, value: str) -> None:
        """Keep a JSON document: as a schema if it looks like one, otherwise for its keys."""
        if value.lstrip()[:1] != "{":
            return
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            return
        for key in _keys(document):
            self._key(key)
        if _is_schema(document) and document not in self.documents:
            self.documents.append(document)
            del self.documents[:-16]

    # -- draws ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Collect the sources that have entries, once per change: a draw must be fast."""
        # Half of the draws come from the sources that speak most directly of the input.
        ranked = (self._user, self._learned, self._user, self._compared, self._learned, self._compared, self._plain)
        self._sorted: list[bytes] | None = None
        self._integers = [source.integers for source in ranked if source.integers]
        self._words = [source.words for source in ranked if source.words]
        self._texts = [source.texts for source in ranked if source.texts]

    def integer(self, rng: Random, low: int, high: int) -> int | None:
        """Draw an integer, or a neighbour of it, as a number of the range from ``low`` to ``high``.

        An unsigned number and the signed one of equal bits are the same constant in the code.
        """
        sources = self._integers
        if not sources:
            return None
        source = sources[int(rng.random() * len(sources))]
        value = source[int(rng.random() * len(source))]
        chance = rng.random()
        if chance < 0.3:
            value += 1 if chance < 0.15 else -1
        elif chance < 0.36:
            value = -value
        return value if low <= value <= high else low + (value - low) % (high - low + 1)

    def word(self, rng: Random) -> bytes | None:
        """Draw bytes."""
        sources = self._words
        if not sources:
            return None
        source = sources[int(rng.random() * len(sources))]
        return source[int(rng.random() * len(source))]

    def text(self, rng: Random) -> str | None:
        """Draw a text."""
        sources = self._texts
        if not sources:
            return None
        source = sources[int(rng.random() * len(sources))]
        return source[int(rng.random() * len(source))]

    def integers_in(self, low: int, high: int) -> list[int]:
        """Return the integers of all sources, and their neighbours, as numbers of the range; some at most."""
        every = {value + near for source in self._integers for value in source for near in (0, 1, -1)}
        found = sorted(low + (value - low) % (high - low + 1) for value in every)
        return list(dict.fromkeys(found))[:_MAX_ENTRIES]

    def every_word(self) -> list[bytes]:
        """Return the words of all sources as bytes."""
        return sorted({word for source in self._words for word in source})

    def every_text(self) -> list[str]:
        """Return the texts of all sources."""
        return sorted({text for source in self._texts for text in source})

    def beginning_with(self, beginning: bytes) -> list[bytes]:
        """Return words that begin with these bytes, some at most, and are longer; also from the guest's data."""
        if self._sorted is None:
            self._sorted = sorted({word for source in self._words for word in source if len(word) > 1})
        at = bisect_right(self._sorted, beginning)
        found: list[bytes] = []
        while at < len(self._sorted) and self._sorted[at].startswith(beginning) and len(found) < _MAX_CONTINUED_ENTRIES:
            found.append(self._sorted[at])
            at += 1
        return [*found, *self._continued(beginning)]

    def _continued(self, beginning: bytes) -> Iterator[bytes]:
        """Yield bytes that follow in the guest's data: constants are often no text, or not separated."""
        at = self._data.find(beginning)
        for _ in range(_MAX_CONTINUED_ENTRIES // 2):
            if at < 0:
                return
            part = self._data[at : at + _MAX_FOLLOWING_BYTES]
            yield from dict.fromkeys((part.partition(b"\0")[0] or part[:8], part[:8]))
            at = self._data.find(beginning, at + 1)

    def __len__(self) -> int:
        sources = (self._user, self._learned, self._compared, self._plain)
        return sum(len(source.integers) + len(source.words) + len(source.texts) for source in sources)


def _named_strings(constants: Sequence[CodeConstant], segments: Sequence[DataSegment]) -> Iterator[bytes]:
    """Yield the strings that neighbouring constants name by address and length, as compilers pass string literals."""
    placed = [(segment.offset, segment) for segment in segments if segment.offset is not None]
    if not placed:
        return
    first = min(offset for offset, _ in placed)
    last = max(offset + len(segment.data) for offset, segment in placed)
    for one, two in pairwise(constants):
        for address, length in ((one.value, two.value), (two.value, one.value)):
            if not (first <= address < last and 2 <= length <= _MAX_WORD_BYTES):
                continue
            for offset, segment in placed:
                data = segment.data[address - offset : address - offset + length] if address >= offset else b""
                if len(data) == length and _STRING.fullmatch(data):
                    yield data


def _spelled_strings(constants: Sequence[CodeConstant]) -> Iterator[bytes]:
    """Yield the strings that code compares byte by byte, or several bytes at once, with one constant after another.

    Compilers unroll comparisons with short strings, which are then not in the data. Small numbers between the
    characters, which no instruction compares, are offsets.
    """
    word = b""
    for one in constants:
        if not one.compared and abs(one.value) < _SMALL:
            continue
        data = (one.value & ((1 << one.bits) - 1)).to_bytes(one.bits // 8, "little").rstrip(b"\0")
        if one.compared and _PLAIN.fullmatch(data):
            word += data
            continue
        yield from _endings(word)
        word = b""
    yield from _endings(word)


def _endings(word: bytes) -> Iterator[bytes]:
    """Yield a word, and a long one also without its first byte, which may be compared before."""
    if len(word) > 1:
        yield word[:_MAX_WORD_BYTES]
    if len(word) > _MAX_KEPT_WORD_BYTES:
        yield word[1 : 1 + _MAX_WORD_BYTES]


def _is_schema(document: Any) -> bool:
    return isinstance(document, dict) and any(
        key in document for key in ("$schema", "properties", "oneOf", "anyOf", "allOf", "$ref", "enum", "items", "type")
    )


def _keys(document: Any, depth: int = 0) -> Iterator[str]:
    """Yield the keys and the short strings of a document, not too deep."""
    if isinstance(document, dict):
        for key, value in list(document.items())[:64]:
            yield str(key)[:_MAX_STRING_CHARACTERS]
            if depth < 6:
                yield from _keys(value, depth + 1)
    elif isinstance(document, list) and depth < 6:
        for value in document[:64]:
            yield from _keys(value, depth + 1)
    elif isinstance(document, str) and 0 < len(document) <= 40:
        yield document


# -- AFL's format --------------------------------------------------------------------------------------

_ENTRY = re.compile(r'\s*(?:[\w.-]+\s*(?:@\s*\d+)?\s*=?\s*)?"((?:[^"\\]|\\.)*)"\s*(?:#.*)?\Z')
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def read_entries(data: bytes, name: str) -> list[bytes]:
    """Parse a dictionary in AFL's format: a line has ``name="value"`` or ``"value"``, with escapes such as ``\\x00``.

    Raise :class:`~aegis.errors.PolicyError` for any other line that is no comment; it names the line.
    """
    found = []
    for number, line in enumerate(data.decode("latin-1").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _ENTRY.match(line)
        if entry is None:
            text = printable(line.strip(), 60)
            raise PolicyError(f'{printable(name)}:{number}: invalid entry {text}: write name="value", as for AFL')
        value = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _NAMED.get(m[2], m[2]), entry[1])
        if value:
            found.append(value.encode("latin-1"))
    return found
