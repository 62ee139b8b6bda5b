"""The core types of canonical built-ins (Explainer.md, "Canonical Built-ins"), and of functions under their options.

A trampoline is created with the type that this module returns, and :mod:`.signatures` compares it with the types of the
functions that the component's options refer to.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, core_type, flat
from aegis.component.planning.program import CanonLift, CanonLower, ResourceFunction, Trampoline
from aegis.errors import ArtifactError
from aegis.values import FuncType

__all__ = ["BUILTINS", "CALLBACK", "lifted_type", "trampoline_type"]

CALLBACK = FuncType(("i32", "i32", "i32"), ("i32",))
"""The type of the core function in the option ``callback``: event code and two payloads; a packed callback code."""
_NOTHING, _INDEX = FuncType((), ()), FuncType(("i32",), ())
_RESULT, _UNARY, _BINARY = FuncType((), ("i32",)), FuncType(("i32",), ("i32",)), FuncType(("i32", "i32"), ("i32",))
_PAIR = FuncType((), ("i64",))
_ENDS = {
    "new": _PAIR, "cancel-read": _UNARY, "cancel-write": _UNARY, "drop-readable": _INDEX, "drop-writable": _INDEX,
}  # fmt: skip
_RESOURCES = {"new": _UNARY, "drop": _INDEX, "rep": _UNARY}
BUILTINS = {
    "task.cancel": _NOTHING, "subtask.cancel": _UNARY, "subtask.drop": _INDEX, "context.get": _RESULT,
    "context.set": _INDEX, "thread.yield": _RESULT, "waitable-set.new": _RESULT, "waitable-set.wait": _BINARY,
    "waitable-set.poll": _BINARY, "waitable-set.drop": _INDEX, "waitable.join": FuncType(("i32", "i32"), ()),
    "backpressure.inc": _NOTHING, "backpressure.dec": _NOTHING,
    **{f"{kind}.{operation}": of for kind in ("stream", "future") for operation, of in _ENDS.items()},
    "stream.read": FuncType(("i32", "i32", "i32"), ("i32",)), "stream.write": FuncType(("i32", "i32", "i32"), ("i32",)),
    "future.read": _BINARY, "future.write": _BINARY,
}  # fmt: skip
"""The built-ins of asynchronous components that Aegis provides, except ``task.return``, whose type varies."""


def trampoline_type(of: Trampoline) -> FuncType:
    """Return the core type of a function that the host provides."""
    if isinstance(of, CanonLower):
        return core_type(of.function.type, lowered=True, is_async=of.options.is_async)
    if isinstance(of, ResourceFunction):
        return _named(_RESOURCES, of.operation)
    if of.name != "task.return":
        return _named(BUILTINS, of.name)
    params = () if of.type is None else flat(of.type)
    return FuncType(("i32",) if len(params) > MAX_FLAT_PARAMS else params, ())


def _named(types: Mapping[str, FuncType], name: str) -> FuncType:
    found = types.get(name)
    if found is None:
        raise ArtifactError("not a valid WebAssembly component: it has an unknown canonical built-in")
    return found


def lifted_type(of: CanonLift) -> FuncType:
    """Return the core type of the function that ``canon lift`` refers to."""
    options = of.options
    return core_type(of.type, lowered=False, is_async=options.is_async, callback=options.callback is not None)
