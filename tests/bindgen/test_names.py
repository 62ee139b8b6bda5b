"""Every generated name is unique in its scope, and is defined once."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path

import pytest

import aegis.bindings
from aegis.bindgen.plan import module_names, provided_module
from tests.bindgen.support import WORLDS, bindings, package

KEYVALUE = (WORLDS / "keyvalue.wit").read_text(encoding="utf-8")


def test_all_versions_but_the_newest_are_in_the_name() -> None:
    names = ["a:b/c@0.9.0", "a:b/c@0.10.0", "a:b/c@0.10.0-rc.2", "a:b/d@0.9.0", "a:b/c@0.10.0-rc.10"]
    assert module_names(names) == {
        "a:b/c@0.9.0": "a_b_c_0_9_0",
        "a:b/c@0.10.0": "a_b_c",
        "a:b/c@0.10.0-rc.2": "a_b_c_0_10_0_rc_2",
        "a:b/c@0.10.0-rc.10": "a_b_c_0_10_0_rc_10",
        "a:b/d@0.9.0": "a_b_d",
    }
    newest = module_names(["a:b/c@1.0.0-rc.2", "a:b/c@1.0.0-rc.10", "a:b/c@1.0.0-1"])
    assert newest["a:b/c@1.0.0-rc.10"] == "a_b_c"


def test_modules_whose_names_would_be_one_are_two() -> None:
    assert list(module_names(["a:b-c/d", "a:b/c-d", "imports", "import"]).values()) == [
        "a_b_c_d",
        "a_b_c_d_",
        "imports_",
        "import_",
    ]


def test_a_field_may_have_any_name_that_python_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["mro", "type", "class", "self", "none", "drop", "value", "count", "index", "name", "items", "property"]
    fields = ", ".join(f"%{word}: u32" for word in words)
    text = f"package a:b; interface i {{ record r {{ {fields} }} f: func(x: r) -> r; }} world w {{ import i; }}"
    package(tmp_path / "any_field", bindings(tmp_path, text))
    monkeypatch.syspath_prepend(str(tmp_path))
    record = import_module("any_field.a_b_i").R
    assert [field.name.rstrip("_") for field in dataclasses.fields(record)] == words
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(record))


def test_flags_may_have_the_name_of_their_base_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "package a:b; interface i { flags bit-flags { a, b } f: func() -> bit-flags; } world w { import i; }"
    package(tmp_path / "named_flags", bindings(tmp_path, text))
    monkeypatch.syspath_prepend(str(tmp_path))
    made = import_module("named_flags.a_b_i").BitFlags_
    assert [member.name for member in made] == ["A", "B"]


def test_a_type_that_others_use_is_defined_once(tmp_path: Path) -> None:
    made = bindings(tmp_path, KEYVALUE)
    assert sum(text.count("class Entry:") for text in made.values()) == 1
    assert "from .acme_kv_store import" in made["acme_kv_store_exports.py"]
    assert "from .acme_kv_store import ENTRY, Entry" in made["__init__.py"]


def test_an_interface_with_resources_has_a_module_for_each_side(tmp_path: Path) -> None:
    made = bindings(tmp_path, KEYVALUE)
    assert "class Bucket(Protocol):" in made["acme_kv_store.py"]
    assert "class Bucket(Handle, Protocol):" in made["acme_kv_store_exports.py"]
    assert "class Exports" not in made["acme_kv_store.py"]
    assert "class Host" not in made["acme_kv_store_exports.py"]


def test_an_exported_interface_takes_the_resources_of_the_exported_one(tmp_path: Path) -> None:
    made = bindings(
        tmp_path,
        """
        package a:b;
        interface x { resource r { } record data { n: u8 } }
        interface y { use x.{r, data}; f: func(d: data) -> r; }
        world w { import x; import y; export x; export y; }
        """,
    )
    assert "from .a_b_x import DATA, R_, Data, R\n" in made["a_b_y.py"]
    assert "from .a_b_x_exports import R_, R\n" in made["a_b_y_exports.py"]
    assert "from .a_b_y import DATA, Data\n" in made["a_b_y_exports.py"]


def test_interfaces_that_aegis_provides_use_its_own_bindings(tmp_path: Path) -> None:
    made = bindings(tmp_path, KEYVALUE)
    assert not [name for name in made if name.startswith("wasi")]
    assert "self.run: wasi_cli_run.Exports = sandbox.bind(wasi_cli_run.INTERFACE)" in made["__init__.py"]
    assert "from aegis.bindings import wasi_cli_run" in made["__init__.py"]


def test_bindings_are_generated_for_wasi_interfaces_that_aegis_lacks(tmp_path: Path) -> None:
    text = """
        package a:b;
        world w { import wasi:io/streams@0.3.0; export wasi:io/error@0.2.0; import wasi:nn/graph@0.2.0; }
        package wasi:io@0.3.0 { interface streams { f: func(); } }
        package wasi:io@0.2.0 { interface error { f: func(); } }
        package wasi:nn@0.2.0 { interface graph { f: func(); } }
    """
    assert set(bindings(tmp_path, text)) == {
        "__init__.py",
        "wasi_io_streams.py",
        "wasi_io_error.py",
        "wasi_nn_graph.py",
    }


def test_every_module_that_a_world_may_take_from_us_is_there() -> None:
    (folder,) = aegis.bindings.__path__
    there = {f"aegis.bindings.{path.stem}" for path in Path(folder).glob("wasi_*.py")}
    interfaces = [path.read_text(encoding="utf-8").split("``")[1] for path in Path(folder).glob("wasi_*.py")]
    taken = {provided_module(name, True, False) or provided_module(name, False, True) for name in interfaces}
    assert taken == there
    assert provided_module("wasi:clocks/timezone@0.2.3", True, False) == ""


def test_attributes_that_would_be_one_have_their_package(tmp_path: Path) -> None:
    made = bindings(
        tmp_path,
        """
        package a:b;
        interface store { f: func(); }
        world w { export store; export c:d/store; export other: func(); export c:d/other; }
        package c:d { interface store { g: func(); } interface other { g: func(); } }
        """,
    )["__init__.py"]
    for line in ("self.a_b_store: ", "self.c_d_store: ", "self.c_d_other: ", "def other(self)"):
        assert line in made
