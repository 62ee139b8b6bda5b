"""Several threads instantiate and call sandboxes of one plan concurrently; the plan's shared state stays intact.

Each test lets another thread act at the worst moment: while the first one is in the middle of an insertion.
"""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis
from aegis.component import link

TWO_CALLEES = """(component
  (component $c
    (core module $m (memory (export "memory") 1)
      (func (export "f") (param i64) (result i64) (local.get 0)) (func (export "g") (result i32) (i32.const 5)))
    (core instance $m (instantiate $m))
    (func (export "f") (param "x" u64) (result u64)
      (canon lift (core func $m "f") (memory (core memory $m "memory"))))
    (func (export "g") (result u32) (canon lift (core func $m "g"))))
  (instance $c (instantiate $c))
  (core func $f (canon lower (func $c "f")))
  (core func $g (canon lower (func $c "g")))
  (core module $m (import "" "f" (func $f (param i64) (result i64))) (import "" "g" (func $g (result i32)))
    (func (export "f") (param i64) (result i64) (local.get 0) (call $f))
    (func (export "g") (result i32) (call $g)))
  (core instance $m (instantiate $m (with "" (instance (export "f" (func $f)) (export "g" (func $g))))))
  (func (export "f") (param "x" u64) (result u64) (canon lift (core func $m "f")))
  (func (export "g") (result u32) (canon lift (core func $m "g"))))"""


class Interrupted(list[Any]):
    """A list that lets another thread append while it appends."""

    def __init__(self, items: list[Any], meanwhile: Any) -> None:
        super().__init__(items)
        self.meanwhile = meanwhile

    def append(self, item: Any) -> None:
        super().append(item)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


@pytest.fixture
def sandbox() -> Any:
    runtime = Aegis(cache=False, pooled=False)
    with runtime.sandbox(runtime.load_wat(TWO_CALLEES)) as made:
        yield made


def test_a_signature_that_two_threads_make_is_one_and_is_kept(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = sandbox._run.store.plan
    plan._native_types.clear()
    meanwhile: list[Any] = []

    def interrupted(signature: Any) -> Any:
        monkeypatch.undo()
        meanwhile.append(plan.native_type(0))
        return link.NativeType(signature)

    monkeypatch.setattr(link, "NativeType", interrupted)
    first = plan.native_type(0)
    (held,) = plan._native_types.values()
    assert first is meanwhile[0] is held.pointer


@pytest.mark.parametrize(("first", "second"), [("f", "g"), ("g", "f")])
def test_a_trampoline_calls_its_function_whatever_is_made_meanwhile(sandbox: Any, first: str, second: str) -> None:
    plan = sandbox._run.store.plan
    plan.callees = Interrupted(plan.callees, lambda: plan._body(0 if second == "f" else 1))
    assert (sandbox.call(first, *([1 << 40] if first == "f" else []))) == (1 << 40 if first == "f" else 5)


def test_a_context_is_the_requested_one_whatever_is_created_meanwhile(sandbox: Any) -> None:
    plan = sandbox._run.store.plan
    options = link.Options()
    others = [options._replace(encoding=encoding) for encoding in ("utf16", "latin1+utf16")]
    plan.contexts = Interrupted(plan.contexts, lambda: plan.context(0, others[1], raw=False))
    made = plan.context(0, others[0], raw=False)
    assert plan.contexts[made].options == others[0]
