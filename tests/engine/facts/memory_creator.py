"""The start of a program: wasmtime-py with a memory creator in Python. Facts run it in a separate process."""

from __future__ import annotations

import ctypes
from typing import Any

from wasmtime import Config, Engine, Instance, Module, Store
from wasmtime import _ffi as ffi

Get = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t)
Grow = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
New = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 5)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_size_t
libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
seen: list[tuple[str, int]] = []
asked = [0]
sizes: dict[int, int] = {}
refuse = False


def new(env: int, kind: int, minimum: int, maximum: int, reserved: int, guard: int, out: int) -> None:
    seen.append(("new", minimum))
    base = libc.mmap(0, reserved + guard, 0, 0x4022, -1, 0)
    libc.mprotect(base, minimum, 3)
    sizes[base] = minimum
    words = (ctypes.c_void_p * 4).from_address(out)
    words[0], words[1], words[2] = base, ctypes.cast(get_callback, ctypes.c_void_p).value, grow_pointer
    words[3] = None


def get(base: int, size: int, capacity: int) -> int:
    asked[0] += 1
    ctypes.c_size_t.from_address(size).value = sizes[base]
    ctypes.c_size_t.from_address(capacity).value = 1 << 32
    return base


def grow(base: int, size: int) -> Any:
    seen.append(("grow", size))
    if refuse:
        return ffi.dll.wasmtime_error_new(b"no")
    libc.mprotect(base, size, 3)
    sizes[base] = size
    return None


new_callback, get_callback, grow_callback = New(new), Get(get), Grow(grow)
grow_pointer = ctypes.cast(grow_callback, ctypes.c_void_p).value
ffi.dll.wasmtime_error_new.restype = ctypes.c_void_p
creator = (ctypes.c_void_p * 3)(None, ctypes.cast(new_callback, ctypes.c_void_p).value, None)


def instance(text: str, *, cow: bool) -> tuple[Store, Instance]:
    """Return an instance whose memories are created by the functions above."""
    config = Config()
    ffi.wasmtime_config_memory_init_cow_set(config.ptr(), cow)
    use = ffi.dll.wasmtime_config_host_memory_creator_set
    use.argtypes = None
    use(config.ptr(), creator)
    store = Store(Engine(config))
    return store, Instance(store, Module(store.engine, text), [])
