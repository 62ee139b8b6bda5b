"""Validates the skeletons of components, and reads their types, on an engine that never runs anything.

The engine has no call that validates a component alone (F41). Compiling a skeleton
(:mod:`aegis.component.planning.skeleton`) checks every rule of the component level, and takes milliseconds: its
functions have no code, so all that the compiler makes is the passage between components. This engine therefore
compiles for speed of compiling, on the calling thread. It admits asynchronous features, for Aegis rejects these by
name; all else is as in the engines that run guests.

The engine resolves all instantiation of a component, and makes code for each function that crosses between two. The
caller bounds both before (:mod:`aegis.component.planning.plan`).
"""

from __future__ import annotations

import ctypes
import os
import re
from ctypes import c_void_p

from aegis.engine.compile.code import NativeCode, first_line
from aegis.engine.compile.config import make_engine, switch, switch_proposals
from aegis.engine.compile.reflect import World, reflect
from aegis.engine.native.library import lib, take_error
from aegis.errors import ArtifactError

__all__ = ["World", "validate_skeleton"]

_NO_OPTIMISATION = 0
_SINGLE_PASS = 1
"""``WASMTIME_OPT_LEVEL_NONE`` and ``WASMTIME_REGALLOC_SINGLE_PASS``: together they halve the time."""
_OFFSET = re.compile(r"\s*\(at offset 0x[0-9a-f]+\)")

_engines: dict[int, int] = {}
"""The engine of a process by its number: a forked child may have lost a thread that held a lock of its parent's."""


def validate_skeleton(skeleton: bytes) -> World:
    """Return the world of a component, of which ``skeleton`` has everything but code.

    Raise ``ArtifactError`` if it is not valid, or if no host can link it.
    """
    engine = _engine()
    out = c_void_p()
    error = lib.wasmtime_component_new(engine, skeleton, len(skeleton), ctypes.byref(out))
    if error is not None:
        # Offsets are those of the skeleton, which nobody has seen.
        message = _OFFSET.sub("", take_error(error))
        raise ArtifactError(f"not a component that Aegis admits: {first_line(message)}")
    code = NativeCode(engine, out.value or 0, "component")
    return reflect(code.pointer, code.engine)


def _engine() -> int:
    process = os.getpid()
    found = _engines.get(process)
    if found is None:
        found = _engines.setdefault(process, _make())  # two threads may make one each; the second lives unused
    return found


def _make() -> int:
    native = lib.wasm_config_new()
    switch_proposals(native, component_async=True)
    switch(native, "parallel_compilation", False)
    lib.wasmtime_config_cranelift_opt_level_set(native, _NO_OPTIMISATION)
    lib.wasmtime_config_cranelift_regalloc_algorithm_set(native, _SINGLE_PASS)
    return make_engine(native)
