"""Every public name exists and has a docstring: functions, classes, and their public members."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import aegis

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "aegis").rglob("*.py"))


def dotted(path: Path) -> str:
    """Return the module name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public(tree: ast.Module) -> list[str]:
    """Return the contents of ``__all__``, read without importing."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def defined(tree: ast.Module) -> dict[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the classes and functions at a module's top level."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def undocumented(path: Path) -> list[str]:
    """Return the public classes and functions of a module that have no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = defined(tree)
    return [name for name in public(tree) if name in nodes and not ast.get_docstring(nodes[name])]


def test_every_public_name_has_a_docstring() -> None:
    """One test for all modules: a test for each would cost more than reading it."""
    silent = {dotted(path): names for path in SOURCES if (names := undocumented(path))}
    assert silent == {}


def test_every_public_name_exists() -> None:
    found = []
    for name in [dotted(path) for path in SOURCES if path.name != "__main__.py"]:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", ())
        if len(names) != len(set(names)):
            found.append(f"{name}.__all__ repeats itself")
        found += [f"{name}.{public} does not exist" for public in names if not hasattr(module, public)]
    assert found == []


@pytest.mark.parametrize("name", [n for n in aegis.__all__ if not n.startswith("__")])
def test_a_public_name_explains_its_members(name: str) -> None:
    value = getattr(aegis, name)
    assert inspect.getdoc(value), f"aegis.{name} has no docstring"
    if not inspect.isclass(value):
        return
    for member, what in vars(value).items():
        written = inspect.isroutine(what) or isinstance(what, (property, classmethod, staticmethod))
        if written and not member.startswith("_"):
            assert inspect.getdoc(getattr(value, member)), f"aegis.{name}.{member} has no docstring"


def test_the_public_names_are_listed_for_completion() -> None:
    assert set(aegis.__all__) <= set(dir(aegis))


PUBLIC_MODULES = (
    "aegis", "aegis.errors", "aegis.fuzz", "aegis.limits", "aegis.observe", "aegis.observe.events",
    "aegis.observe.report", "aegis.policy", "aegis.prelude", "aegis.runtime", "aegis.wit",
    "aegis.wit.types", "aegis.wit.values",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_completion_of_a_public_module_shows_its_public_names_alone(name: str) -> None:
    module = importlib.import_module(name)
    shown = {word for word in dir(module) if not word.startswith(("_", "@"))}  # @: names that pytest adds
    assert shown <= set(getattr(module, "__all__", ()))


def test_completion_of_an_artifact_shows_nothing_of_the_engine() -> None:
    runtime = aegis.Aegis(cache=False)
    common = {"binary", "cached", "digest", "exports", "imports", "kind", "seconds", "size"}
    module, component = runtime.load_wat("(module)"), runtime.load_wat("(component)")
    for artifact, more in ((module, {"export", "sections", "signature"}), (component, {"callables", "world"})):
        shown = {name for name in dir(artifact) if not name.startswith("_")}
        assert shown == common | more
        assert all(hasattr(artifact, name) for name in shown)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_such"):
        aegis.nothing_such  # noqa: B018 - reading it is the test


def test_the_version_is_that_of_the_distribution() -> None:
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == aegis.__version__
