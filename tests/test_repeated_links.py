"""Linking a component again with providers of the same class repeats no comparison of types and no inspection."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, Bound, LinkError
from aegis.sandbox import link_component
from aegis.wit.types import Function, Interface, Result, Variant
from tests.test_async import COMPONENT, Api

SHOP = Path(__file__).resolve().parent.parent / "guests" / "shop" / "shop.wat"
PROBLEM = Variant("problem", (("unknown", None), ("sold-out", "string")), python=(tuple, list))


def prices(result: Any = None) -> Interface:
    """Return a table of ``acme:shop/prices``; another ``result`` makes one that does not match the guest."""
    function = Function((("name", "string"),), result or Result("u32", PROBLEM))
    return Interface("acme:shop/prices@1.2.0", functions={"get": function}, types={"problem": PROBLEM})


class Prices:
    def get(self, name: str) -> int:
        return 1


def test_each_class_and_each_table_is_examined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    merged, signature = link_component.merged, inspect.signature
    monkeypatch.setattr(link_component, "merged", lambda *types: seen.append("types") or merged(*types))
    monkeypatch.setattr(inspect, "signature", lambda called: seen.append("signature") or signature(called))
    runtime, table = Aegis(cache=False, pooled=False), prices()
    guest = runtime.load_file(SHOP)
    for n in range(4):
        if n == 2:
            seen.clear()
        with runtime.sandbox(guest, imports={"acme:shop/prices": Bound(table, Prices())}) as sandbox:
            assert sandbox.state == "ready"
    assert seen == []


def test_a_table_that_does_not_match_is_refused_each_time_and_beside_one_that_does() -> None:
    runtime = Aegis(cache=False, pooled=False)
    guest, good, bad = runtime.load_file(SHOP), prices(), prices("string")
    for _ in range(3):
        with runtime.sandbox(guest, imports={"acme:shop/prices": Bound(good, Prices())}):
            pass
        with pytest.raises(LinkError, match="differs from the function"):
            runtime.sandbox(guest, imports={"acme:shop/prices": Bound(bad, Prices())})


def test_a_method_that_takes_too_few_is_refused_each_time() -> None:
    class Short(Api):
        async def may(self) -> int:  # type: ignore[override]
            return 1

    runtime = Aegis(cache=False, pooled=False)
    guest = runtime.load_wat(COMPONENT)
    for _ in range(3):
        with pytest.raises(LinkError, match=r"may: the component passes 1 value"):
            runtime.sandbox(guest, imports={"test:api/api": Short(lambda x: x)})
        with runtime.sandbox(guest, imports={"test:api/api": Api(lambda x: x)}):
            pass
