"""WIT that has no bindings is rejected in one line that states the place and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis.bindgen import generate_interfaces
from aegis.errors import AegisError, ArtifactError, ArtifactNotFound
from aegis.wit import wasm_tools
from tests.bindgen.support import bindings, document

CASES = {
    "package a:b@1.0.0; interface i { f: func() -> stream<map<u8, u8>>; } world w { import i; }": (
        "a:b/i@1.0.0: function f needs map<u8, u8>, which Aegis does not run: write list<tuple<…>>"
    ),
    "package a:b; interface i { resource r { g: async func(a: future<error-context>); } } world w { export i; }": (
        "a:b/i: function [method]r.g needs error-context, which Aegis does not run: write a variant or a string"
    ),
    "package a:b; interface i { record r { m: map<string, list<u8>> } } world w { export i; }": (
        "a:b/i: type r needs map<string, list<u8>>, which Aegis does not run: write list<tuple<…>>"
    ),
    "package a:b; interface i { type t = tuple<list<u8, 4>>; } world w { export i; }": (
        "a:b/i: type t needs list<u8, 4>, which Aegis does not run: write list<…> without a length, or a tuple"
    ),
    "package a:b; world w { variant v { a(error-context) } }": (
        "a:b/w: type v needs error-context, which Aegis does not run: write a variant or a string"
    ),
    "package a:b; interface i { }": ("no world found: write a world with the imports and exports that you need"),
    "package a:b; world v { } world u { }": "several worlds found: choose one with --world: u, v",
}


@pytest.mark.parametrize("text", CASES)
def test_unsupported_features_are_named_with_a_replacement(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        bindings(tmp_path, text)
    assert str(caught.value) == CASES[text]


PARSED = {
    "package a:b;\ninterface i {\n  f: func(x: u7);\n}": (
        "world.wit:3:14: name `u7` does not exist: define it, or import it from another interface with use"
    ),
    "package a:b;\ninterface i {\n  record r { x }\n}": "world.wit:3:16: expected ':', found '}'",
    "package a:b; interface i { record a { x: b } record b { x: a } }": (
        "world.wit:1:42: type `b` depends on itself: break the cycle with a resource, or with indices into a list"
    ),
    "package a:b; world w { import x:y/z@1.0.0; }": (
        "world.wit:1:31: package 'x:y@1.0.0' not found: put its WIT into deps/ in that directory "
        "(`aegis wit DIR/deps` writes the packages that Aegis provides)"
    ),
    "world w { }": "world.wit: no `package` header was found in any WIT file for this package",
}


@pytest.mark.parametrize("text", PARSED)
def test_a_parse_error_has_its_position_in_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        document(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/{PARSED[text]}"


def test_a_world_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    text = "package a:b@1.0.0; world one { } world two { } package c:d { world one { } world three { } }"
    with pytest.raises(ArtifactError, match=r"^no world three found: use one of: one, two$"):
        bindings(tmp_path, text, "three")
    assert "``a:b/one@1.0.0``" in bindings(tmp_path, text, "one")["__init__.py"]
    assert "``a:b/two@1.0.0``" in bindings(tmp_path, text, "a:b/two")["__init__.py"]
    assert "``c:d/three``" in bindings(tmp_path, text, "c:d/three")["__init__.py"]


def test_unneeded_interfaces_do_not_prevent_binding_a_world(tmp_path: Path) -> None:
    text = (
        "package a:b; interface no { f: func() -> error-context; } interface yes { f: func(); } world w { import yes; }"
    )
    assert "a_b_yes.py" in bindings(tmp_path, text)
    with pytest.raises(ArtifactError, match="a:b/no"):
        generate_interfaces(document(tmp_path, text))


def test_a_core_module_and_a_missing_file_are_distinguished(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="no such file"):
        wasm_tools.read_wit(str(tmp_path / "none.wit"))
    (tmp_path / "core.wat").write_text("(module)")
    with pytest.raises(ArtifactError, match="name WIT text, a directory of it, or a component"):
        wasm_tools.read_wit(str(tmp_path / "core.wat"))


def test_without_wasm_tools_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(wasm_tools, "import_module", missing)
    with pytest.raises(AegisError, match=r"install it with .*aegis-wasm\[wit\]"):
        wasm_tools.read_wit("any.wit")
