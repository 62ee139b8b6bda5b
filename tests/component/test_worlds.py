"""Random components are admitted, reflected, linked and called in Aegis as in the engine.

They are worlds of ``wasm-tools wit-smith`` with functions that trap. Oracles: the engine, for the validity of a
component and the outcome of calling each export; wasm-tools' own reading of the component, for its imports and exports.
``AEGIS_EXAMPLES=20`` tests twenty times as many worlds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from wasmtime import component as native
from wasmtime.component import _types as types

from aegis import ArtifactError, GuestTrap, Ok
from aegis.attack.smith import wit
from aegis.wit.match import merged
from aegis.wit.python_types import function_with_python_types
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
)
from aegis.wit.wasm_tools import read_wit
from tests.bindgen.test_smith import reflected
from tests.component.aegis_side import RUNTIME, trapped
from tests.component.oracle import ENGINE, Native

WORLDS = round(24 * max(1, float(os.environ.get("AEGIS_EXAMPLES") or 1)))
MAKE = wit(20_29, ())


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("number", range(WORLDS))
def test_a_random_world_is_read_as_by_wasm_tools_and_the_engine(number: int, tmp_path: Path) -> None:
    data = MAKE(number).data
    if not data:
        pytest.skip("wasm-tools made nothing")
    refusal = engine_refuses(data)
    asynchronous = refusal is not None and "component model async feature" in refusal
    if refusal is not None and not asynchronous:
        with pytest.raises(ArtifactError):
            RUNTIME.load(data)
        return
    component: Any = RUNTIME.load(data)
    path = tmp_path / "world.wasm"
    path.write_bytes(data)
    same_items(component, path)
    if not asynchronous:  # the engine's own components cannot have asynchronous functions, streams and futures
        same_ends(component, data)


def engine_refuses(data: bytes) -> str | None:
    try:
        native.Component(ENGINE, data)
    except wasmtime.WasmtimeError as error:
        return str(error)
    return None


def same_items(component: Any, path: Path) -> None:
    document = read_wit(str(path))
    (world,) = document.worlds
    for side in ("imports", "exports"):
        stated, found = reflected(document, world, side), getattr(component, side)
        stated = {name: item for name, item in stated.items() if functions_of(item) or name in found}
        assert found.keys() == stated.keys()
        for name, item in found.items():
            actual, expected = functions_of(item), functions_of(stated[name])
            assert actual.keys() == expected.keys(), name
            for function in actual:
                merged(actual[function], function_with_python_types(expected[function], {}))


def functions_of(item: Interface | Function) -> dict[str, Function]:
    return {"": item} if isinstance(item, Function) else dict(item.functions)


def same_ends(component: Any, data: bytes) -> None:
    """Call each export, whose core function traps, with the smallest value of each type."""
    with RUNTIME.sandbox(component, trap_missing=True) as sandbox:
        for name, function in callables(component):
            given = [least(t) for _, t in function.params]
            if any(value is _HANDLE for value in given):
                continue  # only the guest can create a handle
            with pytest.raises(GuestTrap) as caught:
                sandbox.call(name, *given)
            oracle = Native(data, trap_missing=True)
            arguments = [least_neutral(t) for t in oracle.params_of(name)]
            assert trapped(caught.value) == oracle.call(name, *arguments)
            sandbox.reset()


def callables(component: Any) -> Iterator[tuple[str, Function]]:
    for name, item in component.exports.items():
        if isinstance(item, Function):
            yield name, item
        else:
            for inner, function in item.functions.items():
                yield f"{name}#{inner}", function


_HANDLE = object()
"""A placeholder for a handle, which only the guest can create."""


def least(of: WitType) -> Any:
    """Return a small value as Aegis takes it without classes, or ``_HANDLE`` if the type contains a handle."""
    match of:
        case "bool":
            return False
        case "string" | "char":
            return "" if of == "string" else "a"
        case "f32" | "f64":
            return 0.0
        case str():
            return 0
        case List("u8"):
            return b""
        case List():
            return []
        case Option():
            return None
        case Enum(cases=names):
            return names[0]
        case Flags():
            return []
        case Tuple(elements):
            return _whole(tuple(map(least, elements)))
        case Record(fields=fields):
            made = {name: least(t) for name, t in fields}
            return _HANDLE if _HANDLE in made.values() else made
        case Result(ok):
            inner = None if ok is None else least(ok)
            return _HANDLE if inner is _HANDLE else Ok(inner)
        case Variant(cases=cases):
            name, payload = cases[0]
            inner = None if payload is None else least(payload)
            return _HANDLE if inner is _HANDLE else name if payload is None else (name, inner)
        case Own() | Borrow():
            return _HANDLE
    raise AssertionError(of)


def _whole(parts: tuple[Any, ...]) -> Any:
    return _HANDLE if any(part is _HANDLE for part in parts) else parts


def least_neutral(of: types.ValType) -> Any:
    """Return the same value for the oracle, which is used only if the value exists."""
    match of:
        case types.Bool():
            return False
        case types.String() | types.Char():
            return "" if isinstance(of, types.String) else "a"
        case types.F32() | types.F64():
            return 0.0
        case types.ListType():
            return b"" if isinstance(of.element, types.U8) else []
        case types.OptionType():
            return None
        case types.EnumType():
            return of.names[0]
        case types.FlagsType():
            return frozenset()
        case types.TupleType():
            return tuple(map(least_neutral, of.elements))
        case types.RecordType():
            return {name: least_neutral(t) for name, t in of.fields}
        case types.ResultType():
            return Ok(None if of.ok is None else least_neutral(of.ok))
        case types.VariantType():
            name, payload = of.cases[0]
            return name, None if payload is None else least_neutral(payload)
    return 0
