"""The source of aegis/bindings/index.py: the WIT joined with wit/provided.toml, and the modules that each row needs.

The modules are computed. A worker imports them before it is confined, so a module that an implementation imports late,
inside a function, must be in the index. They are found in the syntax trees, not kept by hand.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aegis.wit.model import Document

__all__ = ["Fault", "index_source"]

_KEYS = {"module", "capability", "place", "interfaces", "also"}
_GRANTS = "aegis.host.grants"
_HOST = "aegis.host"


class Fault(Exception):
    """The WIT and wit/provided.toml do not agree; the message says where."""


class _Entry(NamedTuple):
    """One interface of wit/provided.toml."""

    name: str
    module: str
    capability: str
    place: str
    also: tuple[str, ...]


def index_source(document: Document, table: str, package: Path, modules: Mapping[str, str]) -> str:
    """Return the source of the index.

    ``table`` is the text of wit/provided.toml, ``package`` the folder of aegis, ``modules`` the module of bindings of
    each interface. Raise :class:`Fault` when an interface stands in the WIT or in the table alone.
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
        raise Fault(f"wit/provided.toml names {', '.join(stale)}, of which there is no WIT: remove it, or add the WIT")
    kept = "".join(f"        {_text(name)}: {_tuple(late[name], 8)},\n" for name in sorted(late))
    return _SOURCE.format(rows="".join(rows), late=kept)


_SOURCE = '''"""Which interface is served by which module, in which version, and about which capability: a row each.

Made from the WIT and from wit/provided.toml. :mod:`aegis.wit.index` has the rules by which a name finds its row.
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
"""Raises when it is made from rows that contradict one another."""
'''


def _entries(table: str) -> dict[str, _Entry]:
    try:
        blocks = tomllib.loads(table)["provides"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise Fault(f"wit/provided.toml cannot be read: {error}") from None
    found: dict[str, _Entry] = {}
    for block in blocks:
        unknown = set(block) - _KEYS
        if unknown or "interfaces" not in block:
            raise Fault(f"wit/provided.toml: {sorted(unknown) or block}: the keys are {', '.join(sorted(_KEYS))}")
        for name in block["interfaces"]:
            if name in found:
                raise Fault(f"wit/provided.toml names {name} twice: keep one")
            found[name] = _entry(name, block)
    return found


def _entry(name: str, block: Mapping[str, Any]) -> _Entry:
    module = block.get("module", "")
    place = block.get("place", "worker" if module else "guest")
    return _Entry(name, module, block.get("capability", ""), place, tuple(block.get("also", ())))


def _of(interface: str, entries: Mapping[str, _Entry]) -> _Entry:
    """Return the entry of an interface: a pre-release by its whole version, a release by major and minor."""
    base, _, version = interface.partition("@")
    short = version if "-" in version else ".".join(version.split(".")[:2])
    entry = entries.get(f"{base}@{short}")
    if entry is None:
        raise Fault(f"wit/provided.toml lacks {base}@{short}: say which module implements it")
    return entry


def _row(base: str, version: str, bindings: str, entry: _Entry) -> str:
    values = {
        "interface": base, "version": version, "capability": entry.capability, "bindings": bindings,
        "implementation": entry.module, "place": entry.place,
    }  # fmt: skip
    lines = [f"            {name}={_text(value)},\n" for name, value in values.items()]
    if entry.also:
        lines.append(f"            also={_tuple(entry.also, 12)},\n")
    return f"        Provided(\n{''.join(lines)}        ),\n"


def _tuple(values: Sequence[str], indent: int) -> str:
    if len(values) < 2:
        return f"({_text(values[0])},)" if values else "()"
    return "(\n" + "".join(f"{' ' * (indent + 4)}{_text(v)},\n" for v in values) + " " * indent + ")"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Imports:
    """The modules that others import, by their syntax trees: at their top, or late, inside a function."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._trees: dict[str, ast.Module | None] = {}

    def late(self, implementation: str) -> tuple[str, ...]:
        """Return all that an implementation and the modules of the host behind it import late, sorted.

        Of the grants of a sandbox, each of which imports its provider late, it is those that the modules mention.
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
                raise Fault(f"wit/provided.toml: there is no module {name}")
            later = {*self._within(tree, functions=True), *self._granted(tree)}
            found |= later
            both = {*later, *self._within(tree, functions=False)}
            waiting += sorted(n for n in both if n == _HOST or n.startswith(_HOST + "."))
        return tuple(sorted(found - {implementation, _HOST}))

    def _within(self, tree: ast.AST, *, functions: bool) -> set[str]:
        """Return the modules of Aegis that run-time statements import, inside functions or outside them."""
        found: set[str] = set()
        for node, inside in _statements(tree, inside=False):
            if inside is functions:
                found.update(self._named(node))
        return found

    def _granted(self, tree: ast.AST) -> Iterator[str]:
        """Yield the modules that the grants import for the properties that a module reads as ``….grants.NAME``."""
        grants = self._tree(_GRANTS)
        assert grants is not None
        bodies = {node.name: node for node in ast.walk(grants) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("grants") and node.attr in bodies:
                for statement in ast.walk(bodies[node.attr]):
                    yield from self._named(statement)

    def _named(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" if self._tree(f"{node.module}.{a.name}") else node.module
                     for a in node.names]  # fmt: skip
        else:
            return
        yield from (name for name in names if name.startswith("aegis.") and self._tree(name))

    def _tree(self, name: str) -> ast.Module | None:
        if name not in self._trees:
            path = self._package.joinpath(*name.split(".")[1:])
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            self._trees[name] = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
        return self._trees[name]


def _statements(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the nodes that exist at run time, each with whether it is in a function's body."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        within = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, within
        yield from _statements(child, inside=within)
