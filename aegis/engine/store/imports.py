"""Native host functions: the data for creating them, computed once for all stores of a module.

A store gets one native function for each import. The number that the engine passes to its callback combines the
store's slot with the import's index (:data:`~aegis.engine.call.trampoline.IMPORT_BITS`). The trampoline uses it to look
up the Python function when the guest makes the call.
"""

from __future__ import annotations

import ctypes
from ctypes import c_void_p

from aegis.engine.call.trampoline import IMPORT_BITS, host_callback
from aegis.engine.native.library import lib, number, pointer, pointer_into
from aegis.support.lean import Any
from aegis.values import FuncType, ImportName
from aegis.wasm.binary import ModuleInfo

__all__ = ["ImportSpace", "Imports", "NativeType"]

_EXTERN = 32
"""Bytes of ``wasmtime_extern_t``."""
_SPACES_KEPT = 16
_VALUE_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}


class NativeType:
    """The engine's type of a function (``wasm_functype_t``); deleted with the last plan that refers to it."""

    __slots__ = ("pointer",)

    def __init__(self, signature: FuncType) -> None:
        vectors = []
        for types in (signature.params, signature.results):
            pointers = (c_void_p * max(len(types), 1))(*(lib.wasm_valtype_new(_VALUE_KINDS[t]) for t in types))
            vectors.append(_new_vector(len(types), pointers))
        self.pointer = pointer(lib.wasm_functype_new(*(ctypes.byref(v) for v in vectors)))

    def __del__(self, library: Any = lib) -> None:  # a default, because at exit the global may be gone
        library.wasm_functype_delete(self.pointer)


def _new_vector(count: int, pointers: Any) -> Any:
    """Return a vector of types from the engine's allocator: ``wasm_functype_new`` takes ownership of its memory."""
    from aegis.engine.native.library import ByteVec

    vector = ByteVec()
    lib.wasm_valtype_vec_new(ctypes.byref(vector), count, pointers)
    return vector


class ImportSpace:
    """The native array of imports that one store is instantiated with; instantiation copies it, so it is reused."""

    __slots__ = ("_array", "at", "numbers", "store", "targets")

    def __init__(self, imports: Imports) -> None:
        count = len(imports.names)
        self._array = (ctypes.c_char * (_EXTERN * count))()  # kind 0 is a function
        self.at = pointer_into(self._array)
        self.targets = [pointer_into(self._array, n * _EXTERN + 8) for n in range(count)]
        """The address to which the engine writes each function."""
        self.give_numbers(0)

    def give_numbers(self, store: int) -> None:
        """Compute the numbers that the engine passes to the callbacks of the store in this slot."""
        base = store << IMPORT_BITS
        self.numbers = [number(base + n) for n in range(len(self.targets))]
        self.store = store


class Imports:
    """The imports of one module, which are all functions: their native types, callbacks and names.

    Each store keeps a reference, because the engine may call the callbacks until the store is deleted.
    """

    __slots__ = ("_kept", "_spaces", "_types", "callbacks", "count", "names", "natives")

    def __init__(self, info: ModuleInfo, *, observed: bool) -> None:
        self.names = tuple(ImportName(wanted.module, wanted.name) for wanted in info.imports)
        self.count = number(len(self.names))
        self._types: dict[FuncType, NativeType] = {}
        self._kept: list[Any] = []
        self._spaces: list[ImportSpace] = []
        self.natives: list[Any] = []
        self.callbacks: list[Any] = []
        """With ``natives``: the callback and the native type of each import, in the module's order."""
        for wanted in info.imports:
            signature = wanted.type
            assert isinstance(signature, FuncType)  # linking rejects all other imports
            callback = host_callback(signature, observed=observed, starting=info.has_start)
            self._kept.append(callback)
            if signature not in self._types:
                self._types[signature] = NativeType(signature)
            self.natives.append(self._types[signature].pointer)
            self.callbacks.append(pointer(ctypes.cast(callback, c_void_p).value or 0))

    def take_space(self) -> ImportSpace:
        """Return an array for instantiating one store, reusing a cached one if possible."""
        try:
            return self._spaces.pop()
        except IndexError:
            return ImportSpace(self)

    def give_back(self, space: ImportSpace) -> None:
        """Cache the array after an instantiation for the next store."""
        if len(self._spaces) < _SPACES_KEPT:
            self._spaces.append(space)
