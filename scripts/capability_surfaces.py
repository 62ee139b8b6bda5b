"""Write the lines of the package that repeat the table of capabilities, because type checkers and editors need them.

A typed field, a keyword in a signature and a public name cannot be computed at run time. They stand between the
comments ``# [capabilities: KIND]`` and ``# [end]``. ``scripts/regen`` writes these regions from the table in
aegis/policy/capabilities.py and from the declarations of its rows.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aegis.policy.capabilities import CAPABILITIES, CapabilityRow, declaration

__all__ = ["FILES", "filled", "stale_surfaces"]

FILES = (
    "aegis/__init__.py", "aegis/policy/__init__.py", "aegis/policy/policy.py", "aegis/prelude/__init__.py",
    "aegis/runtime.py",
)  # fmt: skip
_REGION = re.compile(r"(?ms)^( *)# \[capabilities: ([a-z. ]+)\]\n(.*?)^ *# \[end\]\n")
_WIDTH = 118
_MAX_LINE = 120


def _imports(rows: Iterable[CapabilityRow], *more: tuple[str, str], indent: int = 0) -> list[str]:
    """Return the lines that import the classes of ``rows`` and ``more`` names by module, in the form of ruff."""
    modules: dict[str, list[str]] = {}
    for module, name in (*((row.home or row.name, row.kind) for row in rows), *more):
        modules.setdefault(module, []).append(name)
    lines = []
    for module in sorted(modules):
        names = sorted(modules[module], key=_rank)
        line = f"from aegis.policy.{module} import {', '.join(names)}"
        if len(line) + indent <= _MAX_LINE:
            lines.append(line)
        else:
            lines += [f"from aegis.policy.{module} import (", *(f"    {name}," for name in names), ")"]
    return lines


def _exports(kept: str) -> list[str]:
    """Return the statements in ``kept``, and those that export the classes of all rows."""
    lines = (f"from aegis.policy.{row.home or row.name} import {row.kind} as {row.kind}" for row in CAPABILITIES)
    return _in_order({*kept.replace("    ", "").splitlines(), *lines} - {""})


def _in_order(statements: Iterable[str]) -> list[str]:
    """Sort import statements by module, then by name: constants, classes, others."""
    return sorted(statements, key=lambda line: (line.split()[1], *_rank(line.split()[3])))


def _rank(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[0].isupper(), name


def _names(kept: Iterable[str], *, fold: bool = False) -> list[str]:
    """Return the names in ``kept`` and those of the classes: constants, classes, others; ``fold`` ignores case."""
    found = {*kept, *(row.kind for row in CAPABILITIES)}
    return sorted(found, key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower() if fold else name))


def _typed(row: CapabilityRow) -> str:
    return f"{row.kind} | None" if row.optional else row.kind


def _field(row: CapabilityRow) -> str:
    return f"{row.name}: {_typed(row)} = " + ("None" if row.optional else f"field(default_factory={row.kind})")


def _accepted(row: CapabilityRow) -> str:
    """Return the type of a keyword: the capability, and its short forms."""
    return declaration(row.name).accepts or _typed(row)


def _method(row: CapabilityRow) -> str:
    declared = declaration(row.name)
    how = "_add" if declared.adds else "_state"
    return (
        f"def with_{row.name}(self, capability: {_accepted(row)}) -> Builder:\n"
        f'    """{declared.builder}"""\n'
        f'    return self.{how}("{row.name}", capability)\n'
    )


def _short_forms() -> list[tuple[str, str]]:
    """Return module and name of the types of short forms."""
    accepted = (declaration(row.name).accepts for row in CAPABILITIES)
    return [("short_forms", name) for name in accepted if name]


def _quoted(text: str) -> list[str]:
    return re.findall(r'"(\w+)"', text)


_ISOLATION = ("isolation", "Isolation")
_TABLE = (("capabilities", "CAPABILITIES"), ("capabilities", "PARENT"), ("capabilities", "capability_class"))
_KINDS: Mapping[str, Callable[[str, int], list[str]]] = {
    "imports": lambda _, __: _imports((row for row in CAPABILITIES if not row.optional), *_TABLE),
    "late imports": lambda _, __: _imports(
        (row for row in CAPABILITIES if row.optional), _ISOLATION, *_short_forms(), indent=4
    ),
    "parameter types": lambda _, __: _imports(
        (row for row in CAPABILITIES if not declaration(row.name).accepts), _ISOLATION, *_short_forms(), indent=4
    ),
    "exports": lambda old, _: _exports(old),
    "public names of aegis.policy": lambda old, _: [
        f"from aegis.policy import {name} as {name}" for name in _names(re.findall(r"as (\w+)", old))
    ],
    "fields": lambda _, __: [_field(row) for row in CAPABILITIES],
    "parameters": lambda _, width: textwrap.wrap(
        " ".join(f"{row.name}: {_accepted(row)} = DEFAULT,".replace(" ", "\0") for row in CAPABILITIES), width
    ),
    "builder methods": lambda _, __: "\n".join(map(_method, CAPABILITIES)).split("\n")[:-1],
    "names": lambda old, width: textwrap.wrap(" ".join(f'"{name}",' for name in _names(_quoted(old))), width),
    "name lines": lambda old, _: [f'"{name}",' for name in _names(_quoted(old))],
    "imported names": lambda old, _: [f"{name}," for name in _names(re.findall(r"\w+", old), fold=True)],
}
"""What each kind of region holds, from its present text and the width of its lines. Lists of names keep theirs."""


def filled(text: str) -> str:
    """Return the text of a module with each region written from the table."""
    return _REGION.sub(_region, text)


def _region(found: re.Match[str]) -> str:
    indent, kind, old = found.groups()
    lines = [line.replace("\0", " ") for line in _KINDS[kind](old, _WIDTH - len(indent))]
    if [line.strip() for line in lines if line] == [line.strip() for line in old.splitlines() if line.strip()]:
        return found[0]  # the formatter adds blank lines
    body = "".join(f"{indent}{line}\n" if line else "\n" for line in lines)
    return f"{indent}# [capabilities: {kind}]\n{body}{indent}# [end]\n"


def stale_surfaces(root: Path) -> dict[str, str]:
    """Return the new text of each file with a region that is not the table's, by its path."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in FILES}
    return {name: filled(text) for name, text in texts.items() if filled(text) != text}
