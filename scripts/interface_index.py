"""Generates the source of aegis/bindings/index.py from the WIT, wit/provided.toml and the imports of each module.

A confined worker cannot open files, so it must import beforehand each module that an implementation imports inside a
function. This module finds those imports in the syntax trees, because a list kept by hand would go stale unnoticed.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aegis.wit.model import Document

__all__ = ["PROVIDED_FEATURES", "IndexMismatch", "index_source", "provided_part"]

PROVIDED_FEATURES = ("network-error-code",)
"""Features whose ``@unstable`` functions Aegis provides."""

_KEYS = {"module", "capability", "place", "interfaces", "also"}
_GRANTS = "aegis.host.grants"
_HOST = "aegis.host"


class IndexMismatch(Exception):
    """The WIT and wit/provided.toml disagree. The message names the interface and the remedy."""


def provided_part(document: Document, table: str) -> Document:
    """Return the document without the interfaces of the packages that ``unserved`` in wit/provided.toml lists."""
    left_out = _table(table).get("unserved", [])
    kept = tuple(i for i in document.interfaces if _release(i.package) not in left_out)
    if stale := set(left_out) - {_release(i.package) for i in document.interfaces}:
        raise IndexMismatch(f"wit/provided.toml lists {', '.join(sorted(stale))} as unserved: the WIT lacks them")
    return replace(document, interfaces=kept)


def _release(name: str) -> str:
    """Return a name with the major and minor version of a release, or the full version of a pre-release."""
    base, _, version = name.partition("@")
    return f"{base}@{version if '-' in version else '.'.join(version.split('.')[:2])}"


class _ProvidedEntry(NamedTuple):
    """One interface in wit/provided.toml."""

    name: str
    module: str
    capability: str
    place: str
    also: tuple[str, ...]


def index_source(document: Document, table: str, package: Path, modules: Mapping[str, str]) -> str:
    """Return the source of the index.

    ``table`` is the text of wit/provided.toml, ``package`` the directory of aegis. ``modules`` maps each interface to
    the module of its bindings. Raise :class:`IndexMismatch` for an interface that only the WIT or only the table has.
    """
    entries = _entries(table)
    imports = _Imports(package)
    rows, used, late = [], set(), {}
    for interface in sorted(i.name for i in document.interfaces if i.name in modules):
        entry = _of(interface, entries)
        used.add(entry.name)
        base, _, version = interface.partition("@")
        rows.append(_row(base, version, modules[interface], entry))
        if entry.place == "worker":
            late[entry.module] = imports.late(entry.module)
    stale = [name for name in entries if name not in used]
    if stale:
        raise IndexMismatch(
            f"wit/provided.toml names {', '.join(stale)}, which the WIT lacks: remove the name, or add the WIT"
        )
    kept = "".join(f"        {_text(name)}: {_tuple(late[name], 8)},\n" for name in sorted(late))
    return _SOURCE.format(rows="".join(rows), late=kept)


_SOURCE = '''"""The index of interfaces: a row for each version, with its capability, bindings and implementation.

Generated from the WIT and wit/provided.toml. :mod:`aegis.wit.index` has the rules that select a row.
"""

from __future__ import annotations

from aegis.wit.index import Index, Provided

__all__ = ["INDEX"]

INDEX = Index(
    (
{rows}    ),
    late={{
{late}    }},
)
"""Creating it raises ``AegisInternalError`` for rows that contradict one another."""
'''


def _entries(table: str) -> dict[str, _ProvidedEntry]:
    """Return the entries of wit/provided.toml by the names of their interfaces."""
    blocks = _table(table).get("provides", [])
    found: dict[str, _ProvidedEntry] = {}
    for block in blocks:
        unknown = set(block) - _KEYS
        if unknown or "interfaces" not in block:
            raise IndexMismatch(
                f"wit/provided.toml: {sorted(unknown) or block}: valid keys are {', '.join(sorted(_KEYS))}"
            )
        for name in block["interfaces"]:
            if name in found:
                raise IndexMismatch(f"wit/provided.toml names {name} twice: keep one")
            found[name] = _entry(name, block)
    return found


def _table(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise IndexMismatch(f"wit/provided.toml cannot be read: {error}") from None


def _entry(name: str, block: Mapping[str, Any]) -> _ProvidedEntry:
    module = block.get("module", "")
    place = block.get("place", "worker" if module else "guest")
    return _ProvidedEntry(name, module, block.get("capability", ""), place, tuple(block.get("also", ())))


def _of(interface: str, entries: Mapping[str, _ProvidedEntry]) -> _ProvidedEntry:
    """Return the entry of an interface: a pre-release has its full version there, a release its major and minor."""
    entry = entries.get(_release(interface))
    if entry is None:
        raise IndexMismatch(
            f"wit/provided.toml lacks {_release(interface)}: add it to the interfaces of the module that implements it"
        )
    return entry


def _row(base: str, version: str, bindings: str, entry: _ProvidedEntry) -> str:
    """Return the source of one row."""
    values = {
        "interface": base, "version": version, "capability": entry.capability, "bindings": bindings,
        "implementation": entry.module, "place": entry.place,
    }  # fmt: skip
    lines = [f"            {name}={_text(value)},\n" for name, value in values.items()]
    if entry.also:
        lines.append(f"            also={_tuple(entry.also, 12)},\n")
    return f"        Provided(\n{''.join(lines)}        ),\n"


def _tuple(values: Sequence[str], indent: int) -> str:
    """Return the source of a tuple of strings, one a line, as the formatter writes it."""
    if len(values) < 2:
        return f"({_text(values[0])},)" if values else "()"
    return "(\n" + "".join(f"{' ' * (indent + 4)}{_text(v)},\n" for v in values) + " " * indent + ")"


def _text(value: str) -> str:
    """Return the source of a string in double quotes, as the formatter writes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Imports:
    """Finds the modules that a module imports at its top, or late, inside a function."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._trees: dict[str, ast.Module | None] = {}

    def late(self, implementation: str) -> tuple[str, ...]:
        """Return the modules that an implementation, and the host modules that it imports, import late; sorted.

        ``aegis.host.grants`` imports the module of each grant late. Only those of the grants that the implementation
        reads are needed.
        """
        found: set[str] = set()
        waiting, seen = [implementation], {_GRANTS}
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            tree = self._tree(name)
            if tree is None:
                raise IndexMismatch(
                    f"wit/provided.toml names the module {name}, which does not exist: correct the name"
                )
            later = {*self._within(tree, functions=True), *self._granted(tree)}
            found |= later
            both = {*later, *self._within(tree, functions=False)}
            waiting += sorted(n for n in both if n == _HOST or n.startswith(_HOST + "."))
        return tuple(sorted(found - {implementation, _HOST}))

    def _within(self, tree: ast.AST, *, functions: bool) -> set[str]:
        """Return the modules of Aegis that statements import at run time, either inside or outside functions."""
        found: set[str] = set()
        for node, inside in _statements(tree, inside=False):
            if inside is functions:
                found.update(self._named(node))
        return found

    def _granted(self, tree: ast.AST) -> Iterator[str]:
        """Yield the modules that the grants import for the properties which a module reads as ``….grants.NAME``."""
        grants = self._tree(_GRANTS)
        assert grants is not None
        bodies = {node.name: node for node in ast.walk(grants) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("grants") and node.attr in bodies:
                for statement in ast.walk(bodies[node.attr]):
                    yield from self._named(statement)

    def _named(self, node: ast.AST) -> Iterator[str]:
        """Yield the modules of Aegis that one import statement names."""
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" if self._tree(f"{node.module}.{a.name}") else node.module
                     for a in node.names]  # fmt: skip
        else:
            return
        yield from (name for name in names if name.startswith("aegis.") and self._tree(name))

    def _tree(self, name: str) -> ast.Module | None:
        """Return the syntax tree of a module, ``None`` if there is no such file: the name is not a module."""
        if name not in self._trees:
            path = self._package.joinpath(*name.split(".")[1:])
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            self._trees[name] = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
        return self._trees[name]


def _statements(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield each node that runs, and whether it is inside a function; skip blocks under ``TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        within = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, within
        yield from _statements(child, inside=within)
