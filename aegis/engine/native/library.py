"""The native library of the ``wasmtime`` wheel, bound symbol by symbol on first use.

Importing the wheel's Python package takes three times as long as loading its library (performance.md, section 6).
Aegis therefore never imports it: it locates the library next to the package and opens it with :mod:`ctypes`. Three
rules keep calls fast and correct:

* On hot paths, arguments are created once by :func:`pointer`, :func:`pointer_into` and :func:`number`, and the
  functions declare no argument types; ctypes then copies the prepared argument and allocates nothing.
* No code passes the address of a buffer that Python allocated as an integer: when the buffer is freed, the engine would
  call or write into the bytes of another object. An argument from :func:`pointer_into` keeps the buffer alive.
* A function that may run guest code or take long releases the GIL (``ctypes.CDLL``); only short accessors hold it
  (``ctypes.PyDLL``).
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_char, c_char_p, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache

from aegis.errors import AegisError, AegisInternalError
from aegis.support.lean import Any

__all__ = [
    "MAJOR",
    "EngineUnavailable",
    "built_version",
    "lib",
    "library_version",
    "number",
    "peek",
    "pointer",
    "pointer_into",
    "take_bytes",
    "take_error",
    "view",
    "windows",
]

MAJOR = 50
"""The tested major version of the engine (D3)."""


class EngineUnavailable(AegisError):
    """The engine is not installed, has no build for this system, or has an untested major version."""

    blame = "embedder"


class ByteVec(ctypes.Structure):
    """``wasm_byte_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))


# Result type and argument types of each function. Argument types of None: all arguments are prepared objects.
_P = c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any] | None]] = {
    "wasm_config_new": (_P, []),
    "wasm_config_delete": (None, [_P]),
    "wasm_engine_new_with_config": (_P, [_P]),
    "wasmtime_engine_increment_epoch": (None, [_P]),
    "wasmtime_config_max_wasm_stack_set": (None, [_P, c_size_t]),
    "wasmtime_config_memory_reservation_set": (None, [_P, c_uint64]),
    "wasmtime_config_memory_guard_size_set": (None, [_P, c_uint64]),
    "wasmtime_config_memory_init_cow_set": (None, [_P, ctypes.c_bool]),
    "wasmtime_config_host_memory_creator_set": (None, [_P, _P]),
    "wasmtime_config_strategy_set": (None, [_P, c_uint8]),
    "wasmtime_config_cranelift_opt_level_set": (None, [_P, c_uint8]),
    "wasmtime_config_cranelift_regalloc_algorithm_set": (None, [_P, c_uint8]),
    "wasmtime_pooling_allocation_config_new": (_P, []),
    "wasmtime_pooling_allocation_config_delete": (None, [_P]),
    "wasmtime_pooling_allocation_strategy_set": (None, [_P, _P]),
    "wasmtime_module_new": (_P, [_P, c_char_p, c_size_t, _P]),
    "wasmtime_module_validate": (_P, [_P, c_char_p, c_size_t]),
    "wasmtime_module_deserialize": (_P, [_P, c_char_p, c_size_t, _P]),
    "wasmtime_module_deserialize_file": (_P, [_P, c_char_p, _P]),
    "wasmtime_module_serialize": (_P, [_P, _P]),
    "wasmtime_module_delete": (None, [_P]),
    "wasmtime_component_new": (_P, [_P, c_char_p, c_size_t, _P]),
    "wasmtime_component_delete": (None, [_P]),
    "wasmtime_component_type": (_P, [_P]),
    "wasmtime_component_type_delete": (None, [_P]),
    "wasmtime_component_resource_type_delete": (None, [_P]),
    "wasmtime_wat2wasm": (_P, [c_char_p, c_size_t, _P]),
    "wasm_byte_vec_delete": (None, [_P]),
    "wasmtime_store_new": (_P, None),
    "wasmtime_store_context": (_P, None),
    "wasmtime_store_delete": (None, None),
    "wasmtime_store_limiter": (None, None),
    "wasmtime_store_epoch_deadline_callback": (None, None),
    "wasmtime_context_set_epoch_deadline": (None, None),
    "wasmtime_context_set_fuel": (None, None),
    "wasmtime_context_get_fuel": (_P, None),
    "wasmtime_instance_new": (_P, None),
    "wasmtime_instance_export_get": (c_uint8, None),
    "wasmtime_caller_export_get": (c_uint8, [_P, c_char_p, c_size_t, _P]),
    "wasmtime_func_new_unchecked": (None, None),
    "wasmtime_func_call_unchecked": (_P, None),
    "wasmtime_memorytype_new": (
        _P,
        [c_uint64, ctypes.c_bool, c_uint64, ctypes.c_bool, ctypes.c_bool, c_uint8, _P],
    ),
    "wasmtime_memory_new": (_P, None),
    "wasmtime_memory_data": (_P, None),
    "wasmtime_memory_data_size": (c_size_t, None),
    "wasmtime_table_size": (c_uint64, [_P, _P]),
    "wasmtime_global_get": (None, [_P, _P, _P]),
    "wasmtime_global_set": (_P, [_P, _P, _P]),
    "wasm_valtype_new": (_P, [c_uint8]),
    "wasm_functype_new": (_P, [_P, _P]),
    "wasm_functype_delete": (None, [_P]),
    "wasm_valtype_vec_new": (None, [_P, c_size_t, _P]),
    "wasmtime_trap_new": (_P, None),
    "wasmtime_trap_code": (c_uint8, [_P, _P]),
    "wasm_trap_message": (None, [_P, _P]),
    "wasm_trap_trace": (None, [_P, _P]),
    "wasmtime_error_wasm_trace": (None, [_P, _P]),
    "wasm_trap_delete": (None, [_P]),
    "wasm_frame_vec_delete": (None, [_P]),
    "wasm_frame_func_index": (c_uint32, [_P]),
    "wasm_frame_module_offset": (c_size_t, [_P]),
    "wasmtime_frame_func_name": (_P, [_P]),
    "wasmtime_frame_module_name": (_P, [_P]),
    "wasmtime_error_new": (_P, None),
    "wasmtime_error_message": (None, [_P, _P]),
    "wasmtime_error_delete": (None, [_P]),
}
_HOLDS_LOCK = frozenset(
    {
        "wasmtime_context_set_fuel",
        "wasmtime_context_get_fuel",
        "wasmtime_context_set_epoch_deadline",
        "wasmtime_engine_increment_epoch",
        "wasmtime_memory_data",
        "wasmtime_memory_data_size",
        "wasmtime_store_context",
        "wasmtime_store_limiter",
        "wasmtime_store_new",
        "wasmtime_store_epoch_deadline_callback",
        "wasmtime_func_new_unchecked",
        "wasmtime_instance_export_get",
        "wasmtime_trap_new",
        "wasmtime_error_new",
    }
)


def _package_folder() -> str:
    # Equivalent to importlib.util.find_spec, whose import would take as long as this search.
    specs = (finder.find_spec("wasmtime", None) for finder in sys.meta_path)
    spec = next(filter(None, specs), None)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise EngineUnavailable("the engine is not installed: pip install 'wasmtime>=50,<51'")
    return places[0]


def _architecture() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    from platform import machine

    return machine()


def _library_path(folder: str) -> str:
    names = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib", "win32": "_wasmtime.dll"}
    machine = {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}.get(_architecture(), _architecture())
    path = os.path.join(folder, f"{sys.platform}-{machine}", names.get(sys.platform, "_libwasmtime.so"))
    if not os.path.exists(path):
        raise EngineUnavailable(f"the engine has no build for {sys.platform} on {machine}: use 64-bit x86 or ARM")
    return path


def library_version() -> str:
    """Return the version of the installed Python package, such as ``50.0.1``, without importing it."""
    parent = os.path.dirname(_package_folder())
    for name in os.listdir(parent):
        if name.startswith("wasmtime-") and name.endswith(".dist-info"):
            return name[len("wasmtime-") : -len(".dist-info")]
    return "unknown"


@cache
def built_version() -> str | None:
    """Return the version of the native library, or ``None`` if it cannot be determined.

    The Python package is versioned separately: wasmtime-py 50.0.1 contains wasmtime 50.0.0. The C API has no version
    function, so the version is read from the text of the library's bug-report message.
    """
    import mmap
    import re

    with (
        open(_library_path(_package_folder()), "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image,
    ):
        end = image.find(_BUG_MESSAGE)
        before = image[max(0, end - _VERSION_BYTES) : max(0, end)]
    found = re.search(rb"version: (\d+\.\d+\.\d+)\Z", before)
    version = found[1].decode() if found else None
    return version if version is not None and version.startswith(f"{MAJOR}.") else None


_VERSION_BYTES = 32
_BUG_MESSAGE = b"\n\nThis is a bug in Wasmtime"


class Library:
    """The engine's C functions as attributes, each bound on first access."""

    def __init__(self) -> None:
        self.path = ""
        self.version = ""

    def open(self) -> None:
        """Open the library; raise :class:`EngineUnavailable` if it is missing or has another major version."""
        folder = _package_folder()
        version = library_version()
        if version.split(".")[0] != str(MAJOR):
            raise EngineUnavailable(
                f"the engine is wasmtime {version}; Aegis needs {MAJOR}: pip install 'wasmtime>=50,<51'"
            )
        self.path = _library_path(folder)
        self.version = version
        self._releasing = ctypes.CDLL(self.path)
        self._holding = ctypes.PyDLL(self.path)

    def loaded(self) -> ctypes.CDLL:
        """Return the opened library."""
        library: ctypes.CDLL = self._releasing
        return library

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            if name in ("_releasing", "_holding"):
                self.open()
                return self.__dict__[name]
            raise AttributeError(name)
        library = self._holding if name in _HOLDS_LOCK else self._releasing
        function = getattr(library, name)
        function.restype, function.argtypes = _SIGNATURES.get(name, (None, None))
        setattr(self, name, function)
        return function


lib = Library()


def take_bytes(vector: ByteVec) -> bytes:
    """Copy a byte vector that the engine filled, and free it."""
    try:
        return ctypes.string_at(vector.data, vector.size) if vector.size else b""
    finally:
        lib.wasm_byte_vec_delete(ctypes.byref(vector))


def take_error(error: int) -> str:
    """Return the message of an engine error and free the error. The guest may control parts of the message."""
    vector = ByteVec()
    lib.wasmtime_error_message(error, ctypes.byref(vector))
    lib.wasmtime_error_delete(error)
    return take_bytes(vector).decode("utf-8", "replace")


def _copier() -> Any:
    function = ctypes.pythonapi.PyBytes_FromStringAndSize
    function.restype, function.argtypes = ctypes.py_object, (c_void_p, ctypes.c_ssize_t)
    return function


_copy = _copier()
_MAX_WINDOW_BYTES = 1024
"""Size up to which reading through a window is faster than ``PyBytes_FromStringAndSize``."""
_MAX_CACHED_TYPES = 4096


class _Windows(dict[int, Any]):
    """Maps a size to ``from_address`` of a ctypes array of that size: a view costs a third of a copy."""

    def __missing__(self, size: int) -> Any:
        made = (c_char * size).from_address
        if len(self) < _MAX_CACHED_TYPES:  # guests choose the sizes
            self[size] = made
        return made


windows = _Windows()


def peek(address: int, size: int) -> bytes:
    """Return a copy of native memory; the caller guarantees that ``size`` bytes at ``address`` are readable."""
    if size <= _MAX_WINDOW_BYTES:
        return windows[size](address).raw  # type: ignore[no-any-return]
    return _copy(address, size)  # type: ignore[no-any-return]


def pointer(address: int) -> Any:
    """Return the ``address`` of an object of the engine as a prepared argument; the caller keeps the object alive."""
    return c_void_p.from_param(address)


def pointer_into(buffer: ctypes.Array[Any], offset: int = 0) -> Any:
    """Return the address of ``buffer`` plus ``offset`` bytes as a prepared argument, which keeps the buffer alive."""
    return ctypes.byref(buffer, offset)


def number(value: int) -> Any:
    """Return a 64-bit integer as a prepared argument; negative values pass as two's complement."""
    return c_uint64.from_param(value & 0xFFFF_FFFF_FFFF_FFFF)


def view(address: int, size: int) -> memoryview:
    """Return a writable view of ``size`` bytes of native memory at ``address``.

    The view does not own the memory: the caller must not use it after the memory is freed or moved.
    """
    if not address and size:
        raise AegisInternalError("the engine returned a null pointer")
    return memoryview(windows[size](address)).cast("B")
