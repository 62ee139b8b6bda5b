"""Prepared arguments of native functions, which the engine reads after the code that made them has ended."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import pytest

from aegis import Aegis
from aegis.engine.native.library import pointer_into
from aegis.engine.store.workspace import Workspace


@pytest.mark.parametrize("offset", [0, 8])
def test_an_argument_keeps_its_buffer_alive_and_points_into_it(offset: int) -> None:
    buffer: Any = (ctypes.c_char * 16)(*b"0123456789abcdef")
    alive, argument = weakref.ref(buffer), pointer_into(buffer, offset)
    del buffer
    copy: Any = (ctypes.c_char * 8)()
    ctypes.memmove(copy, argument, 8)
    assert copy.raw == b"0123456789abcdef"[offset : offset + 8]
    assert alive() is not None
    del argument
    assert alive() is None


def test_a_store_and_its_functions_need_no_owner_for_their_buffers() -> None:
    """Oracle: an argument refers to the buffer that it points into. A closure captures arguments, not their owners."""
    space = Workspace()
    pointers = [space.instance, space.trap_pointer, space.extern, space.item]
    assert all(pointer._obj is space.buffer for pointer in pointers)
    with (
        Aegis(cache=False, pooled=False) as runtime,
        runtime.sandbox(
            runtime.load_wat('(module (import "" "h" (func $h)) (func (export "f") (call $h)))'),
            imports={"": {"h": lambda: None}},
        ) as sandbox,
    ):
        entry = sandbox._run.store.plan.entry("f")  # type: ignore[union-attr]
        frame = entry.take_frame()
        assert all(pointer._obj is frame.buffer for pointer in (frame.extern, frame.func, frame.args))
        imports = sandbox._run.store._imports.take_space()  # type: ignore[union-attr]
        assert all(pointer._obj is imports._array for pointer in (imports.at, *imports.targets))
