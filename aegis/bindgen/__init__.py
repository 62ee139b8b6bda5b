"""From a WIT model to Python source, in memory: nothing here reads or writes a file.

A package has one module an interface, called after package and interface in snake case: ``acme:kv/store@1.2.0``
is ``acme_kv_store.py``. Where a world needs several versions of an interface, all but the newest have theirs at the
end: ``acme_kv_store_1_1_0.py``. An interface with resources that is both imported and exported has two modules, the
guest's side being ``acme_kv_store_exports.py``. ``__init__.py`` is the world: what stands in it by itself, a function
``imports`` that takes implementations, and a class for the exports. What Aegis provides itself, WASI 0.2, is not
generated again but taken from :mod:`aegis.bindings`.
"""

from __future__ import annotations

import re

from aegis.bindgen.check import check_interface, check_world, chosen
from aegis.bindgen.interface import Interfaces
from aegis.bindgen.plan import plan_interfaces, plan_world
from aegis.bindgen.world import World
from aegis.wit.model import Document

__all__ = ["MARK", "generate", "generate_interfaces"]

MARK = "# Made by `aegis bindgen`; a change belongs in the WIT that it was made from."
"""The first line of every generated file."""


def generate(document: Document, world: str | None = None, *, package: str = "") -> dict[str, str]:
    """Return the sources of a package for a world, by file name.

    ``world`` may be left out where there is but one. ``package`` is the package's full name, for absolute imports;
    without, they are relative. Raise :class:`~aegis.errors.ArtifactError` for a world that is not there, and for
    what Aegis does not run: asynchronous functions, streams, futures, maps, lists of a fixed length.
    """
    found = chosen(document, world)
    check_world(found)
    interfaces = Interfaces(plan_world(document, found), package)
    return _marked({"__init__.py": World(found, interfaces).source(), **interfaces.sources()})


def generate_interfaces(document: Document, *, package: str = "") -> dict[str, str]:
    """Return a module for every interface in a document, by file name, with an ``__init__.py`` that imports none.

    Raise :class:`~aegis.errors.ArtifactError` for what Aegis does not run.
    """
    for interface in document.interfaces:
        check_interface(interface)
    sources = Interfaces(plan_interfaces(document), package).sources()
    return _marked({"__init__.py": '"""Bindings that Aegis generated, one module an interface."""\n', **sources})


_AMBIGUOUS = re.compile(r"^ *(?:(def|class) )?[lIO](?=[:(=]| [:=])|[(, ](?:l|I|O): |^from .* as [lIO]$", re.MULTILINE)


def _marked(sources: dict[str, str]) -> dict[str, str]:
    """Put our mark before each text, and a word to the linter where WIT has names that look like numbers."""
    return {name: f"{MARK}\n{_excused(text)}{text}" for name, text in sorted(sources.items())}


def _excused(text: str) -> str:
    codes = {None: "E741", "class": "E742", "def": "E743"}
    found = {codes[match[1]] for match in _AMBIGUOUS.finditer(text)}
    return f"# ruff: noqa: {', '.join(sorted(found))}\n" if found else ""
