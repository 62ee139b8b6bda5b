"""The command-line arguments of a program: given words, in which ``@@`` stands for generated text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from random import Random

from aegis.errors import PolicyError
from aegis.fuzz.values.sequences import TextShape
from aegis.text import printable

__all__ = ["GivenWords", "parse_words"]

_MARK = "@@"


def parse_words(text: str) -> tuple[str, ...]:
    """Split a command line as a shell does. Raise :class:`~aegis.errors.PolicyError` if its quotes do not match."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise PolicyError(f"--args: {printable(text, 80)}: {str(error).lower()}") from None


class GivenWords:
    """The shape of the arguments of a program, one of several command lines; the first one is the simplest."""

    def __init__(self, lines: Sequence[Sequence[str]]) -> None:
        self.lines = [list(line) for line in lines]
        self.text = TextShape()

    def simplest(self) -> list[str]:
        return [word.replace(_MARK, "") for word in self.lines[0]]

    def random(self, rng: Random, size: int) -> list[str]:
        line = self.lines[int(rng.random() * len(self.lines))]
        return _filled(line, {n: self.text.random(rng, size) for n, word in enumerate(line) if _MARK in word})

    def mutate(self, rng: Random, value: list[str]) -> list[str]:
        line, texts = self._read(value)
        if not texts or rng.random() < 0.1:
            return self.random(rng, 16)
        chosen = sorted(texts)[int(rng.random() * len(texts))]
        return _filled(line, {**texts, chosen: self.text.mutate(rng, texts[chosen])})

    def simpler(self, value: list[str]) -> Iterator[list[str]]:
        line, texts = self._read(value)
        for other in self.lines[: self.lines.index(line)]:
            yield [word.replace(_MARK, "") for word in other]
        for place, text in texts.items():
            for plain in self.text.simpler(text):
                yield _filled(line, {**texts, place: plain})

    def size(self, value: list[str]) -> int:
        return 1 + sum(map(self.text.size, self._read(value)[1].values()))

    def _read(self, value: Sequence[str]) -> tuple[list[str], dict[int, str]]:
        """Return the line that a value was made from, and the texts at its marks by position."""
        for line in self.lines:
            texts = _texts(line, value)
            if texts is not None:
                return line, texts
        return self.lines[0], {}


def _texts(line: Sequence[str], value: Sequence[str]) -> dict[int, str] | None:
    if len(line) != len(value):
        return None
    found = {}
    for place, (word, given) in enumerate(zip(line, value, strict=True)):
        before, mark, after = word.partition(_MARK)
        after = after.replace(_MARK, "")
        if not mark:
            if word != given:
                return None
        elif len(given) >= len(before) + len(after) and given.startswith(before) and given.endswith(after):
            found[place] = given[len(before) : len(given) - len(after)]
        else:
            return None
    return found


def _filled(line: Sequence[str], texts: dict[int, str]) -> list[str]:
    """Return a line with a text at the first mark of each word; further marks of a word become empty."""
    words = []
    for place, word in enumerate(line):
        before, mark, after = word.partition(_MARK)
        words.append(f"{before}{texts.get(place, '')}{after.replace(_MARK, '')}" if mark else word)
    return words
