"""A collection of components: built guests, guests in text, and the component texts in tests."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ArtifactError
from aegis.wasm.admission import sections
from aegis.wasm.binary import is_component
from aegis.wasm.component import decode_component
from aegis.wasm.definitions import ComponentBinary
from aegis.wasm.structure import count_instances
from tests.guests.catalogue import GUESTS

__all__ = ["BUILT", "component", "components", "leb", "mutant", "part", "rearranged", "vec"]

TESTS = Path(__file__).resolve().parents[1]


def _begins_as_component(path: Path) -> bool:
    with path.open("rb") as file:
        return is_component(file.read(8))


BUILT = sorted(filter(_begins_as_component, (GUESTS / "build").glob("*.wasm")))
"""Built components, including interpreters of 18 MB; empty where guests are not built."""


def component(text: str) -> tuple[bytes, ComponentBinary]:
    """Assemble a component text, and return it with its decoded form."""
    data = text_to_binary(text)
    return data, decode_component(data)


@cache
def components() -> dict[str, bytes]:
    """Return all components of moderate size by name: texts of tests and guests, valid or not, and built guests.

    Bombs are omitted: the engine resolves instantiation too, and allocates gigabytes where a plan is rejected.
    """
    found = {path.name: path.read_bytes() for path in BUILT if path.stat().st_size < 100_000}
    for path in sorted(GUESTS.rglob("*.wat")):
        _add(found, path.name, path.read_text("utf-8"))
    for path in sorted(TESTS.rglob("*.py")):
        for number, text in enumerate(_texts(path)):
            _add(found, f"{path.name}:{number}", text)
    return found


def _texts(path: Path) -> Iterator[str]:
    source = path.read_text("utf-8")
    if "(component" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("(component"):
            yield node.value


def _add(found: dict[str, bytes], name: str, text: str) -> None:
    try:
        data = text_to_binary(text)
    except ArtifactError:
        return  # a fragment that a test completes, or text that is wrong on purpose
    if is_component(data) and data not in found.values() and not _is_bomb(data):
        found[name] = data


def _is_bomb(data: bytes) -> bool:
    try:
        totals = count_instances(decode_component(data))
    except ArtifactError:
        return False
    return totals.instances + totals.components > 1000


# -- binaries by hand -------------------------------------------------------------------------------------------------


def leb(value: int) -> bytes:
    """Encode an unsigned LEB128 integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def part(number: int, content: bytes) -> bytes:
    """Encode a section."""
    return bytes([number]) + leb(len(content)) + content


def vec(*items: bytes) -> bytes:
    """Encode a vector."""
    return leb(len(items)) + b"".join(items)


# -- mutants ----------------------------------------------------------------------------------------------------------


def mutant(data: bytes, spots: Sequence[int], choose: random.Random) -> bytes:
    """Return ``data`` with one to three small changes at some of ``spots``."""
    raw = bytearray(data)
    for _ in range(choose.choice((1, 1, 1, 2, 3))):
        at, kind = choose.choice(spots), choose.random()
        if at >= len(raw):
            continue
        if kind < 0.5:
            raw[at] = choose.choice((choose.randrange(256), raw[at] ^ 1 << choose.randrange(8)))
        elif kind < 0.7:
            raw[at] = (raw[at] + choose.choice((1, -1))) % 256
        elif kind < 0.8:
            del raw[at]
        elif kind < 0.9:
            raw.insert(at, choose.randrange(256))
        else:
            source = choose.choice(spots)
            raw[at : at + 4] = data[source : source + 4]
    return bytes(raw)


def rearranged(data: bytes, choose: random.Random, within: tuple[int, int] | None = None) -> bytes:
    """Return a component in which one section, at any level, is removed, duplicated or moved."""
    begin, end = within or (0, len(data))
    found = list(sections(data, begin, end))
    out = [part(number, data[at:to]) for number, at, to in found]
    inner = [n for n, (number, _, _) in enumerate(found) if number == 4]
    if inner and choose.random() < 0.6:
        n = choose.choice(inner)
        out[n] = part(4, rearranged(data, choose, found[n][1:]))
    elif out:
        kind, moved = choose.random(), out.pop(choose.randrange(len(out)))
        if kind > 0.3:
            out.insert(choose.randrange(len(out) + 1), moved)
        if kind > 0.8:
            out.insert(choose.randrange(len(out) + 1), moved)
    return data[begin : begin + 8] + b"".join(out)
