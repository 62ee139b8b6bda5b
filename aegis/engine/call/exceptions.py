"""Exceptions of guests that no handler caught: take them out of the store, and find their tags (core 3.0, 4.4.10).

A guest's exception never reaches another guest or the host as an exception: each call from the host ends with a trap.
The exception must leave the store, or a later return into guest code could continue it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from ctypes import c_void_p

from aegis.engine.native.library import lib, take_error
from aegis.support.lean import Any

__all__ = ["has_exception", "take_exception"]

_REFERENCE_BYTES, _TAG_BYTES = 24, 24
"""``wasmtime_exnref_t``, and a bound of ``wasmtime_tag_t``."""

_PARAMETERS = {
    "wasmtime_context_has_exception": 1, "wasmtime_context_take_exception": 2, "wasmtime_exnref_tag": 3,
    "wasmtime_exnref_unroot": 1, "wasmtime_tag_eq": 3,
}  # fmt: skip


def has_exception(context: Any) -> bool:
    """Return whether an exception that no handler caught is pending in a store."""
    return bool(_function("wasmtime_context_has_exception", ctypes.c_bool)(context))


def take_exception(context: Any, tags: Iterable[str], find: Callable[[str], Any]) -> str | None:
    """Take the pending exception out of a store; return ``None`` if there is none.

    Otherwise return the first name in ``tags``, the exported tags, that is the exception's tag, or ``""``. ``find``
    returns the address of an exported tag.
    """
    reference = (ctypes.c_char * _REFERENCE_BYTES)()
    if not _function("wasmtime_context_take_exception", ctypes.c_bool)(context, reference):
        return None
    thrown = (ctypes.c_char * _TAG_BYTES)()
    error = _function("wasmtime_exnref_tag", c_void_p)(context, reference, thrown)
    try:
        if error:
            take_error(error)
            return ""
        same = _function("wasmtime_tag_eq", ctypes.c_bool)
        return next((name for name in tags if same(context, thrown, find(name))), "")
    finally:
        _function("wasmtime_exnref_unroot", None)(reference)


def _function(name: str, result: Any) -> Any:
    """Return a function of the library, all of whose parameters are pointers."""
    function = getattr(lib, name)
    function.restype, function.argtypes = result, [c_void_p] * _PARAMETERS[name]
    return function
