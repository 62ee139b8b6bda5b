"""Artifacts with bytes changed: flips, truncations, splices, sections moved about, numbers written otherwise."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from aegis.attack.inputs import Artifacts, Input, Make, chance
from aegis.wasm.admission import sections
from aegis.wasm.binary import Malformed

__all__ = ["flips", "leb", "put_back", "whole_sections"]

_LARGEST = 1 << 20
_ODD = (0x00, 0x01, 0x7F, 0x80, 0xFF, 0x40, 0x60, 0x70, 0x6F)
_HUGE = (0, 1, 127, 128, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000, (1 << 35) - 1)


def flips(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of artifacts that are broken byte by byte."""

    def make(number: int) -> Input:
        rng = chance(seed, "flips", number)
        name, data = artifacts[int(rng.random() * len(artifacts))]
        made, done = bytearray(data), []
        for _ in range(1 + int(rng.random() ** 5 * 6)):
            change = _CHANGES[int(rng.random() * len(_CHANGES))]
            change(rng, made, artifacts)
            done.append(change.__name__.strip("_"))
        return Input(
            source="flips", number=number, data=bytes(made[:_LARGEST]), label=f"{name}: {', '.join(done)}"
        )  # fmt: skip

    return make


def leb(value: int, least: int = 1) -> bytes:
    """Return an unsigned LEB128 number, in ``least`` bytes or more."""
    out = bytearray()
    while True:
        more = value >> 7
        out.append((value & 0x7F) | (0x80 if more or len(out) + 1 < least else 0))
        value = more
        if not more and len(out) >= least:
            return bytes(out)


def whole_sections(data: bytes) -> list[tuple[int, int, int]]:
    """Return number, start and end of the sections of an artifact, as far as they can be read."""
    found = []
    try:
        for one in sections(data, 0, len(data)):
            found.append(one)
    except Malformed:
        pass
    return found


def put_back(data: bytes, start: int, end: int, inner: bytes) -> bytes:
    """Return an artifact in which a section's contents are others, and its size is theirs."""
    if start == 0:
        return inner
    return data[: start - _size_bytes(data, start, end)] + leb(len(inner)) + inner + data[end:]


def _size_bytes(data: bytes, start: int, end: int) -> int:
    """Return how many bytes the size before a section's contents takes."""
    for length in range(1, 6):
        told = data[start - length : start]
        if sum((byte & 0x7F) << (7 * n) for n, byte in enumerate(told)) == end - start and all(
            (byte >= 0x80) == (n < length - 1) for n, byte in enumerate(told)
        ):
            return length
    return 1


# -- changes, each in place --------------------------------------------------------------------------


def _flip(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    for _ in range(1 + int(rng.random() ** 8 * 32)):
        if data:
            data[int(rng.random() * len(data))] ^= 1 << int(rng.random() * 8)


def _odd(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    if data:
        data[int(rng.random() * len(data))] = rng.choice(_ODD)


def _truncate(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    del data[int(rng.random() * (len(data) + 1)) :]


def _insert(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    at = int(rng.random() * (len(data) + 1))
    data[at:at] = rng.randbytes(1 + int(rng.random() ** 3 * 40))


def _remove(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    at = int(rng.random() * (len(data) + 1))
    del data[at : at + 1 + int(rng.random() ** 3 * 40)]


def _repeat(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    at = int(rng.random() * (len(data) + 1))
    piece = data[at : at + 1 + int(rng.random() ** 2 * 64)]
    data[at:at] = piece * (1 + int(rng.random() ** 3 * 100))


def _splice(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    _, other = artifacts[int(rng.random() * len(artifacts))]
    at, there = int(rng.random() * (len(data) + 1)), int(rng.random() * (len(other) + 1))
    data[at:] = other[there:]


def _section(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    """Drop, double or move a section, or take one of another artifact."""
    whole = bytes(data)
    parts = [whole[a:b] for a, b in _bounds(whole)]
    if not parts:
        return
    at, to = int(rng.random() * len(parts)), int(rng.random() * len(parts))
    match int(rng.random() * 4):
        case 0:
            parts.pop(at)
        case 1:
            parts.insert(to, parts[at])
        case 2:
            parts.insert(to, parts.pop(at))
        case _:
            _, other = artifacts[int(rng.random() * len(artifacts))]
            bounds = _bounds(other)
            if bounds:
                start, end = bounds[int(rng.random() * len(bounds))]
                parts.insert(to, other[start:end])
    data[8:] = b"".join(parts)


def _bounds(data: bytes) -> list[tuple[int, int]]:
    """Return where sections begin, their numbers and sizes included, and end."""
    ends = [end for _, _, end in whole_sections(data)]
    return list(zip([8, *ends], ends, strict=False))


def _number(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    """Write another number in place of a byte: huge, or in more bytes than it needs."""
    if data:
        at = int(rng.random() * len(data))
        data[at : at + 1] = leb(rng.choice(_HUGE) if rng.random() < 0.6 else data[at] & 0x7F, 1 + int(rng.random() * 6))


def _inside(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    """Change the contents of one section, with a size that is right again."""
    whole = bytes(data)
    found = whole_sections(whole)
    if not found:
        return
    _, start, end = found[int(rng.random() * len(found))]
    inner = bytearray(whole[start:end])
    change = rng.choice((_flip, _flip, _odd, _odd, _insert, _remove, _number, _repeat))
    change(rng, inner, artifacts)
    data[:] = put_back(whole, start, end, bytes(inner))


_CHANGES: tuple[Callable[[Random, bytearray, Artifacts], None], ...] = (
    _flip, _odd, _truncate, _insert, _remove, _repeat, _splice, _section, _section, _number,
    *[_inside] * 10,
)  # fmt: skip
