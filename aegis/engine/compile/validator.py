"""Validates component skeletons and reads their types, on an engine that never runs code.

The engine's C API cannot validate a component without compiling it (F41). Compiling a skeleton
(:mod:`aegis.component.planning.skeleton`) checks every component-level rule and takes milliseconds: the functions have
no bodies, so the compiler generates only the adapters between components. This engine optimises for compile time and
compiles on the calling thread. It accepts async features, so that Aegis can reject them by name; otherwise it is
configured like the engines that run guests.

The engine resolves all instantiations of the component and generates code for each function that passes between two
components. The caller must have bounded both (:mod:`aegis.component.planning.plan`).
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
"""``WASMTIME_OPT_LEVEL_NONE`` and ``WASMTIME_REGALLOC_SINGLE_PASS``, which halve the compile time."""
_OFFSET = re.compile(r"\s*\(at offset 0x[0-9a-f]+\)")

_engines: dict[tuple[int, tuple[str, ...]], int] = {}
"""The engines of each process, by process id and optional proposals. A forked child needs its own: a thread of the
parent may have held a lock inside the inherited engine."""


def validate_skeleton(skeleton: bytes, proposals: tuple[str, ...] = ()) -> World:
    """Validate a component by its ``skeleton``, with these optional proposals enabled, and return its world.

    Raise ``ArtifactError`` if it is invalid, or imports anything Aegis cannot provide.
    """
    engine = _engine(proposals)
    out = c_void_p()
    error = lib.wasmtime_component_new(engine, skeleton, len(skeleton), ctypes.byref(out))
    if error is not None:
        # The offsets refer to the skeleton, not to the file that the user knows.
        message = _OFFSET.sub("", take_error(error))
        raise ArtifactError(f"not a component that Aegis admits: {first_line(message)}")
    code = NativeCode(engine, out.value or 0, "component")
    return reflect(code.pointer, code.engine)


def _engine(proposals: tuple[str, ...] = ()) -> int:
    key = os.getpid(), proposals
    found = _engines.get(key)
    if found is None:
        found = _engines.setdefault(key, _make(proposals))  # if two threads race, the second engine stays unused
    return found


def _make(proposals: tuple[str, ...] = ()) -> int:
    native = lib.wasm_config_new()
    switch_proposals(native, proposals, component_async=True)
    switch(native, "parallel_compilation", False)
    lib.wasmtime_config_cranelift_opt_level_set(native, _NO_OPTIMISATION)
    lib.wasmtime_config_cranelift_regalloc_algorithm_set(native, _SINGLE_PASS)
    return make_engine(native)
