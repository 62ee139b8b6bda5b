"""Manage the names of one generated module: its definitions and imports, without duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aegis.bindgen.layout import WIDTH, natural

__all__ = ["MODULE_LEVEL", "ModuleNames", "ordered", "unused"]

# Names that generated code uses; a type with such a name gets an underscore.
_RESERVED = frozenset(
    {"Bound", "EXPORTS", "Exports", "Handle", "Host", "IMPORTS", "INTERFACE", "Imports", "Resources", "TYPE_CHECKING"}
    | {
        "AnyFuture",
        "AnyStream",
        "AsyncExports",
        "ClassVar",
        "Literal",
        "ByteSource",
        "ByteStreamReader",
        "FutureReader",
        "FutureSource",
        "StreamReader",
        "StreamSource",
        "AsyncResources",
        "Functions",
        "MaybeAwaitable",
        "Provider",
        "TypeAlias",
    }
)
MODULE_LEVEL = frozenset({"annotations", "dataclass", "enum", "imports", "sandbox"})
"""Lower-case names in generated modules. A sibling module must not have one: it is an attribute of the package, so
``from . import enum`` would find the ``enum`` that ``__init__.py`` imported."""


@dataclass(slots=True)
class ModuleNames:
    """The names of one module. ``package`` is the package of its siblings, empty for relative imports."""

    package: str = ""
    taken: set[str] = field(default_factory=lambda: {*_RESERVED, *MODULE_LEVEL})
    public: set[str] = field(default_factory=set)
    checked: list[str] = field(default_factory=list)
    """Import statements under ``TYPE_CHECKING``."""
    modules: set[str] = field(default_factory=set)
    members: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    neighbours: dict[str, str] = field(default_factory=dict)
    """The local names of imported sibling modules, by module."""
    mentioning: bool = False
    """Whether names are only written into a docstring, which needs no imports."""

    def free(self, name: str) -> str:
        """Reserve a name, with trailing underscores if it is taken, and return it."""
        return unused(name, self.taken)

    def parameters(self, names: Sequence[str]) -> list[str]:
        """Return names for the parameters of a function whose body refers to the sibling modules."""
        taken = set(self.neighbours.values())
        return [unused(name, taken) for name in names]

    def define(self, name: str) -> str:
        """Reserve a name and add it to ``__all__``."""
        made = self.free(name)
        self.public.add(made)
        return made

    def use(self, module: str, name: str, alias: str = "") -> str:
        """Import a name and return its local name."""
        if not self.mentioning:
            self.members[module].add((name, alias or name))
        return alias or name

    @contextmanager
    def mentioned(self) -> Iterator[None]:
        """Import and reserve nothing for the names that are used inside the ``with`` block."""
        before, self.mentioning = self.mentioning, True
        try:
            yield
        finally:
            self.mentioning = before

    def module(self, name: str) -> None:
        """Import a module."""
        self.modules.add(name)

    def sibling(self, module: str) -> str:
        """Return the name of a sibling module for an import; a module of ``aegis.bindings`` has its package already."""
        if "." in module:
            return module
        return f"{self.package}.{module}" if self.package else f".{module}"

    def neighbour(self, module: str) -> str:
        """Import a sibling module and return its local name, which no type and no other module has."""
        found = self.neighbours.get(module)
        if found is None:
            package, _, name = module.rpartition(".")
            found = self.neighbours[module] = self.use(package or self.package or ".", name, self.free(name))
        return found

    def header(self, doc: str) -> str:
        """Return the start of the module: docstring, imports, ``__all__``."""
        sections = ["\n".join(s) for s in self._sections() if s]
        if self.checked:
            sections.append("if TYPE_CHECKING:\n" + "\n".join(f"    {line}" for line in self.checked))
        public = _listed("__all__ = [", ordered(self.public), "]", '"')
        return "\n\n".join([doc, "from __future__ import annotations", *sections, public])

    def _sections(self) -> tuple[list[str], list[str], list[str]]:
        standard = [f"import {name}" for name in sorted(self.modules)]
        package: list[str] = []
        relative: list[str] = []
        for module in sorted(self.members, key=natural):
            section = relative if module[0] == "." else package if module.split(".")[0] == "aegis" else standard
            section += _imports(module, self.members[module])
        return standard, package, relative


def unused(name: str, taken: set[str]) -> str:
    """Return ``name`` with as many trailing underscores as make it unique, and add it to ``taken``."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def ordered(names: set[str]) -> list[str]:
    """Sort names as ruff does: constants, then classes, then others."""
    return sorted(names, key=lambda name: (_kind(name), natural(name)))


def _rank(name: str) -> tuple[object, ...]:
    """Return the sort key of an imported name; unlike in ``__all__``, case is compared last."""
    return (_kind(name), natural(name.lower()), natural(name))


def _kind(name: str) -> int:
    return 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2


def _imports(module: str, members: set[tuple[str, str]]) -> list[str]:
    plain = sorted({name for name, alias in members if name == alias}, key=_rank)
    statements = [((_rank(n), natural(a)), f"from {module} import {n} as {a}") for n, a in members if n != a]
    if plain:
        statements.append(((_rank(plain[0]), ()), _listed(f"from {module} import ", plain, "")))
    return [text for _, text in sorted(statements)]


def _listed(head: str, names: list[str], tail: str, quote: str = "") -> str:
    shown = [f"{quote}{name}{quote}" for name in names]
    line = f"{head}{', '.join(shown)}{tail}"
    if len(line) <= WIDTH:
        return line
    opening = head if tail else f"{head}("
    return "\n".join([opening, *(f"    {name}," for name in shown), tail or ")"])
