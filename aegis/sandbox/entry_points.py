"""The exports by which artifacts are run: programs and single functions."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.engine.compile.artifact import Module
from aegis.engine.store.plan import callable_export
from aegis.errors import ExportNotFound
from aegis.sandbox.programs import COMMAND
from aegis.support.lean import TYPE_CHECKING
from aegis.text import printable, similar_names

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["HANDLERS", "entry_point", "require_entry"]

HANDLERS = tuple(f"wasi:http/{name}" for name in ("incoming-handler", "handler"))
"""The interfaces in WASI 0.2 and 0.3 by which a component answers HTTP requests."""


def entry_point(artifact: Module | Component) -> str:
    """Return the export to run: ``_start``, ``wasi:cli/run``, ``main``, or the artifact's only function.

    Raise :class:`~aegis.errors.ExportNotFound` if there is none.
    """
    return _entry_among(_callables(artifact), artifact.kind)


def _entry_among(functions: list[str], kind: str) -> str:
    for name in functions:
        if name == "_start" or (name.startswith(f"{COMMAND}@") and name.endswith("#run")):
            return name
    if "main" in functions:
        return "main"
    handlers = [one for one in HANDLERS if any(n.startswith(f"{one}@") or n == f"{one}#handle" for n in functions)]
    if len(functions) == 1 and not handlers:
        return functions[0]
    if handlers:
        raise ExportNotFound(
            f"the component handles HTTP requests ({handlers[0]}) and is no program: serve it with aegis serve, "
            "or build it with wasi:cli/run",
            name=COMMAND, near=[],
        )  # fmt: skip
    shown = ", ".join(printable(n, 80) for n in functions[:8]) or "nothing callable"
    start, how = ("_start", "-e") if kind == "module" else (COMMAND, "--invoke")
    raise ExportNotFound(
        f"the {kind} exports no {start}: name a function with {how}: it exports {shown}",
        name=start, near=similar_names(start, functions),
    )  # fmt: skip


def _callables(artifact: Module | Component) -> list[str]:
    if isinstance(artifact, Module):
        return [e.name for e in artifact.exports if e.kind == "func"]
    return artifact.callables()


def require_entry(artifact: Module | Component, function: str | None = None) -> None:
    """Raise ``ExportNotFound`` if an artifact does not export ``function``, or without one is not a program.

    This needs no compiled code. It may accept a component whose binary does not list the functions of an exported
    interface.
    """
    if isinstance(artifact, Module):
        callable_export(artifact, entry_point(artifact) if function is None else function)
        return
    exports = artifact.program.exports
    members = {name: tuple(item) for name, item in exports.items() if isinstance(item, Mapping)}
    functions = [name for name in exports if name not in members]
    if function is not None and (function in functions or _may_have(members, function)):
        return
    for name, known in members.items():
        functions += [f"{name}#{member}" for member in known]
    if function is None:
        _entry_among(functions, artifact.kind)
        return
    from aegis.component.planning.world import no_such_function  # slow to import, and only this error needs it

    raise no_such_function(functions, function)


def _may_have(members: Mapping[str, tuple[str, ...]], function: str) -> bool:
    """Return whether an interface may have the function; ``members`` lists the known functions of each interface."""
    from aegis.wit.match import unversioned  # slow to import, and only components need it

    owner, mark, name = function.rpartition("#")
    meant = [known for full, known in members.items() if not mark or owner in (full, unversioned(full))]
    return any(known is None or name in known for known in meant)
