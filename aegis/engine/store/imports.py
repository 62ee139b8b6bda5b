"""The host functions of a module's stores: what making them needs, worked out once for all stores.

A store gets one native function for each import. All of them carry the store's number, and each that of its import
(:data:`~aegis.engine.call.trampoline.IMPORT_BITS`), so that what a function does is looked up when the guest calls it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_void_p

from aegis.engine.call.trampoline import IMPORT_BITS, host_callback
from aegis.engine.native.library import lib, number, pointer
from aegis.support.lean import Any
from aegis.values import FuncType, ImportName
from aegis.wasm.binary import ModuleInfo

__all__ = ["ImportSpace", "Imports", "NativeType"]

_EXTERN = 32
_SPACES_KEPT = 16
_VALUE_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}


class NativeType:
    """The engine's image of a signature; freed with the last plan that refers to it."""

    __slots__ = ("pointer",)

    def __init__(self, signature: FuncType) -> None:
        vectors = []
        for types in (signature.params, signature.results):
            pointers = (c_void_p * max(len(types), 1))(*(lib.wasm_valtype_new(_VALUE_KINDS[t]) for t in types))
            vectors.append(_new_vector(len(types), pointers))
        self.pointer = pointer(lib.wasm_functype_new(*(ctypes.byref(v) for v in vectors)))

    def __del__(self, library: Any = lib) -> None:  # at exit the module may be gone
        library.wasm_functype_delete(self.pointer)


def _new_vector(count: int, pointers: Any) -> Any:
    """The engine takes the vector's memory over, so it has to come from the engine's allocator."""
    from aegis.engine.native.library import ByteVec

    vector = ByteVec()
    lib.wasm_valtype_vec_new(ctypes.byref(vector), count, pointers)
    return vector


class ImportSpace:
    """Native space for the imports of one store while it is instantiated, which copies them."""

    __slots__ = ("_array", "at", "numbers", "store", "targets")

    def __init__(self, imports: Imports) -> None:
        count = len(imports.names)
        self._array = (ctypes.c_char * (_EXTERN * count))()  # zero is the kind of functions
        base = ctypes.addressof(self._array)
        self.at = pointer(base)
        self.targets = [pointer(base + n * _EXTERN + 8) for n in range(count)]
        """Where each function goes."""
        self.give_numbers(0)

    def give_numbers(self, store: int) -> None:
        """Make the numbers that the engine passes on to the callbacks of the store with this number."""
        base = store << IMPORT_BITS
        self.numbers = [number(base + n) for n in range(len(self.targets))]
        self.store = store


class Imports:
    """The imports of one module, all of them functions: their native types, callbacks and names.

    Its stores keep it, for the engine calls the callbacks as long as they live.
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
        """Of each import, in the module's order, the type and the callback as the engine takes them."""
        for wanted in info.imports:
            signature = wanted.type
            assert isinstance(signature, FuncType)  # linking refused all others
            callback = host_callback(signature, observed=observed, starting=info.has_start)
            self._kept.append(callback)
            if signature not in self._types:
                self._types[signature] = NativeType(signature)
            self.natives.append(self._types[signature].pointer)
            self.callbacks.append(pointer(ctypes.cast(callback, c_void_p).value or 0))

    def take_space(self) -> ImportSpace:
        """Return space for instantiating one store."""
        try:
            return self._spaces.pop()
        except IndexError:
            return ImportSpace(self)

    def give_back(self, space: ImportSpace) -> None:
        """Keep space that a store was instantiated from for the next one."""
        if len(self._spaces) < _SPACES_KEPT:
            self._spaces.append(space)
