"""Calls over columns: an exported function is called once for each row of the caller's buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aegis.engine.store.plan import callable_export
from aegis.errors import CallError
from aegis.support.buffers import SCALARS, ColumnBatch, Scalar
from aegis.text import count, printable
from aegis.values import Rows
from aegis.wit.types import Function, show

if TYPE_CHECKING:
    from aegis.sandbox.backend import Run

__all__ = ["call_many"]

_MAX_FLAT_PARAMS = 16
"""Parameters that a function of a component takes as core values (CanonicalABI.md, ``MAX_FLAT_PARAMS``)."""


def call_many(run: Run, name: Any, columns: Sequence[Any], out: Any, rows: int | None) -> Any:
    """Call the export ``name`` once for each row; see :meth:`aegis.Sandbox.call_many`."""
    run.live()
    params, result = _types(run, name)
    batch = ColumnBatch(lambda: run.signature(name)[0], params, result, columns, out, rows)
    try:
        run.call(Rows(name), batch)
        return batch.out
    except BaseException as error:
        batch.locate(error)
        raise
    finally:
        batch.close()


def _types(run: Run, name: Any) -> tuple[list[tuple[str, Scalar]], Scalar | None]:
    """Return the names and types of the parameters, and the type of the result.

    Raise ``CallError`` for a function that cannot be called over columns.
    """
    component = run.component
    if component is not None:
        return _component_types(run, name, component.function(name))
    signature = callable_export(run.loaded(), name)
    results = [SCALARS[of] for of in signature.results]
    if len(results) > 1:
        raise _call_error(run, name, f"has {count(len(results), 'result')}, but a call over columns allows one")
    return [("", SCALARS[of]) for of in signature.params], results[0] if results else None


def _component_types(run: Run, name: Any, of: Function) -> tuple[list[tuple[str, Scalar]], Scalar | None]:
    """Return the same as :func:`_types` for a function of a component."""
    if len(of.params) > _MAX_FLAT_PARAMS:
        text = f"has {count(len(of.params), 'parameter')}, but a call over columns allows {_MAX_FLAT_PARAMS}"
        raise _call_error(run, name, text)
    for label, kind in (*((f"its parameter {given!r}", t) for given, t in of.params), ("its result", of.result)):
        if kind is not None and not (isinstance(kind, str) and kind in SCALARS):
            shown = f"{printable(label, 80)} has the type {printable(show(kind), 80)}"
            raise _call_error(run, name, f"{shown}, but a call over columns allows numbers, bool and char")
    params = [(printable(given, 60), SCALARS[str(t)]) for given, t in of.params]
    return params, None if of.result is None else SCALARS[str(of.result)]


def _call_error(run: Run, name: Any, why: str) -> CallError:
    """Return the error for a function that cannot be called over columns."""
    return CallError(f"{run.signature(name)[0]}: {why}: call it row by row")
