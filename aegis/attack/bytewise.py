"""Byte-level mutation of artifacts: bit flips, truncations, splices, moved sections, unusual LEB128 encodings."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from aegis.attack.inputs import Artifacts, AttackInput, Make, seeded_random
from aegis.wasm.admission import sections
from aegis.wasm.binary import Malformed

__all__ = ["flips", "leb", "put_back", "whole_sections"]

_MAX_BYTES = 1 << 20
_OPCODE_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF, 0x40, 0x60, 0x70, 0x6F)
_EXTREME_NUMBERS = (0, 1, 127, 128, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000, (1 << 35) - 1)


def flips(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of artifacts with byte-level mutations."""

    def make(number: int) -> AttackInput:
        rng = seeded_random(seed, "flips", number)
        name, data = artifacts[int(rng.random() * len(artifacts))]
        made, done = bytearray(data), []
        for _ in range(1 + int(rng.random() ** 5 * 6)):
            change = _CHANGES[int(rng.random() * len(_CHANGES))]
            change(rng, made, artifacts)
            done.append(change.__name__.strip("_"))
        return AttackInput(
            source="flips", number=number, data=bytes(made[:_MAX_BYTES]), label=f"{name}: {', '.join(done)}"
        )  # fmt: skip

    return make


def leb(value: int, least: int = 1) -> bytes:
    """Encode an unsigned LEB128 number, padded to at least ``least`` bytes."""
    out = bytearray()
    while True:
        more = value >> 7
        out.append((value & 0x7F) | (0x80 if more or len(out) + 1 < least else 0))
        value = more
        if not more and len(out) >= least:
            return bytes(out)


def whole_sections(data: bytes) -> list[tuple[int, int, int]]:
    """Return id, start and end of each section of an artifact, up to the first that is malformed."""
    found = []
    try:
        for one in sections(data, 0, len(data)):
            found.append(one)
    except Malformed:
        pass
    return found


def put_back(data: bytes, start: int, end: int, inner: bytes) -> bytes:
    """Return the artifact with the contents of the section from ``start`` to ``end`` replaced and its size updated."""
    if start == 0:
        return inner
    return data[: start - _size_bytes(data, start, end)] + leb(len(inner)) + inner + data[end:]


def _size_bytes(data: bytes, start: int, end: int) -> int:
    """Return the length of the LEB128 number that precedes a section's contents."""
    for length in range(1, 6):
        encoded = data[start - length : start]
        if sum((byte & 0x7F) << (7 * n) for n, byte in enumerate(encoded)) == end - start and all(
            (byte >= 0x80) == (n < length - 1) for n, byte in enumerate(encoded)
        ):
            return length
    return 1


# -- mutations, all in place -------------------------------------------------------------------------


def _flip(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    for _ in range(1 + int(rng.random() ** 8 * 32)):
        if data:
            data[int(rng.random() * len(data))] ^= 1 << int(rng.random() * 8)


def _odd(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    if data:
        data[int(rng.random() * len(data))] = rng.choice(_OPCODE_BYTES)


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
    """Remove, duplicate or move a section, or insert a section of another artifact."""
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
    """Return start and end of each section, including its id and size."""
    ends = [end for _, _, end in whole_sections(data)]
    return list(zip([8, *ends], ends, strict=False))


def _number(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    """Replace a byte by a LEB128 number: an extreme one, or one in a longer encoding than necessary."""
    if data:
        at = int(rng.random() * len(data))
        data[at : at + 1] = leb(
            rng.choice(_EXTREME_NUMBERS) if rng.random() < 0.6 else data[at] & 0x7F, 1 + int(rng.random() * 6)
        )


def _inside(rng: Random, data: bytearray, artifacts: Artifacts) -> None:
    """Mutate the contents of one section, and update its size."""
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
