"""Generated packages equal the reviewed golden files; ``AEGIS_GOLDEN=1`` in the environment rewrites them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aegis.bindgen import generate, generate_interfaces
from aegis.wit.wasm_tools import read_wit
from scripts.interface_index import PROVIDED_FEATURES, provided_part
from tests.bindgen.support import ROOT, WORLDS, imported, linted, package, typed

GOLDEN = Path(__file__).resolve().parent / "golden"
NAMES = sorted(path.stem for path in WORLDS.glob("*.wit"))


def sources(name: str) -> dict[str, str]:
    """Return the bindings of one of the worlds in ``tests/bindgen/worlds``."""
    return generate(read_wit(str(WORLDS / f"{name}.wit")))


@pytest.mark.parametrize("name", NAMES)
def test_a_world_has_the_bindings_that_were_read(name: str) -> None:
    made = sources(name)
    folder = GOLDEN / name
    if os.environ.get("AEGIS_GOLDEN"):
        for old in folder.glob("*.py"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in made.items():
            (folder / file).write_text(text, encoding="utf-8")
    assert made == {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    assert list(made) == sorted(made)


def test_the_bindings_of_our_worlds_are_formatted_typed_and_can_be_imported(tmp_path: Path) -> None:
    for name in NAMES:
        package(tmp_path / name, sources(name))
    linted(tmp_path)
    assert typed(tmp_path) == ""
    imported(tmp_path, *NAMES)


def test_a_package_may_have_absolute_imports(tmp_path: Path) -> None:
    made = generate(read_wit(str(WORLDS / "keyvalue.wit")), "acme:kv/plugin@1.2.0", package="acme.kv")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text("")
    package(tmp_path / "acme" / "kv", made)
    imported(tmp_path, "acme.kv")
    assert "from acme.kv import acme_kv_store, acme_kv_store_exports" in made["__init__.py"]


def test_the_bindings_of_wasi_are_those_that_its_wit_gives() -> None:
    table = (ROOT / "wit" / "provided.toml").read_text(encoding="utf-8")
    document = provided_part(read_wit(str(ROOT / "wit"), features=PROVIDED_FEATURES), table)
    made = generate_interfaces(document, package="aegis.bindings", lasting=True)
    folder = ROOT / "aegis" / "bindings"
    assert made == {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.stem != "index"}
    assert len(made) == 62


def test_the_bindings_of_wasi_are_strictly_typed_and_bring_no_wasmtime(tmp_path: Path) -> None:
    made = generate_interfaces(read_wit(str(ROOT / "wit")))
    package(tmp_path / "wasi", made)
    linted(tmp_path)
    assert typed(tmp_path) == ""
    imported(tmp_path, "wasi", "aegis.bindings")
