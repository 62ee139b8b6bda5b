"""Calls over columns: one call of an exported function for each row of the caller's buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aegis.buffers import SCALARS, Batch, Scalar
from aegis.engine.plan import callable_export
from aegis.errors import CallError
from aegis.names import count, printable
from aegis.values import Rows
from aegis.wit.types import WitType, show

if TYPE_CHECKING:
    from aegis.guest import ComponentGuest

    class Caller(Protocol):
        """What a call over columns asks of its sandbox."""

        _guest: ComponentGuest | None

        def _live(self) -> Any: ...
        def _loaded(self) -> Any: ...
        def _signature(self, name: Any) -> tuple[str, int]: ...
        def call(self, name: Any, *args: Any) -> Any: ...


__all__ = ["call_many"]

_MAX_FLAT_PARAMS = 16
"""Parameters that a component's function takes as core values (CanonicalABI.md, ``MAX_FLAT_PARAMS``)."""


def call_many(sandbox: Caller, name: Any, columns: Sequence[Any], out: Any, rows: int | None) -> Any:
    """Call the export ``name`` once for each row; see :meth:`aegis.Sandbox.call_many`."""
    sandbox._live()
    params, result = _types(sandbox, name)
    batch = Batch(sandbox._signature(name)[0], params, result, columns, out, rows)
    try:
        sandbox.call(Rows(name), batch)
        return batch.out
    except BaseException as error:
        batch.locate(error)
        raise
    finally:
        batch.close()


def _types(sandbox: Caller, name: Any) -> tuple[list[tuple[str, Scalar]], Scalar | None]:
    """Return the names and types of the parameters, and the type of the result; raise ``CallError`` for others."""
    guest = sandbox._guest
    if guest is None:
        signature = callable_export(sandbox._loaded(), name)
        what = f"{printable(name)}{signature}"
        if len(signature.results) > 1:
            raise CallError(
                f"{what} has {count(len(signature.results), 'result')}, and a call over columns takes one: "
                "call it row by row"
            )
        return [("", SCALARS[of]) for of in signature.params], SCALARS[
            signature.results[0]
        ] if signature.results else None
    function = guest.function(name)
    what = sandbox._signature(name)[0]
    if len(function.params) > _MAX_FLAT_PARAMS:
        raise CallError(
            f"{what} has {count(len(function.params), 'parameter')}, and a call over columns admits "
            f"{_MAX_FLAT_PARAMS}: call it row by row"
        )
    params = [(printable(given, 60), _scalar(of, what, f"parameter {given!r}")) for given, of in function.params]
    return params, None if function.result is None else _scalar(function.result, what, "the result")


def _scalar(of: WitType, what: str, where: str) -> Scalar:
    found = SCALARS.get(of) if isinstance(of, str) else None
    if found is None:
        raise CallError(
            f"{what}: {printable(where, 80)} is a {printable(show(of), 80)}, and a call over columns takes numbers, "
            "bool and char: call it row by row"
        )
    return found
