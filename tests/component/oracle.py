"""The engine's own component runtime, driven through wasmtime-py's classes: the oracle for tests of components.

Values are *neutral* here, a form that belongs to neither side: integers, floats, strings, ``bytes`` for ``list<u8>``,
lists, tuples, ``None`` or ``Some`` for an option, ``Ok`` or ``Err`` for a result, a dictionary for a record, a pair of
a name and a payload for a variant, a name for an enum, a ``frozenset`` of names for flags.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import component as native
from wasmtime.component import _types as types

from aegis.wit.values import Err, Ok, Some
from tests.wit.strategies import same

__all__ = ["ABI", "CODES", "HostResource", "Native", "Outcome", "Rep", "Returned", "Trapped", "agree", "start_native"]

ABI = "abi"
"""The code of a trap that core WebAssembly does not define: a violation of the canonical ABI."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The outcome of a call that returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Trapped:
    """The outcome of a call that trapped; the message is not compared."""

    code: str
    message: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trapped) and self.code == other.code

    def __hash__(self) -> int:
        return hash(self.code)


Outcome: TypeAlias = "Returned | Trapped"


def agree(actual: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Return whether two series of outcomes and values are the same: NaN equals NaN, -0.0 differs from 0.0."""
    return len(actual) == len(expected) and all(map(_alike, actual, expected))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Returned) and isinstance(b, Returned):
        return same(a.value, b.value)
    if isinstance(a, Trapped) and isinstance(b, Trapped) and {a.code, b.code} == {"abi", "memory-out-of-bounds"}:
        # Another component's realloc returned this space for arguments in memory: Aegis checks the range, whereas the
        # engine's adapter stores into it and traps there.
        return True
    return a == b if isinstance(a, Trapped) else same(a, b)


@dataclass(frozen=True, slots=True)
class HostResource:
    """A resource type defined by the host; the engine distinguishes such types by a number."""

    number: int
    dropped: Callable[[int], object] = lambda rep: None


@dataclass(frozen=True, slots=True)
class Rep:
    """A value of a host resource type: the number of the type and its own number."""

    number: int
    rep: int


_WORDS = {
    "all fuel consumed by WebAssembly": "out-of-fuel",
    "call stack exhausted": "stack-overflow",
    "cannot enter component instance": "cannot-enter-instance",
    "cannot leave component instance": "cannot-leave-instance",
    "indirect call type mismatch": "bad-signature",
    "integer divide by zero": "integer-division-by-zero",
    "integer overflow": "integer-overflow",
    "invalid conversion to integer": "bad-conversion-to-integer",
    "out of bounds memory access": "memory-out-of-bounds",
    "undefined element: out of bounds table access": "table-out-of-bounds",
    "uninitialized element": "indirect-call-to-null",
    "wasm `unreachable` instruction executed": "unreachable",
}
"""Trap codes by the engine's messages; any other trap of a component is a violation of the canonical ABI."""
CODES = frozenset(_WORDS.values())


def _trapped(error: wasmtime.WasmtimeError) -> Trapped:
    message = str(error)
    _, marked, reason = message.rpartition("wasm trap: ")
    return Trapped(_WORDS.get(reason.strip(), ABI) if marked else ABI, message)


def _engine() -> wasmtime.Engine:
    """Return an engine without component-model async, whose support makes some synchronous calls trap.

    As in Aegis, import names with ``implements`` are enabled.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable()  # after the first engine, this would replace the signal handlers that traps need
    config = wasmtime.Config()
    ffi.wasmtime_config_wasm_component_model_implements_set(config.ptr(), True)
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
    return wasmtime.Engine(config)


ENGINE = _engine()


@lru_cache(maxsize=8)
def _compiled(source: str | bytes) -> native.Component:
    return native.Component(ENGINE, source)


@contextmanager
def _tagged() -> Iterator[None]:
    """Make wasmtime-py tag each variant, option and result.

    By default it omits the tag if the payloads' Python classes differ, and then chooses the first case that accepts the
    class: ``True`` for ``variant { a(u32), b(bool) }`` would become ``a``.
    """
    kind: Any = types.VariantLikeType
    before = kind._tagged
    kind._tagged = lambda self: True
    try:
        yield
    finally:
        kind._tagged = before


class Native:
    """One instance of a component in the engine, with host functions on neutral values.

    ``imports`` maps names to functions and :class:`HostResource`, ``instance#name`` for those of an instance. With
    ``trap_missing`` a missing function traps when it is called; with ``wasi`` the engine provides its own WASI.
    """

    def __init__(
        self,
        source: str | bytes,
        imports: Mapping[str, Any] | None = None,
        *,
        trap_missing: bool = False,
        wasi: bool = False,
    ) -> None:
        self._component = _compiled(source)
        self._linker = native.Linker(ENGINE)
        self.store = wasmtime.Store(ENGINE)
        if wasi:
            self._linker.add_wasip2()
            self.store.set_wasi(wasmtime.WasiConfig())
        with self._linker.root() as root:
            self._define(root, _nested(imports or {}), self._component.type.imports(ENGINE))
        if trap_missing:
            self._linker.define_unknown_imports_as_traps(self._component)
        with _tagged():
            self._instance = self._linker.instantiate(self.store, self._component)

    def _define(
        self, into: native.LinkerInstance, items: Mapping[str, Any], wanted: Mapping[str, types.ComponentExtern]
    ) -> None:
        for name, item in items.items():
            if isinstance(item, Mapping):
                instance = wanted[name].ty
                assert isinstance(instance, types.ComponentInstanceType)
                with into.add_instance(name) as inner:
                    self._define(inner, item, instance.exports(ENGINE))
            elif isinstance(item, HostResource):
                into.add_resource(name, native.ResourceType.host(item.number), _destructor(item))
            else:
                signature = wanted[name].ty
                assert isinstance(signature, types.FuncType)
                into.add_func(name, _host_function(signature, item))

    def call(self, name: str, *arguments: Any) -> Outcome:
        """Call an export, ``instance#function`` or ``function``; the call includes its post-return."""
        function = self._function(name)
        signature = function.type(self.store)
        given = [to_native(of, value) for (_, of), value in zip(signature.params, arguments, strict=True)]
        with _tagged():
            try:
                returned = function(self.store, *given)
            except wasmtime.WasmtimeError as error:
                return _trapped(error)
        of = signature.result
        return Returned(None if of is None else from_native(self.store, of, returned))

    def params_of(self, name: str) -> list[types.ValType]:
        """Return the types of the parameters of an export."""
        return [of for _, of in self._function(name).type(self.store).params]

    def drop(self, handle: native.ResourceAny) -> Outcome:
        """Drop a handle that the host owns."""
        try:
            handle.drop(self.store)
        except wasmtime.WasmtimeError as error:
            return _trapped(error)
        return Returned(None)

    def _function(self, name: str) -> native.Func:
        index = None
        for part in name.split("#"):
            index = self._instance.get_export_index(self.store, part, index)
            if index is None:
                raise LookupError(name)
        assert index is not None
        function = self._instance.get_func(self.store, index)
        assert function is not None
        return function


def start_native(source: str | bytes, imports: Mapping[str, Any] | None = None) -> Native | Trapped:
    """Return an instance, or the trap that ended its start. Raise ``WasmtimeError`` for an invalid component."""
    _compiled(source)
    try:
        return Native(source, imports)
    except wasmtime.WasmtimeError as error:
        return _trapped(error)


def _nested(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items, with those named ``instance#function`` grouped by instance."""
    made: dict[str, Any] = {}
    for name, item in items.items():
        instance, _, inner = name.rpartition("#")
        (made.setdefault(instance, {}) if instance else made)[inner] = item
    return made


def _host_function(signature: types.FuncType, function: Callable[..., Any]) -> Callable[..., Any]:
    params = [of for _, of in signature.params]
    result = signature.result

    def called(store: Any, *arguments: Any) -> Any:
        returned = function(*(from_native(store, of, value) for of, value in zip(params, arguments, strict=True)))
        return None if result is None else to_native(result, returned)

    return called


def _destructor(item: HostResource) -> Callable[[Any, int], None]:
    def dropped(store: Any, rep: int) -> None:
        item.dropped(rep)

    return dropped


# -- values --------------------------------------------------------------------------------------------


def to_native(of: types.ValType, value: Any) -> Any:
    """Convert a neutral value to the form that wasmtime-py takes, with every variant, option and result tagged."""
    match of:
        case types.ListType():
            element = of.element
            return value if isinstance(element, types.U8) else [to_native(element, item) for item in value]
        case types.RecordType():
            made = native.Record()
            for name, field in of.fields:
                setattr(made, name, to_native(field, value[name]))
            return made
        case types.TupleType():
            return tuple(to_native(t, item) for t, item in zip(of.elements, value, strict=True))
        case types.OptionType():
            return (
                native.Variant("none") if value is None else native.Variant("some", to_native(of.payload, value.value))
            )
        case types.ResultType():
            tag, payload = ("ok", of.ok) if isinstance(value, Ok) else ("err", of.err)
            return native.Variant(tag, None if payload is None else to_native(payload, value.value))
        case types.VariantType():
            name, inner = value
            payload = dict(of.cases)[name]
            return native.Variant(name, None if payload is None else to_native(payload, inner))
        case types.FlagsType():
            return set(value)
        case types.OwnType() if isinstance(value, Rep):
            return native.ResourceHost.own(value.rep, value.number)
        case types.BorrowType() if isinstance(value, Rep):
            return native.ResourceHost.borrow(value.rep, value.number)
    return value


def from_native(store: Any, of: types.ValType, value: Any) -> Any:
    """Convert a value of type ``of`` from wasmtime-py, tagged as above, to a neutral value."""
    match of:
        case types.ListType():
            element = of.element
            return value if isinstance(element, types.U8) else [from_native(store, element, item) for item in value]
        case types.RecordType():
            return {name: from_native(store, field, getattr(value, name)) for name, field in of.fields}
        case types.TupleType():
            return tuple(from_native(store, t, item) for t, item in zip(of.elements, value, strict=True))
        case types.OptionType():
            return None if value.tag == "none" else Some(from_native(store, of.payload, value.payload))
        case types.ResultType():
            payload = of.ok if value.tag == "ok" else of.err
            inner = None if payload is None else from_native(store, payload, value.payload)
            return Ok(inner) if value.tag == "ok" else Err(inner)
        case types.VariantType():
            payload = dict(of.cases)[value.tag]
            return value.tag, None if payload is None else from_native(store, payload, value.payload)
        case types.FlagsType():
            return frozenset(value)
        case types.OwnType() | types.BorrowType():
            return _resource(store, value)
    return value


def _resource(store: Any, handle: native.ResourceAny) -> Rep | native.ResourceAny:
    """Return a host resource as its host value, which consumes the handle; return a guest resource as the handle."""
    try:
        host = handle.to_host(store)
    except wasmtime.WasmtimeError:
        return handle
    return Rep(host.type, host.rep)
